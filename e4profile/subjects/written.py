"""What people write on a command line or in a file: values, ranges, and quantities with their units.

Values are TOML's, and Python's own words for nothing, true and false. Ranges are ``width=8..64..8``. Quantities are
counts (``25k``), sizes (``24GiB``) and durations (``30 ms``): one parser for each, wherever one is read.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from e4profile.errors import MOST_BITS, SettingError, short_numbers

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_WORDS = {"none": None, "null": None, "true": True, "false": False}


def plain_value(text: str) -> Any:
    """A value from text: TOML; none and null as None, true and false in any case; anything else as the text itself.

    The word itself is written in quotes: ``'"None"'`` is the text None.

    Raises:
        RecursionError: for lists nested without end.
        SettingError: for a whole number of more bits than TOML promises.
    """
    word = text.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    if "\n" in text:
        # a second line would be a second key, not a part of the value
        return text
    try:
        return short_numbers(tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        return text
    except ValueError as error:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... of {len(text):,} characters"
        raise SettingError(f"{shown} holds a number that is too long: give at most {MOST_BITS} bits") from error


_SPAN = re.compile(r"(?P<first>-?[0-9]+)\.\.(?P<last>-?[0-9]+)(?:\.\.(?P<step>-?[0-9]+))?")
_MOST = 10**6
_LONGEST_SPAN = 100


@dataclass(frozen=True)
class Varied:
    """An argument, and the values it may take where they were given.

    Attributes:
        name: of the argument.
        span: whole numbers from a first to a last one, both included; None where none was given.
        values: listed values; None where none were.
    """

    name: str
    span: range | None = None
    values: tuple[Any, ...] | None = None

    @property
    def given(self) -> tuple[Any, ...] | None:
        """Every value that was given, in order."""
        return tuple(self.span) if self.span is not None else self.values


def described(arguments: Mapping[str, Any]) -> str:
    """``width=8, depth=3``."""
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def parse_varied(text: str, option: str = "--vary") -> Varied:
    """Read what is to be varied.

    Raises:
        SettingError: for a text without a name, an empty range, or a value that is none.
    """
    name, assigned, rest = text.partition("=")
    name, rest = name.strip(), rest.strip()
    if not name or (assigned and not rest):
        raise SettingError(f"{option}: {text!r} must be ARGUMENT, ARGUMENT=8..64, ARGUMENT=8..64..8 or ARGUMENT=8,16")
    if not assigned:
        return Varied(name)
    if ".." in rest:
        return Varied(name, span=_span(rest, option, text))
    values = _values(rest)
    # True equals 1, but is another value
    typed = [(type(value), value) for value in values]
    if any(one in typed[:place] for place, one in enumerate(typed)):
        raise SettingError(f"{option}: {text!r} names a value twice")
    return Varied(name, values=values)


def _span(rest: str, option: str, text: str) -> range:
    found = _SPAN.fullmatch(rest)
    if found is None or len(rest) > _LONGEST_SPAN:
        text = text if len(text) <= _LONGEST_SPAN else f"{text[:_SHOWN]}..."
        raise SettingError(f"{option}: {text!r} must be a range of whole numbers such as 8..64 or 8..64..8")
    first, last, step = int(found["first"]), int(found["last"]), int(found["step"] or 1)
    if step < 1:
        raise SettingError(f"{option}: {text!r}: the step (={step}) must be positive")
    if last < first:
        raise SettingError(f"{option}: {text!r} is empty: write the smaller number first, {last}..{first}")
    span = range(first, last + 1, step)
    if len(span) > _MOST:
        raise SettingError(f"{option}: {text!r} holds {len(span):,} values; at most {_MOST:,} are searched")
    return span


def _values(rest: str) -> tuple[Any, ...]:
    try:
        listed = plain_value(f"[{rest}]")
        if isinstance(listed, list):
            return tuple(listed)
        return tuple(plain_value(part.strip()) for part in rest.split(","))
    except RecursionError:
        return tuple(part.strip() for part in rest.split(","))


@dataclass(frozen=True)
class Quantity:
    """What is written with a unit.

    Attributes:
        name: with its article, for messages.
        forms: examples that are accepted, for messages.
        units: of one, by case-folded unit; without the empty unit a bare number is refused.
    """

    name: str
    forms: str
    units: Mapping[str, Fraction]


_DECIMAL = {unit: Fraction(1000**power) for power, unit in enumerate("kmgt", start=1)}
_BINARY = {f"{unit}ib": Fraction(1024**power) for power, unit in enumerate("kmgt", start=1)}
_BYTES = {f"{unit}b": size for unit, size in _DECIMAL.items()}
_ONE = {"": Fraction(1)}

COUNT = Quantity("a count", "25210, 25k, 3.2M or 1e9", _ONE | _DECIMAL)
_SIZED = {"b": Fraction(1), **_DECIMAL, **_BYTES, **_BINARY}
SIZE = Quantity("a size", "24GiB, 512MB or 50B", _SIZED)
BYTES = Quantity("a size", "24GiB, 512MB, 80 GB or 1e9", _ONE | _SIZED)
DURATION = Quantity(
    "a time",
    "30ms, 0.5 s, 250us or 2min",
    {"ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "μs": Fraction(1, 10**6), "ms": Fraction(1, 1000),
     "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600)},
)  # fmt: skip
_QUANTITIES = (COUNT, SIZE, DURATION)

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)"
    r"\s*(?P<unit>[a-zμ]*)"
)
_NO_NUMBER = re.compile(r"[+-]?(?:nan|inf|infinity)")
_LARGEST_EXPONENT = 30
_SHOWN = 40


def parse_count(value: str | float, what: str) -> int:
    """A whole number of things: ``25210``, ``25k``, ``18.8K``, ``3G`` or ``1e6``; a prefix is a power of 1000.

    Args:
        value: the text; a number is taken as it is.
        what: the value's name in messages, for example ``--params``.

    Raises:
        SettingError: naming the value and the accepted forms, unless it is a positive whole number.
    """
    found = _read(value, COUNT, what)
    if found.denominator != 1:
        raise _refused(value, COUNT, what, "must be a positive whole number")
    return int(found)


def parse_size(value: str | float, what: str, *, in_bytes: bool = False) -> int:
    """Bytes, rounded down: ``24GiB`` (1024³), ``80 GB`` or ``80G`` (1000³).

    Args:
        value: the text; without its unit it is refused, as a bare 50 may well mean megabytes. A number is in bytes.
        what: the value's name in messages.
        in_bytes: whether the name says bytes, so that ``"512"`` and ``"1e9"`` are bytes too.

    Raises:
        SettingError: as for `parse_count`, for less than one byte too.
    """
    quantity = BYTES if in_bytes or not isinstance(value, str) else SIZE
    size = int(_read(value, quantity, what))
    if not size:
        raise _refused(value, quantity, what, "must be at least one byte")
    return size


def size_unit(value: object) -> str:
    """The unit that a size is written in, ``MB`` for ``50 mb`` or ``50M``, in which an answer is given too.

    Empty for bytes, a bare number, and a text that is no size.
    """
    found = _QUANTITY.fullmatch(str(value).strip().casefold())
    unit = found["unit"] if found else ""
    if unit in _BINARY:
        return f"{unit[0].upper()}iB"
    if unit not in {**_DECIMAL, **_BYTES}:
        return ""
    return "kB" if unit[0] == "k" else f"{unit[0].upper()}B"


def parse_duration(value: str | float, what: str) -> float:
    """Seconds: ``30ms``, ``0.5 s``, ``250us``, ``2min`` or ``1h``; a text needs its unit, a number is in seconds.

    Raises:
        SettingError: as for `parse_count`.
    """
    return float(_read(value if isinstance(value, str) else f"{value}s", DURATION, what))


def parse_duration_in(unit: str, value: str | float, what: str) -> float:
    """A time in the unit that the name says: a number as it is, a text with another unit in this one.

    Raises:
        SettingError: as for `parse_count`.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    return number if math.isfinite(number) else float(_read(value, DURATION, what) / DURATION.units[unit])


def parse_percent(text: str, what: str) -> Decimal:
    """Percent as they are printed, exactly: ``0.9``, ``5%``.

    Raises:
        SettingError: for a text that is no percentage from 0 to 100.
    """
    try:
        found = Decimal(text.strip().removesuffix("%").strip())
    except InvalidOperation:
        found = Decimal("NaN")
    if not (found.is_finite() and 0 <= found <= 100):
        raise SettingError(f"{what}={text}: give a percentage from 0 to 100, for example 0.9")
    return found


def quantity_of(text: str) -> Quantity | None:
    """The quantity that a number's unit belongs to; a count without any, and None for a text that is not a number."""
    found = _QUANTITY.fullmatch(text.strip().casefold())
    return next((one for one in _QUANTITIES if found and found["unit"] in one.units), None)


def _read(value: str | float, quantity: Quantity, what: str) -> Fraction:
    """The positive value in the quantity's own unit."""
    text = str(value).strip().casefold()
    if _NO_NUMBER.fullmatch(text.removesuffix("s").rstrip()):
        raise _refused(value, quantity, what, "is not finite" if "inf" in text else "is not a number")
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise _refused(value, quantity, what, f"cannot be read as {quantity.name}")
    unit = found["unit"]
    if unit not in quantity.units:
        other = next((one.name for one in _QUANTITIES if unit in one.units), "")
        wrong = f"is {other}, not {quantity.name}" if other else f"has the unknown unit {unit!r}"
        raise _refused(value, quantity, what, wrong if unit else f"is {quantity.name} without its unit")
    try:
        number = Decimal(found["number"].replace(",", ""))
    except InvalidOperation:  # an exponent that is itself too large
        number = Decimal("Infinity")
    if not number.is_finite() or (number and abs(number.adjusted()) > _LARGEST_EXPONENT):
        raise _refused(value, quantity, what, "is out of range")
    if number <= 0:
        raise _refused(value, quantity, what, "must be positive")
    return Fraction(number) * quantity.units[unit]


def _refused(value: object, quantity: Quantity, what: str, wrong: str) -> SettingError:
    text = str(value)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... of {len(text)} characters"
    return SettingError(f"{what} (={shown}) {wrong}: write {quantity.forms}")
