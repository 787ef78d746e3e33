"""Pages as text: escaped, whole, self-contained, the same bytes each time."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
import stat
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
from html_document import Document
from page_sample import EVIL, figure, table

from e4profile.errors import SettingError
from e4profile.show.html.figures import shown_figures
from e4profile.show.html.model import Page, PageTable, Section, slug
from e4profile.show.html.page import check_writable, render_page, replace_file, write_page
from e4profile.show.tables import Column, Table, render


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "page.html"
    write_page(path, f"Results {EVIL}", [table(), table(4)], figure(tmp_path), [f"a note {EVIL}"])
    return path.read_text("utf-8")


def test_every_element_is_closed_and_every_identifier_unique(page: str) -> None:
    document = Document(page)
    assert document.problems == []
    ids = document.values("id")
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-controls", "for"):
        assert set(document.values(name)) <= set(ids)
    assert {href[1:] for href in document.values("href") if href.startswith("#")} <= set(ids)


def test_the_reader_of_these_tests_sees_a_tag_that_is_not_closed() -> None:
    assert Document("<p><b>bold</p>").problems
    assert Document('<p id="a">').problems


def test_texts_stay_texts(page: str) -> None:
    document = Document(page)
    assert len(document.all("script")) == 1
    assert "".join(document.text).count("document.title='broken'") >= 6
    assert "<script>document.title" not in page


def test_nothing_is_fetched(page: str) -> None:
    document = Document(page)
    assert all(address.startswith(("#", "data:")) for name in ("src", "href") for address in document.values(name))
    inside = re.sub(r'"data:[^"]*"', '""', page)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", inside)
    policy = next(meta["content"] for meta in document.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        write_page(folder / "page.html", "Results", [table()], figure(folder))
    assert (tmp_path / "a/page.html").read_bytes() == (tmp_path / "b/page.html").read_bytes()


def test_the_download_is_the_exact_table(page: str) -> None:
    link = next(a for a in Document(page).all("a") if a.get("download") == f"{slug(table().title)}.csv")
    assert unquote(link["href"].split(",", 1)[1]) == render(table(), "csv")


def test_details_are_part_of_the_download() -> None:
    one = Table("T", (Column("row", "row", "text"),), ({"row": "a"}, {"row": "b"}))
    page = Page("P", sections=[Section("S", tables=[PageTable("t", one, [[("why", "x,y")], []])])])
    document = Document(render_page(page))
    link = next(a for a in document.all("a") if a.get("download") == "t.csv")
    content = unquote(link["href"].split(",", 1)[1])
    assert list(csv.reader(io.StringIO(content))) == [["row", "why"], ["a", "x,y"], ["b", ""]]
    assert len(document.all("details")) == 1


def test_a_verdict_has_its_colour_at_the_top_and_a_figure_comes_before_the_next_table(tmp_path: Path) -> None:
    first, second = (PageTable(name, table(4), figures=files) for name, files in (("a", figure(tmp_path)), ("b", ())))
    tally = [("9", "published cost cells"), ("8", "reproduced"), ("1", "unresolved")]
    text = render_page(Page("P", tally=tally, sections=[Section("S", tables=[first, second])]))
    tiles = re.findall(r"<div(?: class=\"(\w+)\")?><dt>([^<]+)</dt>", text)
    assert tiles == [("", "published cost cells"), ("good", "reproduced"), ("bad", "unresolved")]
    assert text.index('id="table-a"') < text.index("<figure ") < text.index('id="table-b"')


def test_details_must_fit_the_rows() -> None:
    one = Table("T", (Column("row", "row", "text"),), ({"row": "a"},))
    with pytest.raises(SettingError, match="details for 2 rows must be for 1"):
        PageTable("t", one, [[], []])


def test_evidence_opens_on_the_verdict_and_takes_no_column(page: str) -> None:
    document = Document(page)
    assert "evidence" not in re.findall(r"<button[^>]*>([^<]*)</button>", page)
    rows = [*table().rows, *table(4).rows]
    assert len(document.all("summary")) == sum(row["evidence"] is not None for row in rows) + 1  # the figure's numbers


def test_a_wide_table_lifts_constants_and_shows_the_verdict_early() -> None:
    names = [f"c{n}" for n in range(12)]
    columns = (*(Column(name, name, "integer") for name in names), Column("agrees", "agrees", "boolean", priority=9))
    rows = tuple({**{name: 5 if name == "c4" else n for name in names}, "agrees": True} for n in range(2))
    text = render_page(Page("P", sections=[Section("S", tables=[PageTable("t", Table("T", columns, rows))])]))
    heads = re.findall(r'<th scope="col"[^>]*><button type="button">(\w+)</button>', text)
    assert heads == ["c0", "agrees", *(name for name in names[1:] if name != "c4")]
    assert "Every row: c4 5" in text


def test_a_small_table_has_nothing_to_filter(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", "P", [table(4)])
    document = Document((tmp_path / "p.html").read_text("utf-8"))
    assert not document.all("select")
    assert not document.all("input")


def test_tables_are_readable_by_ear(page: str) -> None:
    document = Document(page)
    assert len(document.all("caption")) == len(document.all("table"))
    assert all("scope" in head for head in document.all("th"))
    assert all(image["alt"] for image in document.all("img"))
    assert document.all("html")[0]["lang"] == "en"
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in document.elements}
    assert document.all("a")[0]["href"] == "#content"


def test_a_figure_is_smaller_than_its_file_and_keeps_its_numbers(tmp_path: Path) -> None:
    files = figure(tmp_path)
    (shown,) = shown_figures(files)
    assert shown.image_uri.startswith("data:image/svg+xml,")
    drawing = unquote(shown.image_uri.split(",", 1)[1])
    original = next(path for path in files if path.suffix == ".svg").read_text("utf-8")
    assert len(drawing) < len(original)
    assert len(re.findall(r"<(?:path|use|g)\b", drawing)) == len(re.findall(r"<(?:path|use|g)\b", original))
    numbers = [[float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", " ".join(re.findall(r' d="([^"]*)"', text)))]
               for text in (drawing, original)]  # fmt: skip
    assert all(abs(a - b) <= 0.005 for a, b in zip(*numbers, strict=True))
    assert (shown.header, shown.rows) == (("x", "y"), (("1", "1"), ("2", "4")))


def test_a_figure_without_a_drawing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(SettingError, match=r"no \.svg and no \.png"):
        shown_figures([tmp_path / "a.csv"])
    with pytest.raises(SettingError, match="ending"):
        shown_figures([tmp_path / "a.pdf"])
    with pytest.raises(SettingError, match="cannot be read"):
        shown_figures([tmp_path / "b.svg"])


def test_an_unwritable_page_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "page.html", tmp_path):
        with pytest.raises(SettingError, match="cannot write"):
            check_writable(path)
    with pytest.raises(SettingError, match="cannot write"):
        replace_file(tmp_path / "file" / "page.html", b"")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            replace_file(path, b"new")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"page.html": b"old"}
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "page.html"
    target.parent.mkdir()
    for before in (None, b"old"):
        if before is not None:
            target.write_bytes(before)
        link = tmp_path / f"link-{before}.html"
        link.symlink_to(Path("elsewhere") / "page.html")
        check_writable(link)
        replace_file(link, b"new")
        assert link.is_symlink()
        assert target.read_bytes() == b"new"
        target.unlink()


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)
    content = bytes(range(256)) * 1024  # more than a pipe holds at once
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    replace_file(pipe, content)
    reader.join(timeout=300)
    assert received == [content]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_colour_is_legible_in_light_and_dark(page: str) -> None:
    """WCAG 2.2, success criterion 1.4.3: a contrast of at least 4.5."""
    rules = re.findall(r"\{[^{}]*--paper:[^{}]*\}", page)
    blocks = [dict(re.findall(r"--(\w+): (#\w{6})", rule)) for rule in rules]
    assert len(blocks) == 4  # light, dark by preference, dark by choice, print
    assert blocks[1] == blocks[2] != blocks[0]
    for colours in blocks:
        inks = [colours[name] for name in ("ink", "quiet", "link", "good", "bad", "open")]
        papers = [colours[name] for name in ("paper", "raised", "mark")]
        for ink, paper in itertools.product(inks, papers):
            light, dark = sorted((_luminance(ink), _luminance(paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)
