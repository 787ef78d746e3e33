from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from table_sample import COLUMNS, sweep_table

from e4profile.errors import SettingError, UnknownNameError
from e4profile.show.html.model import PageTable
from e4profile.show.html.tables import shown_table
from e4profile.show.tables import FORMATS, Column, ColumnNote, Table, render

KEYS = [column.key for column in COLUMNS]


def one_column(kind: Any, *values: object) -> Table:
    return Table("values", (Column("value", "value", kind),), tuple({"value": value} for value in values))


def test_json_has_the_rows_with_exact_values_in_column_order() -> None:
    text = render(sweep_table(), "json")
    rows = json.loads(text)
    assert rows == [dict(row) for row in sweep_table().rows]
    assert [list(row) for row in rows] == [KEYS] * 3
    assert text.endswith("]\n")


def test_json_keeps_integers_that_a_double_cannot() -> None:
    huge = 2**53 + 1
    assert json.loads(render(one_column("integer", huge, None), "json")) == [{"value": huge}, {"value": None}]
    assert f"{huge}" in render(one_column("bytes", huge), "csv")


def test_json_writes_ratios_as_the_nearest_double() -> None:
    text = render(one_column("ratio", Fraction(1, 3), Decimal("0.1"), 2), "json")
    assert json.loads(text) == [{"value": 1 / 3}, {"value": 0.1}, {"value": 2}]


def test_csv_reads_back_with_the_keys_as_header() -> None:
    text = render(sweep_table(), "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == KEYS
    for read, row in zip(rows, sweep_table().rows, strict=True):
        assert int(read["macs_measured"]) == row["macs_measured"]
        assert float(read["params_ratio"]) == row["params_ratio"]
        assert read["agrees"] == ("true" if row["agrees"] else "false")
    assert rows[2]["fvcore"] == ""
    assert "\r" not in text


def test_csv_quotes_what_needs_it() -> None:
    awkward = 'a,"b"\nc'
    assert list(csv.reader(io.StringIO(render(one_column("text", awkward), "csv"))))[1] == [awkward]


MARKDOWN = r"""**values of \|A\| in p4_SA and \_x\_**

| model  |      MACs | verdict                |
| ------ | --------: | ---------------------- |
| p4_SA  |    18,694 | reproduced (truncated) |
| a \| b |         – | unresolved             |
| \<i\>  | 1,234,567 | not built yet          |

Convention: macs

norms \*not\* counted
"""


def markdown_table() -> Table:
    columns = (
        Column("model", "model", "text"),
        Column("macs", "MACs", "integer"),
        Column("verdict", "verdict", "verdict"),
    )
    rows = (
        {"model": "p4_SA", "macs": 18_694, "verdict": "reproduced (truncated)"},
        {"model": "a | b", "macs": None, "verdict": "unresolved"},
        {"model": "<i>", "macs": 1_234_567, "verdict": "not built yet"},
    )
    return Table("values of |A| in p4_SA and _x_", columns, rows, ("norms *not* counted",), "macs")


def test_markdown_is_this_text() -> None:
    assert render(markdown_table(), "markdown") == MARKDOWN
    assert "| 18.69 k |" in render(markdown_table(), "markdown", units="si")


def test_every_markdown_line_has_the_same_number_of_cells() -> None:
    text = render(sweep_table(), "markdown")
    pipes = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert pipes == {len(KEYS) + 1}


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_without_rows_renders(format: str) -> None:
    table = Table("nothing", COLUMNS, ())
    text = render(table, format, width=80)
    assert text.endswith("\n")
    assert {"json": "[]\n", "csv": ",".join(KEYS) + "\n"}.get(format, text) == text
    if format == "table":
        assert "(no rows)" in text


def test_unknown_format_and_units_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown format 'markdwon'; did you mean markdown"):
        render(sweep_table(), "markdwon")
    with pytest.raises(UnknownNameError, match="unknown units 'SI'; did you mean si"):
        render(sweep_table(), "table", units="SI")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("integer", 1.0), ("integer", True), ("integer", "3"), ("bytes", 2.5), ("ratio", "x"), ("ratio", True)),
        *(("boolean", 1), ("text", 3), ("verdict", False), ("seconds", float("nan")), ("percent", Decimal("inf"))),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(kind: str, value: object) -> None:
    with pytest.raises(SettingError, match=r"row 1, column 'value' \(=") as error:
        one_column(kind, None, value)
    assert repr(value) in str(error.value)


def test_rows_must_have_the_columns_keys() -> None:
    column = Column("a", "a", "integer")
    with pytest.raises(SettingError, match="missing or unknown: a"):
        Table("t", (column,), ({},))
    with pytest.raises(SettingError, match="missing or unknown: b"):
        Table("t", (column,), ({"a": 1, "b": 2},))
    with pytest.raises(SettingError, match="more than one column 'a'"):
        Table("t", (column, column), ())
    with pytest.raises(SettingError, match="no columns"):
        Table("t", (), ())
    with pytest.raises(UnknownNameError, match="unknown column kind 'integers'; did you mean integer"):
        one_column("integers", 1)


def test_machine_formats_load_neither_torch_nor_rich_nor_pandas() -> None:
    code = (
        "import sys; sys.path.insert(0, {path!r})\n"
        "from table_sample import sweep_table\n"
        "from e4profile.show.tables import render\n"
        "for format in ('json', 'csv', 'markdown', 'latex'): render(sweep_table(), format)\n"
        "assert not {{'torch', 'rich', 'pandas'}} & set(sys.modules), 'heavy import'\n"
        "render(sweep_table(), 'table')\n"
        "assert not {{'torch', 'pandas'}} & set(sys.modules), 'heavy import'\n"
    ).format(path=str(__import__("pathlib").Path(__file__).parent))
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_what_is_about_hidden_columns_is_hidden_with_them() -> None:
    columns = (
        Column("name", "name", "text", priority=90),
        Column("wide", "wide", "integer", priority=80),
        Column("group", "group", "text", priority=5),
        Column("width", "width", "integer", priority=60),
        Column("fvcore", "fvcore", "integer", priority=20),
        Column("thop", "thop", "integer", priority=20),
    )
    rows = tuple(
        {"name": name, "wide": count * 10**15, "group": "p4", "width": 16, "fvcore": count, "thop": 539_552}
        for name, count in (("first", 10**12), ("second", 10**13))
    )
    notes = (ColumnNote("counters: as they report", "fvcore", "thop"), "said always")
    table = Table("", columns, rows, notes)
    wide = render(table, "table", width=200)
    assert "counters: as they report" in wide
    narrow = render(table, "table", width=50, units="exact")
    assert narrow.startswith("Every row: group p4, width 16\n")
    assert "counters" not in narrow
    assert "said always" in narrow
    assert "hidden at 50 columns: fvcore, thop;" in " ".join(narrow.split())
    latex = render(table, "latex-all")
    assert "counters: as they report" in latex
    assert render(table, "markdown").count("as they report") == 1


@pytest.mark.parametrize("text", ["=cmd", "+1", "-1", "@SUM(A1)", " =x", "\t=x"])
def test_a_text_is_no_formula_in_csv(text: str) -> None:
    table = Table("t", (Column("a", "a", "text"), Column("n", "n", "integer")), ({"a": text, "n": -1},))
    _, row = csv.reader(io.StringIO(render(table, "csv"), newline=""))
    assert row == [f"'{text}", "-1"]


def test_nobody_is_called_by_markdown() -> None:
    table = Table("@team", (Column("a", "@a", "text"),), ({"a": "x@team @ y"},), ("by @org/team",))
    assert not re.search(r"@\w", render(table, "markdown"))
    assert "x@<!-- -->team @ y" in render(table, "markdown")


def test_a_yes_in_doubt_is_not_good_in_any_format() -> None:
    columns = (
        Column("on_front", "on front", "boolean", doubted_by="alike"), Column("alike", "alike", "boolean", doubt=True),
    )  # fmt: skip
    rows = ({"on_front": True, "alike": True}, {"on_front": True, "alike": False}, {"on_front": None, "alike": True})
    table = Table("t", columns, rows)
    coloured = render(table, "table", width=80, color=True)
    assert "\x1b[33myes, alike" in coloured
    assert coloured.count("\x1b[32m") == 1
    assert [[cell.standing for cell in row] for row in shown_table(PageTable("t", table), "t").rows] == [
        ["open", "open"], ["good", ""], ["", "open"],
    ]  # fmt: skip
    for form in ("markdown", "latex"):
        assert render(table, form).count("yes, alike") == 1
    assert json.loads(render(table, "json"))[0] == {"on_front": True, "alike": True}
