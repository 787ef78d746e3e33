"""A table before any format, columns of a kind and rows of exact values, and the formats by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, TypeAlias, cast, get_args

from e4profile.errors import SettingError, one_of
from e4profile.show.paper import paper

Units = Literal["auto", "exact", "si"]
UNITS: tuple[str, ...] = get_args(Units)
FORMATS = ("table", "json", "csv", "markdown", "latex", "latex-all")

Kind = Literal["text", "integer", "ratio", "percent", "verdict", "boolean", "bytes", "seconds", "error"]
KINDS: tuple[str, ...] = get_args(Kind)
NUMBER_KINDS = frozenset({"integer", "ratio", "percent", "bytes", "seconds", "error"})

_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "verdict": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "bytes": (int,),
    "ratio": (int, float, Fraction, Decimal),
    "percent": (int, float, Fraction, Decimal),
    "seconds": (int, float, Fraction, Decimal),
    "error": (float,),
}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: the name in the rows, in JSON and in CSV.
        header: what a reader sees.
        kind: of the values; ``percent`` values are already in percent, ``seconds`` in s, ``bytes`` in B,
            ``error`` values relative.
        short_header: a narrower header for a narrow terminal; the header itself when None.
        priority: a narrow terminal hides columns of the lowest priority first, the rightmost among equals.
        doubt: whether a yes says that what was measured is uncertain: it is no good news, and a no is no bad news.
        doubted_by: the key of such a column: where it says yes, a value of this one carries its name and is not good.
        formula: whether its texts are formulas in LaTeX, which only LaTeX sets.
    """

    key: str
    header: str
    kind: Kind
    short_header: str | None = None
    priority: int = 0
    doubt: bool = False
    doubted_by: str = ""
    formula: bool = False

    def __post_init__(self) -> None:
        one_of("column kind", str(self.kind), KINDS)

    @property
    def short(self) -> str:
        """The narrowest header there is."""
        return self.header if self.short_header is None else self.short_header

    @property
    def is_number(self) -> bool:
        """Whether the values line up on the right."""
        return self.kind in NUMBER_KINDS

    def takes(self, value: object) -> bool:
        """Whether a value is of the column's kind, or None."""
        right_type = value is None or isinstance(value, _TYPES[self.kind])
        return right_type and (not isinstance(value, bool) or self.kind == "boolean")


class ColumnNote(str):
    """A note that is about some columns and is left out where none of them is shown.

    Args:
        text: the sentence.
        keys: of the columns.
    """

    keys: frozenset[str]

    def __new__(cls, text: str, *keys: str) -> ColumnNote:  # noqa: D102
        note = super().__new__(cls, text)
        note.keys = frozenset(keys)
        return note


@dataclass(frozen=True)
class Table:
    """A table of exact values; rounding happens when it is rendered.

    Each row has exactly the columns' keys. None stands for a value that does not exist.

    Raises:
        SettingError: for a repeated key, a row with other keys, or a value that is not of its column's kind.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, object], ...]
    notes: tuple[str, ...] = ()
    convention: str | None = None

    def __post_init__(self) -> None:
        keys = [column.key for column in self.columns]
        if not keys:
            raise SettingError(f"table {self.title!r} has no columns")
        for key in keys:
            if keys.count(key) > 1:
                raise SettingError(f"table {self.title!r} has more than one column {key!r}")
        for number, row in enumerate(self.rows):
            odd = sorted(set(keys).symmetric_difference(row))
            if odd:
                raise SettingError(
                    f"row {number} of table {self.title!r} must have the keys of the columns; "
                    f"missing or unknown: {', '.join(map(str, odd))}"
                )
            for column in self.columns:
                _check(row[column.key], column, number)

    @property
    def deciding(self) -> tuple[Column, ...]:
        """The columns a reader decides by: verdicts, and booleans of the highest priority in the table."""
        highest = max(column.priority for column in self.columns)
        return tuple(
            column
            for column in self.columns
            if column.kind == "verdict" or (column.kind == "boolean" and column.priority == highest)
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """The convention and the notes, as sentences to print below or above the rows."""
        convention = () if self.convention is None else (f"Convention: {self.convention}",)
        return convention + self.notes

    def notes_beside(self, hidden: Sequence[Column]) -> tuple[str, ...]:
        """The notes, without those that are about hidden columns only."""
        gone = {column.key for column in hidden}
        return tuple(one for one in self.notes if not isinstance(one, ColumnNote) or one.keys - gone)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from e4profile.show.formats import render_notebook

        return render_notebook(self)


_GOOD = ("reproduced", "agrees", "holds", "yes")
_BAD = ("unresolved", "differs", "disagrees", "fails", "no")


def standing(text: str, column: Column) -> str:
    """Whether the text of a verdict or a boolean is ``good``, ``bad`` or ``open``; empty for another column."""
    if column.kind not in ("verdict", "boolean"):
        return ""
    if column.doubt:
        return "open" if text.startswith(_GOOD) else ""
    if column.doubted_by and text.endswith(f", {column.doubted_by}"):
        return "open"
    if text.startswith(_GOOD):
        return "good"
    return "bad" if text.startswith(_BAD) and not text.startswith("not ") else "open"


Field: TypeAlias = "tuple[Column, Callable[[Any], object]]"
"""A column with what it shows of one thing."""


def table_of(
    title: str, fields: Sequence[Field], things: Iterable[Any], notes: Iterable[str] = (), convention: str | None = None
) -> Table:
    """A table with a row for each thing, so that a column and its value are said in one place."""
    columns = tuple(column for column, _ in fields)
    rows = tuple({column.key: value(thing) for column, value in fields} for thing in things)
    return Table(title, columns, rows, tuple(notes), convention)


def _check(value: object, column: Column, row: int) -> None:
    if not column.takes(value):
        found, wanted = type(value).__name__, column.kind
        raise SettingError(f"row {row}, column {column.key!r} (={value!r}): a {found} is no {wanted} value")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise SettingError(f"row {row}, column {column.key!r} (={value!r}) must be finite; None means no value")


def constant(table: Table, shown: Sequence[Column]) -> list[Column]:
    """Setting columns (text, integer) with one value in all of several rows; one column always stays."""
    if len(table.rows) < 2:
        return []
    deciding = table.deciding
    constant = [
        column
        for column in table.columns
        if column not in deciding
        and column.kind in ("text", "integer")
        and all(row[column.key] == table.rows[0][column.key] for row in table.rows)
    ]
    return constant if len(constant) < len(shown) else constant[1:]


def with_columns(table: Table, names: Sequence[str]) -> Table:
    """The table with these columns in this order, by key or header; as it is without any.

    Raises:
        UnknownNameError: for a name that no column has.
    """
    if not names:
        return table
    known = names_of(table)
    kept = list(dict.fromkeys(known[one_of("column", name, known)] for name in names))
    return _of_columns(table, kept)


def names_of(table: Table) -> dict[str, Column]:
    """The columns by every name that ``with_columns`` takes."""
    return {name: column for column in table.columns for name in (column.header, column.key)}


def without_empty(table: Table) -> Table:
    """The table without columns that have no value in any row; whole where no column has any."""
    kept = [column for column in table.columns if any(row[column.key] is not None for row in table.rows)]
    if not kept or len(kept) == len(table.columns):
        return table
    return _of_columns(table, kept)


def _of_columns(table: Table, columns: Sequence[Column]) -> Table:
    rows = tuple({column.key: row[column.key] for column in columns} for row in table.rows)
    return replace(table, columns=tuple(columns), rows=rows)


def telling(lifted: Sequence[Column], hidden: Sequence[Column]) -> list[Column]:
    """The lifted columns that a reader is told of: a number that matters no more than all the hidden is hidden too."""
    lowest = min((column.priority for column in hidden), default=None)
    return [c for c in lifted if lowest is None or not c.is_number or c.priority > lowest]


def hiding_order(table: Table, kept: Sequence[Column]) -> list[Column]:
    """Least important first: by priority, the rightmost first among equals, deciding columns last."""
    deciding = table.deciding
    position = {column.key: index for index, column in enumerate(table.columns)}
    return sorted(kept, key=lambda c: (c in deciding, c.priority, -position[c.key]))


def render(table: Table, format: str, *, width: int | None = None, color: bool = False, units: str = "auto") -> str:
    """Render a table as text that ends with a newline; the same table gives the same bytes.

    Args:
        table: what to show.
        format: ``table`` (for a terminal), ``json``, ``csv``, ``markdown``, ``latex`` (the columns that fit
            the column of an article) or ``latex-all`` (all columns, scaled to the text).
        width: terminal columns that ``table`` must fit in; None for as wide as it takes, with nothing hidden.
            The other formats have no width.
        color: whether ``table`` may colour verdicts with escape codes.
        units: for counts and bytes, ``exact`` shows every digit, ``si`` four digits and a prefix, ``auto``
            every digit where that fits. ``json`` and ``csv`` are always exact.

    Raises:
        UnknownNameError: for another format or another unit, or a column that the table has not (``Paper.columns``).
        SettingError: when the width is below 20.
    """
    one_of("format", format, FORMATS)
    one_of("units", units, UNITS)
    table = with_columns(table, paper().columns)
    if paper().bare and format in ("table", "markdown"):
        table = replace(table, title="", notes=(), convention=None)
    if format == "json":
        from e4profile.show.formats import render_json

        return render_json(table)
    if format == "csv":
        from e4profile.show.formats import render_csv

        return render_csv(table)
    if format == "markdown":
        from e4profile.show.formats import render_markdown

        return render_markdown(table, cast(Units, units))
    if format in ("latex", "latex-all"):
        from e4profile.show.latex import render_latex

        return render_latex(table, cast(Units, units), every_column=format == "latex-all")
    from e4profile.show.terminal import render_terminal

    return render_terminal(table, width=width, color=color, units=cast(Units, units))
