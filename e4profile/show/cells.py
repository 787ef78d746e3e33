"""One value as the text of one cell, the same in every format made for reading."""

from __future__ import annotations

import textwrap
from functools import lru_cache
from typing import cast

from e4profile.show.columns import Column
from e4profile.show.numbers import MISSING, Number, fixed, grouped, si

_RATIO_PLACES = 3
_PERCENT_PLACES = 2


def cell(value: object, column: Column, *, si_units: bool) -> str:
    """The text of a cell: ratios to three decimals, percentages to two, seconds to four digits,
    relative errors to two.

    Args:
        value: a value of the column's kind, or None.
        column: the column it stands in.
        si_units: integers and bytes to four digits with an SI prefix, rather than grouped.
    """
    if value is None:
        return MISSING
    if column.kind == "boolean":
        return "yes" if value else "no"
    if not column.is_number:
        return one_line(str(value))
    return _number(cast(Number, value), column, si_units)


# fitting a table to a terminal tries many layouts of the same values
@lru_cache(maxsize=65536, typed=True)
def _number(value: Number, column: Column, si_units: bool) -> str:
    if column.kind in ("integer", "bytes"):
        unit = "B" if column.kind == "bytes" else ""
        whole = cast(int, value)
        return si(whole, unit) if si_units else f"{grouped(whole)} {unit}".rstrip()
    if column.kind == "seconds":
        return si(value, "s")
    if column.kind == "error":
        return f"{value:.1e}" if value else "0"
    return f"{fixed(value, _PERCENT_PLACES)}%" if column.kind == "percent" else fixed(value, _RATIO_PLACES)


def one_line(text: str) -> str:
    """The text with every control character (line end, escape) as a space, so that no table breaks."""
    return "".join(character if character.isprintable() else " " for character in text)


def broken(header: str, cell_width: int) -> str:
    """A header in lines no longer than the cells below it, but for its longest word."""
    longest_word = max((len(word) for word in header.split()), default=1)
    return "\n".join(textwrap.wrap(header, max(cell_width, longest_word, 1), break_long_words=False))
