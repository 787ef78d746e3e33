"""A table as LaTeX, ready to paste: the booktabs package is all it needs."""

from __future__ import annotations

from e4profile.render.cells import cell, one_line
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
    """A table environment whose caption carries title, convention and notes; numbers are right-aligned."""
    sentences = [escape(one_line(part)).rstrip(". ") for part in (table.title, *table.remarks)]
    caption = " ".join(f"{sentence}." for sentence in sentences if sentence)
    body = [_line([_cell(row[c.key], c, units) for c in table.columns]) for row in table.rows]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{''.join('r' if c.is_number else 'l' for c in table.columns)}}}",
            r"\toprule",
            _line([escape(one_line(column.header)) for column in table.columns]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


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
