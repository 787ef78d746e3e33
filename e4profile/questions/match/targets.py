"""What a match is to come near to: a quantity as people write it, or a network's name."""

from __future__ import annotations

import re

from e4profile.errors import UnknownNameError
from e4profile.subjects.subject import names_code
from e4profile.subjects.written import DURATION, SIZE, parse_count, parse_duration, parse_size, quantity_of

PREDICTED = "predicted"
"""A time that a calibration predicts: unlike a measured one it is compared exactly."""

UNITS = {"params": "parameters", "macs": "MACs", "time": "seconds", PREDICTED: "seconds", "memory": "bytes"}

_PARSERS = {
    "params": parse_count, "macs": parse_count, "time": parse_duration, PREDICTED: parse_duration, "memory": parse_size
}  # fmt: skip
QUANTITIES = tuple(_PARSERS)
"""What two networks can be matched by."""

_NUMERIC = re.compile(r"[+-]?(?:[0-9.]|nan\b|inf(?:inity)?\b)", re.IGNORECASE)


def is_number(text: str) -> bool:
    """Whether a text is meant as a number, readable or not, rather than as a network's name."""
    return _NUMERIC.match(text.strip()) is not None and not ("=" in text or names_code(text) or text.endswith(".toml"))


def quantity_by_unit(text: str) -> str | None:
    """``time`` or ``memory`` where only that has such a unit; None otherwise."""
    quantity = quantity_of(text) if is_number(text) else None
    return "time" if quantity is DURATION else "memory" if quantity is SIZE else None


def wanted(text: str | int | float, by: str, option: str = "target") -> int | float | None:
    """The cost that a text asks for: ``25210``, ``25k``, ``3G``, ``1e6``, ``12ms``, ``2GiB``.

    Args:
        text: the quantity (see ``e4profile.subjects.written``); an int or a float is taken as it is.
        by: one of ``QUANTITIES``.
        option: what the number was given as, for messages.

    Returns:
        Seconds for times and a whole number otherwise; None for a text that is not a number but a name.

    Raises:
        SettingError: for a number that no cost can be, saying what is wrong with it.
        UnknownNameError: for another quantity.
    """
    if by not in _PARSERS:
        raise UnknownNameError("quantity", by, QUANTITIES)
    return None if isinstance(text, str) and not is_number(text) else _PARSERS[by](text, option)
