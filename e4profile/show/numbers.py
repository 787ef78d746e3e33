"""Values as a reader sees them: grouped, in SI units, at the precision of a published figure; the text of a cell.

Rounding is exact decimal arithmetic with a half going away from zero, so the same number prints the same
everywhere; a float is taken at its exact binary value.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from e4profile.show.tables import Column

Number = int | float | Fraction | Decimal
MISSING = "–"

_PREFIXES = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E", 21: "Z", 24: "Y"}


def grouped(value: int) -> str:
    """Every digit, with thousands grouping: ``18694`` is ``"18,694"``."""
    return f"{value:,}"


def fixed(value: Number, places: int) -> str:
    """A number with ``places`` decimals; one too small to show any digit keeps one: ``0.00042``."""
    return f"{_apart(Fraction(value), places, (0,)):,f}"


def percent(value: Number, places: int = 0) -> str:
    """A percentage as a label: with the decimals that keep less than all from 100%, and more than none from 0%."""
    return f"{_apart(Fraction(value), places, (0, 100)):f}%"


def _apart(exact: Fraction, places: int, marks: tuple[int, ...]) -> Decimal:
    """A number with so many decimals, or the fewest more that keep it apart from the marks that it is not."""
    rounded = _rounded(exact, places)
    while rounded in marks and exact not in marks and places < 30:
        places += 1
        rounded = _rounded(exact, places)
    return rounded


def si(value: Number, unit: str = "") -> str:
    """A number to four digits with an SI prefix: ``1234000`` is ``"1.234 M"``, ``0.0015`` is ``"1.500 m"``.

    An integer below a thousand is exact. Prefixes run from n to Y; integers take none below one.
    """
    exact = Fraction(value)
    if isinstance(value, int) and abs(value) < 1000:
        return f"{value} {unit}".rstrip()
    if exact == 0:
        return f"0 {unit}".rstrip()
    for exponent, prefix in _PREFIXES.items():
        scaled = exact / Fraction(10) ** exponent
        for places in (3, 2, 1):
            rounded = _rounded(scaled, places)
            if abs(rounded) < 10 ** (4 - places):
                return f"{rounded:f} {prefix}{unit}".rstrip()
    return f"{_rounded(scaled, 0):,f} {prefix}{unit}".rstrip()


def _rounded(value: Fraction, places: int) -> Decimal:
    scaled = abs(value) * 10**places
    nearest = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    # A rounded-away negative would print as -0.000.
    return Decimal((int(value < 0 and nearest > 0), tuple(map(int, str(nearest))), -places))


_SIZES = {
    unit: base**power
    for base, units in ((1024, ("KiB", "MiB", "GiB", "TiB")), (1000, ("kB", "MB", "GB", "TB")))
    for power, unit in enumerate(units, start=1)
}
"""Bytes of a unit, as it is printed."""


def sizes(amounts: Sequence[int | None], unit: str = "") -> list[str | None]:
    """Bytes as people write them, ``23.98 GiB``, with the digits that keep different amounts apart.

    Args:
        amounts: bytes; None stays None.
        unit: ``MB``, ``GiB`` or the like for all of them; each in its largest binary unit where it is empty.
    """
    for places in range(2, 13):
        shown = [None if amount is None else _size(amount, unit, places) for amount in amounts]
        if len(set(shown)) == len(set(amounts)):
            break
    return shown


def _size(amount: int, unit: str, places: int) -> str:
    binary = [name for name in ("TiB", "GiB", "MiB", "KiB") if amount >= _SIZES[name]]
    chosen = unit or next(iter(binary), "")
    return f"{fixed(Fraction(amount, _SIZES[chosen]), places)} {chosen}" if chosen else f"{amount} B"


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


def cell_of(row: Mapping[str, object], column: Column, *, si_units: bool) -> str:
    """The text of a row's cell, with the name of the doubt about it: ``yes, noisy``."""
    text = cell(row[column.key], column, si_units=si_units)
    doubted = column.doubted_by and row[column.key] is not None and row.get(column.doubted_by)
    return f"{text}, {column.doubted_by}" if doubted else text


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
