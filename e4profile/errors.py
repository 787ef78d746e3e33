"""Errors for the person at the keyboard: one line, the value, the remedy. Files that are read so, or written whole."""

from __future__ import annotations

import codecs
import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


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
    """An unknown name; carries the nearest names that exist."""

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


def one_of(what: str, name: str, known: Iterable[str]) -> str:
    """The name itself, where it is one of those that are known.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if name not in known:
        raise UnknownNameError(what, name, known)
    return name


def is_many(value: object) -> bool:
    """Whether a value is a whole number for each of many settings (``e4profile.layers.many``)."""
    return getattr(type(value), "is_many", False)


def divisors(number: int) -> str:
    """The whole numbers that divide one, as a refusal names them: the first few."""
    if is_many(number):
        # the sentence is made anew for the setting that is asked about
        return "its divisors"
    found = list(islice((one for one in range(1, min(number, _LARGEST) + 1) if number % one == 0), _LISTED))
    return ", ".join(map(str, found)) + (", ..." if found[-1] != number else "")


def some_of(texts: Sequence[str], mark: str = ", ", most: int = 5) -> str:
    """The first few texts on one line, and how many more there are."""
    return mark.join([*texts[:most], *([f"and {len(texts) - most:,} more"] if len(texts) > most else [])])


def positive(**values: int) -> None:
    """Refuse values that are not positive integers.

    Raises:
        SettingError: naming the first value that is not an integer of at least one.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not (isinstance(value, int) or is_many(value)) or value < 1:
            raise SettingError(f"{name} (={value!r}) must be a positive integer")


def not_negative(**values: int) -> None:
    """Refuse negative values.

    Raises:
        SettingError: naming the first one.
    """
    for name, value in values.items():
        if value < 0:
            raise SettingError(f"{name} (={value}) must not be negative")


_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode(content: bytes) -> str:
    """Bytes as text, as other programs write it: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        UnicodeDecodeError: for bytes that are neither.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    return content.decode(encoding)


_MOST_BYTES = 1 << 28


def read_text(file: Path, error: type[E4ProfileError] = SettingError) -> str:
    """A file's text.

    Raises:
        error: naming the file, when it cannot be read, is no text or has no end that a text would have.
    """
    try:
        # without O_NONBLOCK a pipe is opened when somebody writes to it, perhaps never
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as stream:
            os.set_blocking(descriptor, True)
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise error(f"{file}: cannot be read: it is longer than {_MOST_BYTES >> 20} MiB; give a file of text")
        return decode(content)
    except OSError as problem:
        raise error(f"{file}: cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{file}: cannot be read: it is not text: {problem}") from problem


def read_document(file: Path, what: str, schema: int, remedy: str) -> dict[str, Any]:
    """The object in a JSON file that says its schema.

    Raises:
        SettingError: naming the file, for one that cannot be read, is no JSON or of another schema.
    """
    import json

    text = read_text(file)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"the {what} {file} is not JSON ({error}); {remedy}") from error
    found = data.get("schema") if isinstance(data, dict) else None
    if type(found) is not int or found != schema:
        raise SettingError(
            f"the {what} {file} has schema {found!r}; this version of e4profile reads {schema}; {remedy}"
        )
    document: dict[str, Any] = data
    return document


def is_special(path: Path) -> bool:
    """Whether there is something at a path that bytes can only be sent to: a pipe, a terminal, a device."""
    return path.exists() and not (path.is_file() or path.is_dir())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before.

    A symbolic link stays one: the file that it leads to is written. A pipe or a device is written to, and stays.

    Raises:
        OSError: when it cannot be written.
    """
    if is_special(path):
        # unbuffered, so that closing has nothing left to fail on
        with path.open("wb", buffering=0) as stream:
            view = memoryview(content)
            while view:
                view = view[stream.write(view) :]
        return
    import tempfile

    target = Path(os.path.realpath(path))
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        # mkstemp grants the owner only; what people read is an ordinary file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


MOST_BITS = 64
"""TOML promises whole numbers of this many bits; of far longer ones Python shows no digits and makes no fractions."""


class LongNumber(ValueError):
    """A whole number of more bits than TOML promises."""


def short_numbers(data: Any) -> Any:
    """What was read, where every whole number in it has the bits that TOML promises.

    Raises:
        LongNumber: otherwise.
    """
    left = [data]
    while left:  # no recursion: tables may be nested deeper than Python calls
        value = left.pop()
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise LongNumber(f"a whole number of {value.bit_length():,} bits is too long: give at most {MOST_BITS}")
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return data


def parse_toml(text: str, where: object, error: type[E4ProfileError] = SettingError) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        error: beginning with ``where``, for a text that is no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return short_numbers(tomllib.loads(text))  # type: ignore[no-any-return]
    except RecursionError:
        raise error(f"{where}: not TOML that can be read: nested too deeply") from None
    except LongNumber as problem:
        raise error(f"{where}: {problem}") from None
    except ValueError as problem:
        # also for whole numbers of more digits than Python reads
        raise error(f"{where}: not TOML: {problem}") from problem


_WORDS = {
    "int": "a whole number", "float": "a number", "str": "a text in quotes", "bool": "true or false",
    "object": "a table", "array": "a list", "null": "nothing",
}  # fmt: skip
_MOST_SHOWN = 100
_STEP = re.compile(r"(\w+)|\[([0-9]+)\]")


def from_table(
    table: Any, kind: type[T], where: str = "", error: type[E4ProfileError] = SettingError, **ours: Any
) -> T:
    """A table of TOML or JSON as a dataclass, without any conversion of types.

    Args:
        table: as it was read.
        kind: the dataclass; what its ``__post_init__`` refuses begins with the key.
        where: what messages begin with: the file and the place in it.
        error: to raise.
        ours: fields that are no keys of the table.

    Raises:
        error: naming place, key, value and what it must be, for a wrong type, a missing or an unknown key.
    """
    import msgspec

    given = table
    if isinstance(table, Mapping):
        known = {field.name for field in fields(kind)} - set(ours)  # type: ignore[arg-type]
        for key in table:
            if key not in known:
                raise error(f"{where}{key}: {UnknownNameError('key', str(key), known)}")
        given = {**table, **ours}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as problem:
        raise error(_refusal(str(problem), where, given)) from problem


def _refusal(problem: str, where: str, given: Any) -> str:
    said, _, place = problem.partition(" - at `$")
    place = place.strip(".`")
    if said.startswith("Expected "):
        # the library does not say which value of a mapping it was
        known, unnamed, _ = place.partition("[...]")
        for name, index in _STEP.findall(known):
            given = given[name or int(index)]
        types, _, _ = said.removeprefix("Expected ").partition(", got ")
        must = re.sub("`(.+?)`", lambda found: " or ".join(map(_in_words, found[1].split(" | "))), types)
        return f"{(where + place).rstrip('. :')}: {'a value in ' if unnamed else ''}{_shown(given)} must be {must}"
    place = place and f"{place}."
    missing = re.fullmatch("Object missing required field `(.+)`", said)
    return f"{where}{place}{missing[1]}: missing" if missing else f"{where}{place}{said}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _in_words(kind: str) -> str:
    return _WORDS.get(kind, kind)
