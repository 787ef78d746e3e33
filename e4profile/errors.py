"""Errors written for the person at the keyboard: one line, the value, the remedy. And files read as text."""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path


class E4ProfileError(Exception):
    """Base of every error that the command line shows as one line with exit code 2.

    ``details`` stand below that line: for an error of the user's own code, its traceback.
    """

    details: str = ""


class SettingError(E4ProfileError, ValueError):
    """A value, or a combination of values, that cannot exist."""


_LARGEST = 4096
_LISTED = 24


class UnknownNameError(E4ProfileError, ValueError):
    """A name that nothing answers to; carries the nearest names that exist."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        """Build the message.

        Args:
            what: the kind of thing looked up, for example ``"group"``.
            name: the name that was not found.
            known: every name that would have been accepted.
        """
        names = sorted(known)
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
        listed = ", ".join(names[:_LISTED]) + (f", ... ({len(names)} in all)" if len(names) > _LISTED else "")
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {listed}"
        super().__init__(f"unknown {what} {name!r}; {hint}")


def divisors(number: int) -> str:
    """The whole numbers that divide one, as a refusal names them: the first few."""
    found = list(islice((one for one in range(1, min(number, _LARGEST) + 1) if number % one == 0), _LISTED))
    return ", ".join(map(str, found)) + (", ..." if found[-1] != number else "")


def positive(**values: int) -> None:
    """Refuse values that are not positive integers.

    Raises:
        SettingError: naming the first value that is not an integer of at least one.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SettingError(f"{name} (={value!r}) must be a positive integer")


_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode(content: bytes) -> str:
    """Bytes as text, as other programs write it: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        UnicodeDecodeError: for bytes that are neither.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    return content.decode(encoding)


def read_text(file: Path) -> str:
    """A file's text.

    Raises:
        OSError: when it cannot be read.
        UnicodeDecodeError: when it is no text.
    """
    return decode(file.read_bytes())
