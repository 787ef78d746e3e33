from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from table_sample import sweep_table

from e4profile.errors import SettingError
from e4profile.show.tables import Column, Table, render
from e4profile.show.terminal import fold

AT_80 = """\
E4 settings against the group convolution, p4
Every row: group p4, width 16

                        params  params                          params   MACs
agrees  model  k  r  s   form.   meas.  MACs form.  MACs meas.   ratio  ratio
─────────────────────────────────────────────────────────────────────────────
yes     gcnn   3  –  –  57,626  57,626  41,680,000  41,680,000   1.000  1.000
yes     e4net  5  1  2  18,694  18,694  17,640,000  17,640,000   0.324  0.423
no      e4net  5  2  2  12,838  12,838  12,813,696  12,813,697   0.223  0.307

Convention: macs (convolution + linear + aggregation)
1 setting skipped: slices (=3) does not divide width (=16)
hidden at 80 columns: macs_printed_form, fvcore, thop; widen the terminal or use
--format csv
"""

AT_120 = """\
E4 settings against the group convolution, p4
Every row: group p4, width 16

                        params  params                                MACs                          params   MACs
agrees  model  k  r  s   form.   meas.  MACs form.  MACs meas.     printed      fvcore        thop   ratio  ratio
─────────────────────────────────────────────────────────────────────────────────────────────────────────────────
yes     gcnn   3  –  –  57,626  57,626  41,680,000  41,680,000  41,680,000  41,680,000  41,679,990   1.000  1.000
yes     e4net  5  1  2  18,694  18,694  17,640,000  17,640,000  17,630,000  15,523,200  15,000,001   0.324  0.423
no      e4net  5  2  2  12,838  12,838  12,813,696  12,813,697  12,800,000           –  10,000,000   0.223  0.307

Convention: macs (convolution + linear + aggregation)
1 setting skipped: slices (=3) does not divide width (=16)
"""

SI_AT_100 = """\
E4 settings against the group convolution, p4
Every row: group p4, width 16

                         params   params     MACs     MACs     MACs                    params   MACs
agrees  model  k  r  s    form.    meas.    form.    meas.  printed   fvcore     thop   ratio  ratio
────────────────────────────────────────────────────────────────────────────────────────────────────
yes     gcnn   3  –  –  57.63 k  57.63 k  41.68 M  41.68 M  41.68 M  41.68 M  41.68 M   1.000  1.000
yes     e4net  5  1  2  18.69 k  18.69 k  17.64 M  17.64 M  17.63 M  15.52 M  15.00 M   0.324  0.423
no      e4net  5  2  2  12.84 k  12.84 k  12.81 M  12.81 M  12.80 M        –  10.00 M   0.223  0.307

Convention: macs (convolution + linear + aggregation)
1 setting skipped: slices (=3) does not divide width (=16)
"""


def test_golden_at_80_columns() -> None:
    assert render(sweep_table(), "table", width=80) == AT_80


def test_golden_at_120_columns() -> None:
    assert render(sweep_table(), "table", width=120) == AT_120


def test_golden_in_si_units() -> None:
    assert render(sweep_table(), "table", width=100, units="si") == SI_AT_100


def test_a_wider_terminal_never_shows_fewer_digits() -> None:
    texts = [render(sweep_table(), "table", width=width) for width in range(24, 130)]
    exact = ["12,813,696" in text for text in texts]
    rounded = ["--units exact" in " ".join(text.split()) for text in texts]
    assert exact == sorted(exact)
    assert rounded == sorted(rounded, reverse=True)
    assert exact[-1]
    assert rounded[0]


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COLUMNS": "40", "NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "dumb", "LINES": "9"}.items():
        monkeypatch.setenv(name, value)
    assert render(sweep_table(), "table", width=80) == AT_80
    assert "\x1b[32m" in render(sweep_table(), "table", width=80, color=True)


def test_without_a_width_nothing_is_hidden_lifted_or_rounded() -> None:
    text = render(sweep_table(), "table")
    header = text.splitlines()[2]
    assert header.split("  ")[0] == "agrees"
    for column in sweep_table().columns:
        assert column.header in header
    assert "Every row" not in text
    assert "hidden" not in text
    assert "12,813,697" in text


def test_rounded_numbers_say_how_to_see_every_digit() -> None:
    assert "--units exact" in render(sweep_table(), "table", width=40)
    exact = render(sweep_table(), "table", width=100, units="exact")
    assert "--units exact" not in exact
    assert "12,813,697" in exact
    assert "hidden at 100 columns" in exact


def test_the_least_important_columns_go_first_and_deciding_ones_never() -> None:
    columns = sweep_table().columns
    gone: set[str] = set()
    for width in range(120, 24, -1):
        lines = render(sweep_table(), "table", width=width)
        assert max(map(len, lines.splitlines())) <= width
        assert "…" not in lines  # rich would cut a cell that the layout did not leave room for
        text = " ".join(lines.split())
        match = re.search(r"hidden at \d+ columns: (.*); widen", text)
        hidden = set(match[1].split(", ")) if match else set()
        assert "agrees" not in hidden
        if hidden:
            visible = [c for c in columns if c.key not in hidden and c.key not in {"group", "width", "agrees"}]
            assert max(c.priority for c in columns if c.key in hidden) <= min(c.priority for c in visible)
        assert gone <= hidden
        gone = hidden
    assert gone == {c.key for c in columns} - {"agrees", "model", "group", "width", "kernel", "reduction", "slices"}


def test_colours_mark_verdicts_and_only_when_asked() -> None:
    values = ["reproduced (truncated)", "unresolved", "not built yet"]
    table = Table("t", (Column("v", "verdict", "verdict"),), tuple({"v": value} for value in values))
    plain = render(table, "table", width=80)
    coloured = render(table, "table", width=80, color=True)
    assert "\x1b" not in plain
    # Every cell is padded to the widest, inside its colour.
    for value, code in zip(values, ("32", "1;31", "33"), strict=True):
        assert f"\x1b[{code}m{value:22}" in coloured
    assert [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()] == plain.splitlines()


def test_text_cannot_break_out_of_its_cell() -> None:
    table = Table(
        "a\ttitle\x1b[31m", (Column("a", "head\ner", "text"),), ({"a": "x\x1b[2Jy\nz [bold]b[/bold] :smile:"},)
    )
    text = render(table, "table", width=80)
    assert "x [2Jy z [bold]b[/bold] :smile:" in text
    assert "\x1b" not in text
    assert "head er" in text


PATH = "stages.0.blocks.1.residual.second_convolution.generator.weights.of.the.first.slice.and.more"


def test_long_text_is_folded_whole_behind_its_marks() -> None:
    columns = (Column("path", "module", "text"), Column("macs", "MACs", "integer"))
    rows = ({"path": PATH, "macs": 5}, {"path": "x", "macs": 6})
    text = render(Table("t", columns, rows), "table", width=60)
    _, _, _, _, first, second, other = text.splitlines()
    assert first.split() == [first.split()[0], "5"]
    assert first.split()[0] + second.strip() == PATH
    assert first.split()[0].endswith(".")
    assert len(first) <= 60
    assert other.split() == ["x", "6"]


def test_a_sentence_is_folded_at_its_blanks_and_a_row_begins_at_its_top() -> None:
    sentence = "reproduced under a named rule, which only the publication's own tool has"
    columns = (Column("n", "number of a row", "integer"), Column("why", "why", "text"))
    lines = render(Table("", columns, ({"n": 7, "why": sentence},)), "table", width=34).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("─"))
    assert lines[start + 1].split()[0] == "7"
    assert "7" not in "".join(lines[start + 2 :])
    folded = [line.strip().removeprefix("7").strip() for line in lines[start + 1 :]]
    assert " ".join(folded) == sentence
    assert len(folded) > 2
    # the headers stand on the rule
    assert lines[start - 1].split()[-1] == "why"


@pytest.mark.parametrize("limit", range(1, 12))
@pytest.mark.parametrize("text", ["", "a", "ab cd/efghi jk", "漢字漢字 漢字x", "a_b_c_d_e_f_g_h_i", "one  two   three"])
def test_folding_loses_nothing_but_blanks(text: str, limit: int) -> None:
    if limit == 1 and "漢" in text:
        return  # a wide character is wider than the line
    lines = fold(text, limit).split("\n")
    assert all(cell_len(line) <= limit for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_width_that_nothing_fits_is_refused() -> None:
    with pytest.raises(SettingError, match=r"width \(=19\) must be at least 20"):
        render(sweep_table(), "table", width=19)
    table = Table("t", (Column("n", "n", "integer"),), ({"n": 10**20},))
    with pytest.raises(SettingError, match=r"width \(=20\) is too narrow for column 'n'"):
        render(table, "table", width=20, units="exact")


def test_constant_columns_stay_when_they_are_all_there_is() -> None:
    column = Column("name", "a rather long header of a column", "text")
    text = render(Table("", (column, replace(column, key="b")), ({"name": "x", "b": "y"},) * 2), "table", width=50)
    assert text.endswith("\nx\nx\n")
    assert text.startswith("Every row: a rather long header of a column y\n")


words = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=60), st.text(st.sampled_from("ab -漢字\u200b\u0301…"), max_size=90)
)
kinds: st.SearchStrategy[Any] = st.sampled_from(
    ["text", "integer", "ratio", "percent", "verdict", "boolean", "bytes", "seconds"]
)
values = {
    "text": words,
    "verdict": words,
    "boolean": st.booleans(),
    "integer": st.integers(-(10**15), 10**15),
    "bytes": st.integers(0, 10**13),
    "ratio": st.floats(-1e6, 1e6),
    "percent": st.fractions(-1000, 1000),
    "seconds": st.floats(0, 1e6),
}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = tuple(
        Column(f"k{i}", draw(words), draw(kinds), draw(st.none() | words), draw(st.integers(0, 3)))
        for i in range(draw(st.integers(1, 8)))
    )
    rows = draw(st.integers(0, 3))
    return Table(
        draw(words),
        columns,
        tuple({c.key: draw(st.none() | values[c.kind]) for c in columns} for _ in range(rows)),
        tuple(draw(st.lists(words, max_size=2))),
        draw(st.none() | words),
    )


@given(tables(), st.integers(40, 130), st.sampled_from(["auto", "exact", "si"]), st.booleans())
def test_no_line_is_wider_than_asked(table: Table, width: int, units: str, color: bool) -> None:
    text = render(table, "table", width=width, units=units, color=color)
    assert text == render(table, "table", width=width, units=units, color=color)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(cell_len, bare.split("\n"))) <= width
    # Below the rule every row with text has at least its line, and no text is cut.
    lines = bare.split("\n")
    rule = next(i for i, line in enumerate(lines) if line and set(line) == {"─"})
    assert len([line for line in lines[rule + 1 :] if line]) >= sum(map(has_text, table.rows))
    assert lines[-1] == ""


def has_text(row: Mapping[str, object]) -> bool:
    return any(str(value).strip() for value in row.values())
