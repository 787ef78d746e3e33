"""The store of finished settings: one self-describing JSON line each, only ever appended.

Processes on several machines may write one file on a shared file system. A line is one write, at the end of the file,
under a lock; the lock of one machine keeps out the others on NFS 4 and wherever else locks are shared, and appending
is atomic on a local disk, Lustre and GPFS without it. Nothing is ever cut off or moved. What a killed
run left of a line may be a line that another machine still writes, so it is ended and kept, and every reader names it.
If two machines of an NFS without locks write over each other, the checksum shows it, and the setting is counted again.
``e4profile.records.claims`` decides which process counts which setting.

Schema history:
    1: ``schema, kind, card, arguments, counts, counters, environment``, and ``checksum``, which protects them: a line
        whose values are not those that were written is kept but not used. Older lines have no checksum; the counts of
        a sweep are then checked one by one, and their verdict is computed again.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from e4profile.errors import SettingError, from_table

try:
    import fcntl
except ImportError:  # pragma: no cover - no such module on Windows
    fcntl = None  # type: ignore[assignment]

SCHEMA_VERSION = 1

_BEGINNING = b'{"schema": 1, "kind": "'
_CHECKSUM = "checksum"
_SCALARS = (str, int, float, bool, type(None))


def record_key(kind: str, card: str, arguments: Mapping[str, object], counters: Mapping[str, str]) -> str:
    """What makes two records the same work: equal for the same kind, card, arguments and counter versions.

    The order of the arguments does not matter; the key is the same on every machine and Python.
    """
    work = json.dumps([kind, card, dict(arguments), dict(counters)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(work.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished setting.

    Attributes:
        card: the name of the network's card.
        arguments: every argument of the setting; JSON scalars.
        counts: what was counted; JSON values, integers exact at any size.
        counters: the version of each counter, by name.
        environment: where it was counted (see `e4profile.witnesses.environment`).
        kind: the job that wrote it.
        schema: the version of the line's layout.

    Raises:
        SettingError: for a value that a line of JSON would not give back as it was.
    """

    card: str
    arguments: dict[str, Any]
    counts: dict[str, Any]
    counters: dict[str, str]
    environment: dict[str, Any] = field(default_factory=dict)
    kind: str = "sweep"
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if type(self.schema) is not int or self.schema != SCHEMA_VERSION:
            raise SettingError(f"schema (={self.schema!r}) must be {SCHEMA_VERSION}, the one this version writes")
        for name, value in self.arguments.items():
            if not isinstance(value, _SCALARS):
                raise SettingError(f"arguments[{name!r}] (={value!r}) must be a number, a text, a boolean or None")

    @property
    def key(self) -> str:
        """The same for the same work, see `record_key`; a run resumes by it."""
        return record_key(self.kind, self.card, self.arguments, self.counters)

    def to_line(self) -> str:
        """The record as one line of JSON, without the line end.

        Raises:
            SettingError: for a value that JSON does not keep: a tuple, a NaN, a key that is not text, ...
        """
        values = {name: getattr(self, name) for name in _LINE_ORDER}
        try:
            line = json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SettingError(f"record of card {self.card!r} cannot be written as JSON: {error}") from error
        kept = json.loads(line)
        for name, value in values.items():
            if kept[name] != value:
                raise SettingError(f"{name} (={value!r}) of card {self.card!r} holds a value that JSON does not keep")
        return json.dumps({**values, _CHECKSUM: _checksum(kept)})


@dataclass(frozen=True)
class SweepCounts:
    """The counts of a sweep's record, of those that every one has."""

    params_formula: int
    params_measured: int
    macs_formula: int
    macs_measured: int
    params_printed_form: int
    macs_printed_form: int
    agrees: bool
    differences: list[str]
    unknown: dict[str, int]
    terms: dict[str, int]
    failures: dict[str, str]
    fvcore: int | None
    thop: int | None
    gaps: dict[str, dict[str, int]]

    def __post_init__(self) -> None:
        for name in ("params_formula", "params_measured", "macs_formula", "macs_measured"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} (={getattr(self, name)}) must not be negative")
        formula, measured = (self.params_formula, self.macs_formula), (self.params_measured, self.macs_measured)
        verdict = not self.differences and not self.unknown and "closed-form" not in self.failures
        if self.agrees != verdict or (verdict and formula != measured):
            raise SettingError(f"agrees (={self.agrees}) is not what its counts give: {formula} against {measured}")


_LINE_ORDER = ("schema", "kind", "card", "arguments", "counts", "counters", "environment")


def _checksum(values: Mapping[str, Any]) -> str:
    """Of the values and not of their text: the same after another program has written the line anew."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


class RecordStore:
    """Records in one append-only file, safe against killed runs and against several writers at once.

    Attributes:
        path: the file; its folder is made when the first record is written.
        option: where a user names it, for what cannot be written.
        notes: what was read and not used, one sentence each, with line number and reason.
    """

    def __init__(self, path: str | os.PathLike[str], option: str = "--out") -> None:
        self.option = option
        self.path = Path(path)
        self.notes: list[str] = []
        self._is_ours = False
        self._begin()

    def _begin(self) -> None:
        self._offset = self._lines = 0
        self._found: dict[str, tuple[int, dict[str, Any]]] = {}

    def load(self) -> list[Record]:
        """Every readable record in the order written; a missing file has none.

        A line that is corrupt, cut short by a killed run, of another schema or not as it was written is skipped, as
        is one whose work and counts are those of an earlier line. It stays in the file, and `notes` says which and why.

        Raises:
            SettingError: when the file is there but cannot be read.
        """
        self.notes = []
        self._begin()
        return self._read_on(to_the_end=True)

    def follow(self) -> list[Record]:
        """The readable records that were appended since this store last read, by this process or another.

        A last line without its end is left for the next call: it may be in the making.

        Raises:
            SettingError: when the file is there but cannot be read.
        """
        return self._read_on(to_the_end=False)

    def _read_on(self, *, to_the_end: bool) -> list[Record]:
        try:
            with self._opened(os.O_RDONLY, exclusive=False) as descriptor:
                content = _read_all(descriptor, self._offset)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SettingError(f"cannot read records from {self.path}: {error.strerror}") from error
        *lines, last = content.split(b"\n")
        records = [record for number, line in enumerate(lines, self._lines + 1) if (record := self._read(number, line))]
        self._lines += len(lines)
        self._offset += len(content) - len(last)
        if last and to_the_end and (record := self._read(self._lines + 1, last)):
            records.append(record)
        return records

    def _read(self, number: int, line: bytes) -> Record | None:
        try:
            # some editors put a mark before the first line
            record = _parse(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
            earlier, counts = self._found.setdefault(record.key, (number, record.counts))
            if earlier != number and counts == record.counts:
                raise SettingError(f"it repeats line {earlier}, with the same counts of the same work")
        except SettingError as error:
            self.note(f"line {number} is skipped: {error}")
            return None
        return record

    def append(self, record: Record) -> None:
        """Add one line, whole or not at all.

        Raises:
            SettingError: when the record cannot be written as JSON, or the file cannot be written or is of another
                kind.
        """
        line = record.to_line().encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened(os.O_RDWR | os.O_CREAT | os.O_APPEND, exclusive=True) as descriptor:
                self._refuse_foreign(descriptor)
                if _end_is_ragged(descriptor):
                    line = b"\n" + line
                if os.write(descriptor, line) != len(line):
                    raise SettingError(f"cannot write records to {self.path}: the disk is full; free some space")
        except OSError as error:
            raise self._unwritable(error) from error

    def note(self, note: str) -> None:
        """Add to ``notes`` what is said once."""
        sentence = f"{self.path.name}: {note}"
        if sentence not in self.notes:
            self.notes.append(sentence)

    def check_writable(self) -> None:
        """Find out before the work begins, rather than after, that records cannot be written here.

        Makes the folder and, when it is missing, the empty file.

        Raises:
            SettingError: naming the path and what to do, also for a file that holds no records.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened(os.O_RDWR | os.O_CREAT | os.O_APPEND, exclusive=True) as descriptor:
                self._refuse_foreign(descriptor)
        except OSError as error:
            raise self._unwritable(error) from error

    @contextmanager
    def _opened(self, flags: int, *, exclusive: bool) -> Iterator[int]:
        """The open file, under a lock that keeps other writers out where there are locks."""
        # without O_NONBLOCK a pipe is opened when the other end is, perhaps never
        more = (getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK"))
        descriptor = os.open(self.path, flags | sum(more), 0o666)
        try:
            kind = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(kind) and not (exclusive and stat.S_ISCHR(kind)):
                raise OSError(errno.EINVAL, "it is not an ordinary file")
            _lock(descriptor, exclusive)
            yield descriptor
        finally:
            os.close(descriptor)

    def _refuse_foreign(self, descriptor: int) -> None:
        """Refuse a file in which no line is a record: it is somebody else's."""
        if self._is_ours:
            return
        content = _read_all(descriptor) if os.fstat(descriptor).st_size else b""
        *lines, last = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
        if content and not any(map(_is_record, (*lines, last))) and not _is_torn(last):
            raise SettingError(f"{self.path} holds no records and is left as it is: choose another file")
        self._is_ours = True

    def _unwritable(self, error: OSError) -> SettingError:
        return SettingError(
            f"cannot write records to {self.path}: {error.strerror}; choose another place with {self.option}"
        )


def _lock(descriptor: int, exclusive: bool) -> None:
    # some network file systems have no locks; O_APPEND still keeps whole lines apart
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)


def _read_all(descriptor: int, start: int = 0) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    chunks = []
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def _end_is_ragged(descriptor: int) -> bool:
    if os.fstat(descriptor).st_size == 0:
        return False
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1) != b"\n"


def _is_torn(line: bytes) -> bool:
    """Whether a line without an end can be the beginning of a record."""
    return line.startswith(_BEGINNING) or (bool(line) and _BEGINNING.startswith(line))


def _is_record(line: bytes) -> bool:
    """Whether a line is a record, perhaps of another schema, or damaged behind its beginning."""
    if line.startswith(_BEGINNING):
        return True
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and set(_LINE_ORDER) <= set(values)


def _parse(line: bytes) -> Record:
    """Raises SettingError with the reason why a line is no record."""
    try:
        values = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise SettingError("it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        if _is_torn(line) and not line.rstrip().endswith(b"}"):
            raise SettingError("it was cut short, as by a killed run") from error
        raise SettingError(f"it is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise SettingError("it is not a JSON object")
    if values.get("schema") != SCHEMA_VERSION:
        raise SettingError(f"its schema is {values.get('schema')!r}, this version reads {SCHEMA_VERSION}")
    if missing := sorted({field.name for field in fields(Record)} - set(values)):
        raise SettingError(f"{', '.join(missing)}: missing")
    protected, checksum = _CHECKSUM in values, values.pop(_CHECKSUM, None)
    record = from_table(values, Record)
    if protected and checksum != _checksum(values):
        raise SettingError(f"its checksum (={checksum!r}) is not that of its values: it was damaged or edited")
    if not protected and record.kind == "sweep":
        known = {one.name for one in fields(SweepCounts)}
        from_table({name: value for name, value in record.counts.items() if name in known}, SweepCounts, "counts: ")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
