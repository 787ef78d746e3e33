"""A table as LaTeX, ready to paste into one column of an article: the booktabs package is all it needs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from e4profile.show.numbers import broken, cell_of, one_line
from e4profile.show.paper import CM_PER_INCH, COLUMN_CM, paper
from e4profile.show.tables import Column, Table, constant, hiding_order, telling

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
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
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
    "ℤ": r"$\mathbf{Z}$",
    "µ": r"\textmu{}",
}
_GREEK = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta"},
    **{"θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi"},
    **{"ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega"},
    **{"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma"},
    **{"Φ": "Phi", "Ψ": "Psi", "Ω": "Omega"},
}


def render_latex(table: Table, units: str, *, every_column: bool = False) -> str:
    """A table environment: title and convention as the caption, the notes below the rows, numbers right-aligned.

    Headers are broken at their blanks. A table that would be wider than the column of an article (``Paper.width_cm``)
    is set in a smaller type. Where that is not enough, columns of one value move into the caption, long text is
    folded, and at last the least important columns are left out, which a comment says.

    Args:
        table: what to show.
        units: for counts and bytes.
        every_column: whether a table that is wider than that in the smallest type keeps all of its columns and is
            scaled to the text of the page.
    """
    asked = paper()
    page = _fit(table, units, every_column or bool(asked.columns))
    first = table.rows[0] if table.rows else {}
    shared = [f"{one_line(c.header)} {_text(first, c, units)}" for c in page.lifted if first[c.key] is not None]
    convention = table.remarks[: len(table.remarks) - len(table.notes)]
    said = [table.title, *([f"Every row: {', '.join(shared)}"] if shared else [])]
    notes = table.notes_beside(page.hidden)
    if asked.bare:
        caption, below, comments = _sentences(said), "", (*convention, *notes)
    else:
        caption, below, comments = _sentences([*said, *convention]), _sentences(notes), ()
    if asked.caption is not None:
        caption = as_written(asked.caption)
        # what counts as what, and the columns of one value, are said all the same
        below = _sentences([*said[1:], *convention, *notes]) if not asked.bare else below
    label = "" if asked.label is None else rf"\label{{{asked.label}}}"
    left_out = ", ".join(one_line(column.key) for column in page.hidden)
    # what is wider than one column spans both
    kind = "table*" if page.size is _SCALED or asked.width_cm > COLUMN_CM else "table"
    return "\n".join(
        [
            rf"% needs \usepackage{{booktabs{',graphicx' if page.size is _SCALED else ''}}}",
            *(
                [f"% left out to fit {asked.width_cm:g} cm: {left_out}; --columns or --width chooses, or latex-all"]
                if left_out
                else []
            ),
            *(f"% {one_line(text)}" for text in comments),
            rf"\begin{{{kind}}}[htbp]",
            r"\centering\sloppy",
            rf"\caption{{{caption}}}{label}\smallskip",
            *page.size.before,
            rf"\begin{{tabular}}{{@{{}}{''.join('r' if c.is_number else 'l' for c in page.columns)}@{{}}}}",
            r"\toprule",
            _line([_header(_header_lines(table, column, units, page.short), column) for column in page.columns]),
            r"\midrule",
            *(_line([_cell(row, c, units, page.fold) for c in page.columns]) for row in table.rows),
            r"\bottomrule",
            rf"\end{{tabular}}{page.size.behind}",
            *([r"\par\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize\raggedright {below}}}"] if below else []),
            rf"\end{{{kind}}}",
            "",
        ]
    )


def float_with(body: str) -> str:
    """A body below the caption and the label that are asked for; as it is without any."""
    asked = paper()
    if asked.caption is None and asked.label is None:
        return body
    said = [] if asked.caption is None else [rf"\caption{{{as_written(asked.caption)}}}"]
    said += [] if asked.label is None else [rf"\label{{{asked.label}}}"]
    return "\n".join([r"\begin{table}[htbp]", *said, body, r"\end{table}"])


def as_written(caption: str) -> str:
    """A caption of the author's own, which may hold commands; signs that LaTeX lacks are its own commands."""
    # a bare % would hide the closing brace
    safe = re.sub(r"(?<!\\)((?:\\\\)*)%(?!\n)", r"\1\\%", caption)
    kept = [sign.isascii() or (sign.isalpha() and ord(sign) < 0x100) for sign in safe]
    return "".join(sign if stays else command(sign) for sign, stays in zip(safe, kept, strict=True))


_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0327": "c", "\u030a": "r",
            "\u030c": "v", "\u030b": "H", "\u0328": "k", "\u0304": "=", "\u0307": ".", "\u0306": "u"}  # fmt: skip
_LETTERS = {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}


def command(sign: str) -> str:
    """What sets a sign in text and in formulas alike, in ASCII; one without a command is as it is."""
    if sign in _GREEK:
        return rf"\ensuremath{{\{_GREEK[sign]}}}"
    if sign in _ESCAPES:
        known = _ESCAPES[sign]
        return rf"\ensuremath{{{known[1:-1]}}}" if known.startswith("$") else known
    if sign in _LETTERS:
        return rf"\{_LETTERS[sign]}{{}}"
    parts = unicodedata.normalize("NFD", sign)
    accent = _ACCENTS.get(parts[1:])
    return sign if accent is None else rf"\{accent}{{{parts[0]}}}"


def _text(row: Mapping[str, object], column: Column, units: str) -> str:
    return cell_of(row, column, si_units=units == "si")


def _header_lines(table: Table, column: Column, units: str, short: bool) -> list[str]:
    """A header's lines; of the short header where that makes the column narrower."""
    longest = max((len(_text(row, column, units)) for row in table.rows), default=1)
    lines = broken(one_line(column.header), longest).split("\n")
    if short and max(map(len, lines)) > longest:
        return broken(one_line(column.short), longest).split("\n")
    return lines


def _header(lines: Sequence[str], column: Column) -> str:
    escaped = r" \\ ".join(escape(line) for line in lines)
    side = "r" if column.is_number else "l"
    return escaped if len(lines) == 1 else rf"\shortstack[{side}]{{{escaped}}}"


_SIGNS = re.compile(r"\\[A-Za-z]+|[{}_^\s]")
"""What a formula in LaTeX holds besides the letters that are seen."""

_LONG_WORD = re.compile(r"\S{16,}")


def _sentences(parts: Sequence[str]) -> str:
    sentences = [_breakable(one_line(part).rstrip(". ")) for part in parts]
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def _breakable(text: str) -> str:
    """Escaped text in which a long word, such as a path, may go on in the next line."""
    pieces = re.split(r"(\s+)", text)
    return "".join(
        r"\allowbreak{}".join(map(escape, _pieces(piece))) if _LONG_WORD.match(piece) else escape(piece)
        for piece in pieces
    )


class _Size(NamedTuple):
    """A type as a factor on the widths at 10 pt, the space beside a column in points, the commands that set it."""

    factor: float
    space: float
    before: tuple[str, ...] = ()
    behind: str = ""


_SIZES = (
    _Size(1, 12),
    _Size(0.925, 12, (r"\small",)),
    _Size(0.85, 6, (r"\footnotesize", r"\setlength{\tabcolsep}{3pt}")),
    # 7 pt
    _Size(0.797, 5, (r"\scriptsize", r"\setlength{\tabcolsep}{2.5pt}")),
)
_SCALED = _Size(0, 0, (r"\resizebox{\linewidth}{!}{%",), "}")

_POINTS_PER_INCH = 72.27
_NARROWER = 0.97
"""Columns of 8.5 cm are as narrow as 8.25 cm in some styles."""

_FOLDS = (None, 24, 16)
"""Characters of a line of text in a cell, tried in order."""

_WIDTHS = {
    width: characters
    for width, characters in (
        (2.8, "ijlI.,:;'`!|"), (3.4, " -()[]"), (4.0, "frst/"), (4.6, "cez"), (5.1, "0123456789agov?*"),
        (5.6, "bdhknpquxy_"), (7.8, "ABCDEFGHJKLNOPQRSTUVXYZ+=<>w&"), (8.6, "mM%@"), (10.4, "W"),
    )
}  # fmt: skip
_POINTS = {character: width for width, characters in _WIDTHS.items() for character in characters}
"""Widths in Computer Modern at 10 pt."""


def _points(text: str) -> float:
    """The width of a line at 10 pt; what is not listed is as wide as the widest that can stand for it."""
    return sum(_POINTS.get(character) or (40.0 if "texttt" in _character(character) else 8.6) for character in text)


@dataclass(frozen=True)
class _Page:
    """What of a table is set, and how.

    Attributes:
        size: the type.
        columns: those that are set, in the table's order.
        lifted: those of one value, which the caption has.
        hidden: those left out.
        fold: the characters of a line of text, None where no text is folded.
        short: whether headers that are wider than their column are the short ones.
    """

    size: _Size
    columns: tuple[Column, ...]
    lifted: tuple[Column, ...] = ()
    hidden: tuple[Column, ...] = ()
    fold: int | None = None
    short: bool = False


def _fit(table: Table, units: str, every_column: bool) -> _Page:
    """The page with the most columns, and then in the largest type; beyond the smallest one, scaled."""
    full = _page(table, table.columns, units, (None,), short=False)
    if full.size is not _SCALED or every_column:
        return full
    lifted = tuple(constant(table, table.columns))
    rest = tuple(column for column in table.columns if column not in lifted)
    expendable = hiding_order(table, rest)
    for count in range(len(rest)):
        gone = expendable[:count]
        page = _page(table, [column for column in rest if column not in gone], units, _FOLDS, short=True)
        if page.size is not _SCALED:
            told = telling(lifted, gone)
            hidden = (column for column in table.columns if column in (*gone, *lifted) and column not in told)
            return replace(page, lifted=tuple(told), hidden=tuple(hidden))
    return full


def _page(table: Table, columns: Sequence[Column], units: str, folds: Sequence[int | None], *, short: bool) -> _Page:
    """These columns in the largest type in which they stand beside each other, or else scaled."""
    room = _NARROWER * paper().width_cm / CM_PER_INCH * _POINTS_PER_INCH
    for fold in folds:
        widths = []
        for column in columns:
            texts = (_text(row, column, units) for row in table.rows)
            texts = (_SIGNS.sub("", text) for text in texts) if column.formula else texts
            lines = (line for text in texts for line in _lines(text, column, fold))
            widths.append(max(map(_points, (*_header_lines(table, column, units, short), *lines)), default=0.0))
        for size in _SIZES:
            if size.factor * sum(widths) + size.space * (len(columns) - 1) <= room:
                return _Page(size, tuple(columns), fold=fold, short=short)
    return _Page(_SCALED, tuple(columns))


def _lines(text: str, column: Column, fold: int | None) -> list[str]:
    """A cell's lines, broken at blanks, and a longer word behind its marks."""
    if fold is None or column.is_number or column.formula:
        return [text]
    lines = [""]
    for word in text.split():
        for place, piece in enumerate(_pieces(word) if len(word) > fold else [word]):
            joined = f"{lines[-1]} {piece}" if lines[-1] and not place else lines[-1] + piece
            lines[-1:] = [joined] if len(joined) <= fold or not lines[-1] else [lines[-1], piece]
    return lines


def _pieces(word: str) -> list[str]:
    """A word cut behind its marks."""
    return re.findall(r"[^/._:,-]*[/._:,-]+|[^/._:,-]+", word)


def escape(text: str) -> str:
    """Text that LaTeX sets as it reads; a character that needs a package is named by its code point."""
    # two hyphens of an option are no dash
    return "".join(_character(character) for character in text).replace("--", "-{}-")


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character in _GREEK:
        return rf"$\{_GREEK[character]}$"
    # These Latin-1 letters are set by every engine and font encoding; what lies beyond is not.
    if character.isascii() or (character.isalpha() and ord(character) < 0x100 and character not in "ªºÐðÞþ"):
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"


def _cell(row: Mapping[str, object], column: Column, units: str, fold: int | None = None) -> str:
    text, value = _text(row, column, units), row[column.key]
    if column.formula and value is not None:
        return f"${text}$"
    if column.is_number:
        # A thin space between number and unit, and a minus rather than a hyphen.
        return escape(text).replace("-", "$-$", 1).replace(" ", r"\,") if value is not None else escape(text)
    lines = [escape(line) for line in _lines(text, column, fold)]
    if len(lines) == 1:
        return lines[0]
    inside = r" \\ ".join(map(_guarded, lines))
    return rf"\begin{{tabular}}[t]{{@{{}}l@{{}}}}{inside}\end{{tabular}}"


def _guarded(text: str) -> str:
    # A bracket that opens a row would be read as the optional argument of the line end before it.
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def _line(cells: list[str]) -> str:
    return " & ".join([_guarded(cells[0]), *cells[1:]]) + r" \\"
