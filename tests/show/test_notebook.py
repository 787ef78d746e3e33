"""Tables show themselves in a notebook: exact, escaped, complete."""

from __future__ import annotations

from html.parser import HTMLParser

from e4profile.show.tables import Column, Table

NASTY = "<script>alert(1)</script>&\"'"
TABLE = Table(
    NASTY,
    (Column("name", "<b>name</b>", "text"), Column("macs", "MACs", "integer"), Column("agrees", "agrees", "boolean")),
    ({"name": NASTY, "macs": 12345678901234567890, "agrees": True}, {"name": "a\nb", "macs": None, "agrees": False}),
    notes=("a < b",),
    convention="macs",
)


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append({"tag": tag, **dict(attrs)})

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_every_value_is_there_and_every_text_is_escaped():
    found = Elements(TABLE._repr_html_())
    assert set(found.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    assert found.texts == [
        NASTY, "<b>name</b>", "MACs", "agrees",
        NASTY, "12,345,678,901,234,567,890", "yes", "a b", "–", "no",
        "Convention: macs", "a < b",
    ]  # fmt: skip


def test_numbers_stand_on_the_right():
    cells = [one["style"] for one in Elements(TABLE._repr_html_()).attributes if one["tag"] == "td"]
    left, right = "text-align: left", "text-align: right"
    assert cells == [left, right, left] * 2


def test_a_table_without_title_has_no_caption():
    bare = Table("", TABLE.columns, ())
    assert "caption" not in Elements(bare._repr_html_()).tags
