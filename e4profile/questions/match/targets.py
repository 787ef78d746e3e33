"""What a match is to come near to: numbers as people write them, with or without a unit."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from e4profile.errors import SettingError, UnknownNameError
from e4profile.subjects.subject import is_own

QUANTITIES = ("params", "macs", "time", "memory")
"""What two networks can be matched by."""

UNITS = {"params": "parameters", "macs": "MACs", "time": "seconds", "memory": "bytes"}

EXAMPLES = {"params": "25k", "macs": "3G", "time": "12ms", "memory": "2GiB"}

_COUNTS = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}
_SECONDS = {"s": 0, "ms": -3, "us": -6, "µs": -6, "ns": -9}
_BYTES = {"B": 1, **{f"{p}B": 1000**n for n, p in enumerate(("k", "M", "G", "T"), 1)}, "KB": 1000,
          **{f"{p}iB": 1024**n for n, p in enumerate(("K", "M", "G", "T"), 1)}}  # fmt: skip
_NUMERIC = re.compile(r"[+-]?(?:[0-9.]|nan\b|inf(?:inity)?\b)", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?P<exponent>[eE][+-]?[0-9]+)?[ ]?(?P<unit>[A-Za-zµ]*)"
)
_LARGEST_EXPONENT = 30


def is_number(text: str) -> bool:
    """Whether a text is meant as a number, readable or not, rather than as a network's name."""
    return _NUMERIC.match(text.strip()) is not None and not (is_own(text) or text.endswith(".toml"))


def quantity_by_unit(text: str) -> str | None:
    """``time`` or ``memory`` where the unit says so; None otherwise."""
    found = _NUMBER.fullmatch(text.strip()) if is_number(text) else None
    if found is None:
        return None
    return "time" if found["unit"] in _SECONDS else "memory" if found["unit"] in _BYTES else None


def wanted(text: str | int | float, by: str, option: str = "target") -> int | float | None:
    """The cost that a text asks for: ``25210``, ``25k``, ``3G``, ``1e6``, ``12ms``, ``2GiB``.

    Args:
        text: the number; an int or a float is taken as it is.
        by: one of ``QUANTITIES``.
        option: what the number was given as, for messages.

    Returns:
        Seconds for time and a whole number otherwise; None for a text that is no number but a name.

    Raises:
        SettingError: for a number that no cost can be, saying what is wrong with it.
        UnknownNameError: for another quantity.
    """
    if by not in QUANTITIES:
        raise UnknownNameError("quantity", by, QUANTITIES)
    if isinstance(text, str) and not is_number(text):
        return None
    value = _value(str(text).strip(), by, option, bare_seconds=not isinstance(text, str))
    if by == "time":
        if value <= 0:
            raise SettingError(f"{option} (={text}) must be a positive time, for example 12ms")
        return float(value)
    if value.denominator != 1 or value < 1:
        raise SettingError(f"{option} (={text}) must be a positive whole number of {UNITS[by]}")
    return int(value)


def _value(text: str, by: str, option: str, *, bare_seconds: bool) -> Fraction:
    example = EXAMPLES[by]
    if re.fullmatch(r"[+-]?nan", text, re.IGNORECASE):
        raise SettingError(f"{option} (={text}) is not a number: give one such as {example}")
    if re.fullmatch(r"[+-]?inf(?:inity)?", text, re.IGNORECASE):
        raise SettingError(f"{option} (={text}) is not finite: give a number such as {example}")
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise SettingError(f"{option} (={text}) cannot be read as a number: write it as {example}")
    digits = Decimal(found["sign"] + found["digits"].replace(",", "") + (found["exponent"] or ""))
    if digits and abs(digits.adjusted()) > _LARGEST_EXPONENT:
        raise SettingError(f"{option} (={text}) is beyond what any network costs: give a number such as {example}")
    return Fraction(digits) * _factor(found["unit"], text, by, option, bare_seconds=bare_seconds)


def _factor(unit: str, text: str, by: str, option: str, *, bare_seconds: bool) -> Fraction:
    counts = {name: Fraction(10) ** exponent for name, exponent in _COUNTS.items()}
    seconds = {name: Fraction(10) ** exponent for name, exponent in _SECONDS.items()}
    sizes = {name: Fraction(size) for name, size in _BYTES.items()}
    known = {"params": counts, "macs": counts, "memory": {**counts, **sizes}, "time": seconds}[by]
    if unit in known:
        return known[unit]
    if by == "time" and not unit:
        if bare_seconds:
            return Fraction(1)
        raise SettingError(f"{option} (={text}) is a time without its unit: write {text}ms or {text}s")
    if unit in {**counts, **seconds, **sizes}:
        what = "a time" if unit in seconds else "a size" if unit in sizes else "a count"
        raise SettingError(f"{option} (={text}) is {what}, but {by} is matched: give a number such as {EXAMPLES[by]}")
    listed = ", ".join(name for name in known if name)
    raise SettingError(f"{option} (={text}): unknown unit {unit!r}; known: {listed}")
