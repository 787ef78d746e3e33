"""A table as LaTeX, ready to paste: the booktabs package is all it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from e4profile.render.cells import broken, cell, one_line
from e4profile.render.columns import Column, Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "''",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≠": r"$\ne$",
    "≈": r"$\approx$",
    "→": r"$\to$",
    "²": "$^2$",
    "³": "$^3$",
    "⁻": "$^-$",
    "¹": "$^1$",
    "ℤ": "$Z$",
    "µ": r"$\mu$",
}
_GREEK = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta"},
    **{"θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi"},
    **{"ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega"},
    **{"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma"},
    **{"Φ": "Phi", "Ψ": "Psi", "Ω": "Omega"},
}


def render_latex(table: Table, units: str) -> str:
    """A table environment: title and convention as the caption, the notes below the rows, numbers right-aligned.

    Headers are broken at their blanks. A table that would be wider than the text of an article is set in a smaller
    type, and scaled to the text where that is not enough.
    """
    caption = _sentences([table.title, *table.remarks[: len(table.remarks) - len(table.notes)]])
    notes = _sentences(table.notes)
    cells = [[cell(row[c.key], c, si_units=units == "si") for c in table.columns] for row in table.rows]
    headers = [
        broken(one_line(column.header), max((len(row[index]) for row in cells), default=1)).split("\n")
        for index, column in enumerate(table.columns)
    ]
    size = _size([max(map(len, (*headers[i], *(row[i] for row in cells)))) for i in range(len(headers))])
    return "\n".join(
        [
            rf"% needs \usepackage{{booktabs{',graphicx' if size is _SCALED else ''}}}",
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{caption}}}",
            *size.before,
            rf"\begin{{tabular}}{{{''.join('r' if c.is_number else 'l' for c in table.columns)}}}",
            r"\toprule",
            _line([_header(lines, column) for lines, column in zip(headers, table.columns, strict=True)]),
            r"\midrule",
            *(_line([_cell(row[c.key], c, units) for c in table.columns]) for row in table.rows),
            r"\bottomrule",
            rf"\end{{tabular}}{size.behind}",
            *([r"\par\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize {notes}}}"] if notes else []),
            r"\end{table}",
            "",
        ]
    )


def _header(lines: Sequence[str], column: Column) -> str:
    escaped = r" \\ ".join(escape(line) for line in lines)
    side = "r" if column.is_number else "l"
    return escaped if len(lines) == 1 else rf"\shortstack[{side}]{{{escaped}}}"


def _sentences(parts: Sequence[str]) -> str:
    sentences = [escape(one_line(part)).rstrip(". ") for part in parts]
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


class _Size(NamedTuple):
    """A type's width of a character and of the space around a column, in points, and the commands that set it."""

    character: float
    column: float
    before: tuple[str, ...] = ()
    behind: str = ""


_TEXT_WIDTH = 345
"""Points across the text of LaTeX's article."""

_SIZES = (
    _Size(5.2, 12),
    _Size(4.7, 12, (r"\small",)),
    _Size(4.3, 6, (r"\footnotesize", r"\setlength{\tabcolsep}{3pt}")),
)
_SCALED = _Size(0, 0, (r"\resizebox{\linewidth}{!}{%",), "}")


def _size(widths: Sequence[int]) -> _Size:
    """The largest type in which columns of so many characters stand beside each other."""
    fits = (one for one in _SIZES if one.character * sum(widths) + one.column * len(widths) <= _TEXT_WIDTH)
    return next(fits, _SCALED)


def escape(text: str) -> str:
    """Text that LaTeX sets as it reads; a character that needs a package is named by its code point."""
    return "".join(_character(character) for character in text)


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character in _GREEK:
        return rf"$\{_GREEK[character]}$"
    # These Latin-1 letters are set by every engine and font encoding; what lies beyond is not.
    if character.isascii() or (character.isalpha() and ord(character) < 0x100 and character not in "ªºÐðÞþ"):
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"


def _cell(value: object, column: Column, units: str) -> str:
    text = cell(value, column, si_units=units == "si")
    escaped = escape(text)
    if column.is_number:
        # A thin space between number and unit, and a minus rather than a hyphen.
        return escaped.replace("-", "$-$", 1).replace(" ", r"\,") if value is not None else escaped
    return escaped


def _line(cells: list[str]) -> str:
    # A bracket that opens a row would be read as the optional argument of the line end before it.
    first = f"{{}}{cells[0]}" if cells[0].startswith(("[", "*")) else cells[0]
    return " & ".join([first, *cells[1:]]) + r" \\"
