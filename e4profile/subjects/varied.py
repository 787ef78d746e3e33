"""What is varied: ``width``, ``width=8..64``, ``width=8..64..8`` or ``width=8,16,32``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from e4profile.errors import SettingError
from e4profile.subjects.plain_values import plain_value

_SPAN = re.compile(r"(?P<first>-?[0-9]+)\.\.(?P<last>-?[0-9]+)(?:\.\.(?P<step>-?[0-9]+))?")
_MOST = 10**6


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
    if found is None:
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
