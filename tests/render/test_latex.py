from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from table_sample import sweep_table

from e4profile.render.latex import escape
from e4profile.render.tables import Column, Table, render

GOLDEN = r"""% needs \usepackage{booktabs}
\begin{table}[htbp]
\centering
\caption{E4 \& friends. Convention: printed (70\% of MACs).}
\begin{tabular}{lrrl}
\toprule
{}[name] & MACs & deviation & verdict \\
\midrule
$\alpha$\_p4\_CNN & 26,758,000 & $-$0.36\% & reproduced \\
{}[b] & -- & 2.00\% & unresolved \\
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
    assert escape(r"\input{a}$&#_%^~") == (
        r"\textbackslash{}input\{a\}\$\&\#\_\%\textasciicircum{}\textasciitilde{}"
    )
    assert escape("→ é 漢 ª") == r"$\to$ é \texttt{U+6F22} \texttt{U+00AA}"


def test_it_compiles(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    every_ascii = "".join(map(chr, range(32, 127)))
    latin = "".join(chr(code) for code in range(0xA1, 0x180))
    greek = "".join(chr(code) for code in range(0x391, 0x3CA))
    odd = Table(
        f"odd {every_ascii}",
        (Column("a", "[a]", "text"), Column("b", every_ascii, "seconds")),
        tuple({"a": text, "b": -0.0015} for text in (every_ascii, latin, greek, "*x [1] – — × ≤ 漢 …\n", "")),
        notes=("", "[x]", every_ascii),
    )
    tables = "".join(
        render(table, "latex", units=u)
        for table in (sweep_table(), small_table(), odd)
        for u in ("auto", "si")
    )
    preamble = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{preamble}\n{tables}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "t.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "t.log").read_text(encoding="utf-8", errors="replace")
