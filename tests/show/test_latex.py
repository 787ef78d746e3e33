from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from latex_column import compiled
from table_sample import sweep_table

from e4profile.errors import UnknownNameError
from e4profile.show.latex import escape
from e4profile.show.paper import Paper, on_paper
from e4profile.show.tables import Column, Table, render

GOLDEN = r"""% needs \usepackage{booktabs}
\begin{table}[htbp]
\centering\sloppy
\caption{E4 \& friends. Convention: printed (70\% of MACs).}\smallskip
\begin{tabular}{@{}lrrl@{}}
\toprule
{}[name] & MACs & deviation & verdict \\
\midrule
$\alpha$\_p4\_CNN & 26,758,000 & $-$0.36\% & reproduced \\
{}[b] & \textendash{} & 2.00\% & unresolved \\
\bottomrule
\end{tabular}
\end{table}
"""


def small_table() -> Table:
    columns = (
        Column("name", "[name]", "text"),
        Column("macs", "MACs", "integer"),
        Column("deviation", "deviation", "percent"),
        Column("verdict", "verdict", "verdict"),
    )
    rows = (
        {"name": "α_p4_CNN", "macs": 26_758_000, "deviation": -0.358, "verdict": "reproduced"},
        {"name": "[b]", "macs": None, "deviation": 2, "verdict": "unresolved"},
    )
    return Table("E4 & friends", columns, rows, convention="printed (70% of MACs)")


def test_latex_is_this_text() -> None:
    assert render(small_table(), "latex") == GOLDEN
    assert r"26.76\,M" in render(small_table(), "latex", units="si")


def test_nothing_passes_unescaped() -> None:
    assert escape(r"\input{a}$&#_%^~") == (r"\textbackslash{}input\{a\}\$\&\#\_\%\textasciicircum{}\textasciitilde{}")
    assert escape("→ é 漢 ª") == r"$\to$ é \texttt{U+6F22} \texttt{U+00AA}"


def test_it_compiles(tmp_path: Path) -> None:
    every_ascii = "".join(map(chr, range(32, 127)))
    latin = "".join(chr(code) for code in range(0xA1, 0x180))
    greek = "".join(chr(code) for code in range(0x391, 0x3CA))
    odd = Table(
        f"odd {every_ascii}",
        (Column("a", "[a]", "text"), Column("b", every_ascii, "seconds")),
        tuple({"a": text, "b": -0.0015} for text in (every_ascii, latin, greek, "*x [1] – — × ≤ 漢 …\n", "")),
        notes=("", "[x]", every_ascii),
    )
    log = typeset(tmp_path, (sweep_table(), small_table(), odd))
    assert "Missing character" not in log


def test_no_table_stands_out_of_the_text(tmp_path: Path) -> None:
    assert r"\resizebox" in render(sweep_table(), "latex-all")
    assert r"\resizebox" not in render(sweep_table(), "latex")
    chance = random.Random(7)
    letters = "0123456789,.MWmil-_/<é×µ" * 3 + "abcdefghijklmnopqrstuvwxyz"
    wide = []
    for count in range(2, 14):
        columns = [Column(f"c{place}", "a head of some words", "text", f"h{place}", place) for place in range(count)]
        rows = [{c.key: "".join(chance.choices(letters, k=chance.randrange(1, 30))) for c in columns} for _ in "ab"]
        wide.append(Table("a/title.with_a:long-path/" * 3, tuple(columns), tuple(rows), ("so/" * 40,)))
    assert "Overfull" not in typeset(tmp_path, (sweep_table(), small_table(), verdicts(), *wide))


def test_a_paper_says_what_it_shows_and_under_which_name() -> None:
    table = replace(small_table(), notes=("one note",))
    asked = Paper(
        columns=("verdict", "[name]"), caption=r"Our \emph{costs}", label="tab:costs", bare=True, width_cm=17.8
    )
    with on_paper(asked):
        lines = render(table, "latex").splitlines()
    assert lines[:4] == [
        r"% needs \usepackage{booktabs}",
        "% Convention: printed (70% of MACs)",
        "% one note",
        r"\begin{table*}[htbp]",
    ]
    assert r"\caption{Our \emph{costs}}\label{tab:costs}\smallskip" in lines
    assert r"verdict & [name] \\" in lines
    assert lines[-2:] == [r"\end{tabular}", r"\end{table*}"]
    with on_paper(Paper(columns=("names",))), pytest.raises(UnknownNameError, match=r"unknown column 'names'.*name"):
        render(table, "csv")


def verdicts() -> Table:
    columns = (
        Column("row", "row", "text", priority=95),
        Column("built", "built", "integer", priority=90),
        Column("card", "the card", "text", priority=20),
        Column("why", "why", "text", priority=10),
        Column("verdict", "verdict", "verdict", priority=100),
        Column("unit", "unit", "text", priority=5),
    )
    rows = [
        {"row": f"row {number}, slices", "built": 10**number, "card": "x" * 30, "why": "y" * 4 * number,
         "verdict": "reproduced under [a] named rule", "unit": None}
        for number in (5, 9)
    ]  # fmt: skip
    return Table("Verdicts", columns, tuple(rows))


def test_what_does_not_fit_is_lifted_folded_and_then_left_out() -> None:
    lines = render(verdicts(), "latex").splitlines()
    assert lines[1] == "% left out to fit 8.5 cm: why; --columns or --width chooses, or latex-all"
    assert r"\caption{Verdicts. Every row: the card xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.}\smallskip" in lines
    assert r"\begin{tabular}{@{}lrl@{}}" in lines
    assert r"row 5, slices & 100,000 & reproduced under [a] named rule \\" in lines
    everything = render(verdicts(), "latex-all")
    assert "left out" not in everything
    assert "Every row" not in everything
    assert r"\resizebox{\linewidth}{!}{%" in everything
    assert "y" * 20 in everything


def test_long_text_is_folded_before_a_column_is_left_out() -> None:
    shorter = [{**row, "why": letter * 24} for row, letter in zip(verdicts().rows, "yz", strict=True)]
    with on_paper(Paper(width_cm=11.5)):
        text = render(replace(verdicts(), rows=tuple(shorter)), "latex")
    assert "left out" not in text
    assert r"\begin{tabular}[t]{@{}l@{}}reproduced under [a] \\ named rule\end{tabular}" in text


def test_short_headers_come_before_columns_are_left_out() -> None:
    header = replace(Column("s", "slices of a layer", "integer"), short_header="s")
    columns = (*(replace(header, key=key) for key in "stuvwxyz"), Column("text", "text", "text"))
    rows = tuple({**dict.fromkeys("stuvwxyz", number), "text": "x" * number} for number in (22, 24))
    text = render(Table("t", columns, rows), "latex")
    assert "left out" not in text
    assert r"\midrule" in text
    assert "s & s & s & s & s & s & s & s & text" in text
    assert r"\shortstack[r]{slices \\ of a \\ layer}" in render(Table("t", (header,), ({"s": 1},)), "latex")


def test_the_least_important_columns_go_first() -> None:
    columns = [Column(f"c{number}", f"c{number}", "text", priority=number) for number in range(6)]
    table = Table("t", tuple(columns), tuple({c.key: c.key + letter * 14 for c in columns} for letter in "ab"))
    text = render(table, "latex")
    assert "% left out to fit 8.5 cm: c0, c1, c2; --columns" in text
    assert [key for key in (c.key for c in columns) if key + "a" in text] == ["c3", "c4", "c5"]


def typeset(folder: Path, tables: Sequence[Table]) -> str:
    return compiled(
        folder, "".join(render(table, "latex", units=units) for table in tables for units in ("auto", "si"))
    )


def test_notes_stand_below_the_rows_and_not_in_the_caption() -> None:
    table = replace(small_table(), notes=("one note", "another 5% note."))
    lines = render(table, "latex").splitlines()
    assert r"\caption{E4 \& friends. Convention: printed (70\% of MACs).}\smallskip" in lines
    assert lines[-3:] == [
        r"\par\smallskip",
        r"\parbox{\linewidth}{\footnotesize\raggedright one note. another 5\% note.}",
        r"\end{table}",
    ]
    assert lines.index(r"\end{tabular}") == len(lines) - 4


@pytest.mark.parametrize(
    ("characters", "command"),
    [
        (40, r"\caption"),
        (44, r"\small"),
        (48, r"\setlength{\tabcolsep}{3pt}"),
        (52, r"\setlength{\tabcolsep}{2.5pt}"),
        (60, r"\resizebox"),
    ],
)
def test_a_wider_table_is_set_smaller(characters: int, command: str) -> None:
    table = Table("t", (Column("a", "a", "text"),), ({"a": "x" * characters},))
    before = render(table, "latex-all").split(r"\begin{tabular}")[0].splitlines()[-1]
    assert before.startswith(command)


def test_a_long_header_is_broken_above_its_cells() -> None:
    columns = (Column("a", "MACs by the paper", "integer"), Column("b", "why so", "text"))
    text = render(Table("t", columns, ({"a": 5, "b": "x"},)), "latex")
    assert r"\shortstack[r]{MACs \\ by \\ the \\ paper} & \shortstack[l]{why \\ so} \\" in text
