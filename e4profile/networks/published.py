"""Published figures as exact decimals: what "18.8K" says, whether an exact count agrees with it, and the verdict.

A printed figure fixes a value and the unit of its last digit. A count agrees with it *rounded* when rounding
the count to that unit (a half goes away from zero, as printed tables do) gives the figure, and *truncated*
when dropping everything below that unit does. Everything here is integer arithmetic on `fractions.Fraction`:
a binary float can neither enter nor leave.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from e4profile.conventions import convention
from e4profile.errors import SettingError
from e4profile.networks.cards import BY_RULE, REPRODUCED, TRUNCATED, UNRESOLVED, VERDICTS, Cell

Exact = int | Fraction | Decimal

_SUFFIX_EXPONENT = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9}
_PRINTED = re.compile(
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.(?P<decimals>[0-9]+))?(?P<space> ?)(?P<suffix>[kKMG]?)"
)
_DEVIATION_CONTEXT = Context(prec=28)


def parse_printed(text: str) -> tuple[Decimal, Decimal]:
    """Read a printed figure such as ``"18.8K"``, ``"25.21 k"``, ``"0.39G"``, ``"17M"`` or ``"18,694"``.

    Returns:
        The value and the unit of its last printed digit, suffix applied: ``"18.8K"`` gives 18800 and 100.

    Raises:
        SettingError: when the text is no such figure.
    """
    digits, decimals, suffix, _ = _parts(text)
    exponent = _SUFFIX_EXPONENT[suffix] - decimals
    return _decimal(digits, exponent), _decimal(1, exponent)


def round_half_up(exact: Exact, unit: Exact) -> Decimal:
    """Round to a multiple of ``unit`` (a power of ten); an exact half goes away from zero.

    Raises:
        SettingError: when ``exact`` is not an exact finite number or ``unit`` is no power of ten.
    """
    exponent = _power_of_ten(unit)
    value = _fraction(exact, "exact")
    multiple = abs(value) / _fraction(unit, "unit")
    nearest = (2 * multiple.numerator + multiple.denominator) // (2 * multiple.denominator)
    return _decimal(-nearest if value < 0 else nearest, exponent)


def truncate(exact: Exact, unit: Exact) -> Decimal:
    """Drop everything below ``unit`` (a power of ten), towards zero.

    Raises:
        SettingError: when ``exact`` is not an exact finite number or ``unit`` is no power of ten.
    """
    exponent = _power_of_ten(unit)
    value = _fraction(exact, "exact")
    multiple = abs(value) // _fraction(unit, "unit")
    return _decimal(-multiple if value < 0 else multiple, exponent)


def agrees_rounded(exact: Exact, printed: str) -> bool:
    """Whether ``exact``, rounded at the printed precision, is the printed figure.

    Raises:
        SettingError: for an inexact or non-finite number, or a text that is no figure.
    """
    value, unit = parse_printed(printed)
    return round_half_up(exact, unit) == value


def agrees_truncated(exact: Exact, printed: str) -> bool:
    """Whether ``exact``, truncated at the printed precision, is the printed figure.

    Raises:
        SettingError: for an inexact or non-finite number, or a text that is no figure.
    """
    value, unit = parse_printed(printed)
    return truncate(exact, unit) == value


def deviation_percent(exact: Exact, printed: str) -> Decimal:
    """How far ``exact`` lies from the printed figure: 100·(exact − printed)/printed, to 28 digits.

    Raises:
        SettingError: as above, and when the printed figure is zero.
    """
    value, _ = parse_printed(printed)
    if value == 0:
        raise SettingError(f"printed figure (={printed!r}) is zero, so a deviation in percent does not exist")
    deviation = 100 * (_fraction(exact, "exact") / Fraction(value) - 1)
    return _DEVIATION_CONTEXT.divide(Decimal(deviation.numerator), Decimal(deviation.denominator))


def printed(value: Exact, like: str, *, truncated: bool = False) -> str:
    """Print ``value`` with the precision, suffix and spacing of a published figure.

    ``printed(18886, "18.8K")`` is ``"18.9K"``; with ``truncated`` it is ``"18.8K"``.

    Raises:
        SettingError: for an inexact or non-finite value, or a ``like`` that is no figure.
    """
    _, decimals, suffix, space = _parts(like)
    scaled = _fraction(value, "value") / 10 ** _SUFFIX_EXPONENT[suffix]
    unit = _decimal(1, -decimals)
    digits = truncate(scaled, unit) if truncated else round_half_up(scaled, unit)
    grouping = "," if "," in like else ""
    return f"{digits:{grouping}f}{space}{suffix}"


@dataclass(frozen=True)
class Verdict:
    """A published cell held against the built network."""

    verdict: str
    deviation_percent: Decimal


def judge(built: int | Fraction, cell: Cell) -> Verdict:
    """The verdict on one published cell.

    The printed digits must come out at the printed precision, rounded or truncated as the card says; a cell
    that follows only by a published tool's own rule says so.
    """
    agrees = agrees_truncated if cell.rounding == "truncated" else agrees_rounded
    deviation = deviation_percent(built, cell.value)
    if not agrees(built, cell.value):
        return Verdict(UNRESOLVED, deviation)
    if cell.convention is not None and convention(cell.convention).published_rule:
        return Verdict(BY_RULE, deviation)
    return Verdict(TRUNCATED if cell.rounding == "truncated" else REPRODUCED, deviation)


def tally(verdicts: list[str]) -> Mapping[str, int]:
    """How many cells have each verdict, the best verdict first."""
    return {name: verdicts.count(name) for name in VERDICTS if name in verdicts}


def _parts(text: str) -> tuple[int, int, str, str]:
    """All digits as one integer, the number of decimals, the suffix, the space before it."""
    match = _PRINTED.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise SettingError(f"printed figure (={text!r}) must be digits with an optional K, M or G, for example '18.8K'")
    decimals = match["decimals"] or ""
    whole = match["whole"].replace(",", "")
    return int(whole + decimals), len(decimals), match["suffix"], match["space"] if match["suffix"] else ""


def _fraction(value: Exact, name: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | Fraction | Decimal):
        raise SettingError(f"{name} (={value!r}) must be an int, a Fraction or a Decimal, never a float")
    if isinstance(value, Decimal) and not value.is_finite():
        raise SettingError(f"{name} (={value}) must be finite")
    return Fraction(value)


def _power_of_ten(unit: Exact) -> int:
    fraction = _fraction(unit, "unit")
    whole = max(fraction.numerator, fraction.denominator)
    exponent = len(str(whole)) - 1
    if whole != 10**exponent or min(fraction.numerator, fraction.denominator) != 1:
        raise SettingError(f"unit (={unit}) must be a power of ten")
    return exponent if fraction >= 1 else -exponent


def _decimal(multiple: int, exponent: int) -> Decimal:
    """Build multiple · 10^exponent from digits: arithmetic on Decimals would round to the context."""
    if exponent >= 0:
        return Decimal(multiple * 10**exponent)
    return Decimal((int(multiple < 0), tuple(map(int, str(abs(multiple)))), exponent))
