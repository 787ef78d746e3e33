"""How a network is named: ``e4net``, ``net.py:Net(width=8)``, or with a name of its own ``Ours=net.py:Net(width=8)``.

One grammar wherever a network is named: ``[NAME=]NETWORK[(ARGUMENT=VALUE, ...)]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.subjects.written import plain_value

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject

_SHOWN = 60
_CLOSES = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Named:
    """What stands for a network.

    Attributes:
        reference: a card's name, a card file, or the reference of a builder.
        arguments: of this network alone.
        name: that its row is to have; empty where none was given.
    """

    reference: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def parse_named(text: str) -> Named:
    """Read what stands for a network; an existing file whose path looks otherwise is itself.

    Raises:
        SettingError: for an empty name, parentheses without their counterpart, or an argument that cannot be read.
    """
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... of {len(text):,} characters"
    if _is_path(text):
        return Named(text)
    name, rest = "", text.strip()
    assigned = next(_outside(rest, "="), None)
    if assigned is not None:
        name, rest = rest[:assigned].strip(), rest[assigned + 1 :].strip()
        if not name or not rest:
            what = "name before" if not name else "network behind"
            raise SettingError(f"{shown!r}: the {what} = is empty: write NAME=NETWORK, for example Ours=e4net(width=8)")
    try:
        opened = _opened(rest)
    except ValueError:
        text = f"{shown!r}: unbalanced parentheses or quotes: write NETWORK(ARGUMENT=VALUE, ...)"
        raise SettingError(text) from None
    if opened is None:
        return Named(rest, name=name)
    return Named(rest[:opened].strip(), _arguments(rest[opened + 1 : -1], shown), name)


def _is_path(text: str) -> bool:
    """Whether a text that would be read as more names a file as it is."""
    source = text.rpartition(":")[0] or text
    if not any(mark in source for mark in "=("):
        return False
    try:
        return source.endswith((".py", ".toml")) and Path(source).is_file()
    except (OSError, ValueError):  # a name too long, or no name of a file
        return False


def split_named(text: str) -> list[str]:
    """Networks side by side, ``e4net,net.py:Net(width=8, depth=2)``: commas between arguments divide nothing."""
    return [part for part in _parts(text, _outside(text, ",")) if part]


def split_outside(text: str, mark: str) -> list[str]:
    """The parts between marks that are outside of brackets and of quotes."""
    return _parts(text, _outside(text, mark, inside=True))


_KEY = re.compile(r"\s*[A-Za-z_][\w.-]*\s*:?=")


def split_pairs(text: str) -> list[str]:
    """``KEY=VALUE`` side by side, ``width=8,16,act=gelu``: a comma before a key divides, another is of the value."""
    return _parts(text, (place for place in _outside(text, ",", inside=True) if _KEY.match(text, place + 1)))


def _parts(text: str, cuts: Iterable[int]) -> list[str]:
    return [text[start + 1 : end].strip() for start, end in pairwise([-1, *cuts, len(text)])]


def distinct(subjects: Sequence[Subject]) -> None:
    """Refuse rows that could not be told apart: two networks under a name that was given.

    Raises:
        SettingError: naming it.
    """
    rows = [one.full_name for one in subjects]
    for one in subjects:
        if one.row and rows.count(one.full_name) > 1:
            raise SettingError(f"the name {one.row!r} is given {rows.count(one.full_name)} times: give each its own")


def _scanned(text: str, *, inside: bool = False) -> Iterator[tuple[int, str, int]]:
    """Place, character and depth of what is outside of quotes, then the end; an open quote is one deeper there.

    A bracket has the depth that is outside of it, one without its counterpart -1. Outside of parentheses quotes and
    other brackets are letters, unless the text is ``inside`` of some itself.
    """
    waiting: list[str] = []
    quote = ""
    for place, character in enumerate(text):
        among = bool(waiting) or inside
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and among:
            quote = character
        elif character == "(" or (character in _CLOSES and among):
            yield place, character, len(waiting)
            waiting.append(_CLOSES[character])
        elif character == ")" or (character in _CLOSES.values() and among):
            matches = bool(waiting) and character == waiting.pop()
            yield place, character, len(waiting) if matches else -1
        else:
            yield place, character, len(waiting)
    yield len(text), "", len(waiting) + bool(quote)


def _outside(text: str, mark: str, *, inside: bool = False) -> Iterator[int]:
    """Where a mark is outside of brackets and of quotes."""
    return (place for place, character, depth in _scanned(text, inside=inside) if character == mark and not depth)


def _opened(text: str) -> int | None:
    """Where the parenthesis opens that the text ends with, behind a name; None for a text without arguments.

    Raises:
        ValueError: for parentheses without their counterpart.
    """
    folder = text.rpartition("/")[0] if not text.endswith(")") else ""
    scanned = list(_scanned(text[len(folder) :]))
    if any(depth < 0 for _, _, depth in scanned) or scanned[-1][2]:
        raise ValueError
    opened = [place for place, character, depth in scanned if character == "(" and not depth]
    return opened[-1] if opened and opened[-1] and text.endswith(")") else None


def _arguments(text: str, shown: str) -> dict[str, Any]:
    parts = split_outside(text, ",")
    if not parts[-1]:  # nothing in between, or a comma at the end
        parts.pop()
    found: dict[str, Any] = {}
    for part in parts:
        key, _, value = (one.strip() for one in part.partition("="))
        if not key.isidentifier() or not value:
            raise SettingError(f"{shown!r}: {part!r} must be ARGUMENT=VALUE, for example width=24")
        if key in found:
            raise SettingError(f"{shown!r}: {key} is given twice")
        try:
            found[key] = plain_value(value)
        except RecursionError:
            raise SettingError(f"{shown!r}: the value of {key} is nested too deeply") from None
    return found
