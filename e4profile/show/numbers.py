"""Numbers as a reader sees them: grouped, in SI units, or at the precision of a published figure.

Rounding is exact decimal arithmetic with a half going away from zero, so the same number prints the same
everywhere; a float is taken at its exact binary value.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

Number = int | float | Fraction | Decimal
MISSING = "–"

_PREFIXES = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E", 21: "Z", 24: "Y"}


def grouped(value: int) -> str:
    """Every digit, with thousands grouping: ``18694`` is ``"18,694"``."""
    return f"{value:,}"


def fixed(value: Number, places: int) -> str:
    """A number with ``places`` decimals; one too small to show any digit keeps one: ``0.00042``."""
    exact = Fraction(value)
    rounded = _rounded(exact, places)
    while rounded == 0 and exact != 0 and places < 30:
        places += 1
        rounded = _rounded(exact, places)
    return f"{rounded:,f}"


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
