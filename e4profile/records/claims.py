"""Which process works at which setting, known to every process that shares the folder.

A claim is a file that only one process can create. It names its holder, whose heartbeat touches it. A claim is dead
when its holder is: on the holder's own machine as soon as the process is gone, elsewhere when nothing has touched the
file for ``EXPIRES_S`` seconds. Only creation and removal of files are asked of the file system, which are atomic on
NFS too; locks, which some clusters switch off or keep to one node, are not. The time without a heartbeat is measured
by the clock of whoever waits, so that clocks may differ.

A dead claim is never removed while its setting is unfinished, since two processes that find it dead at once would
remove each other's new ones. The next claim has the next number instead, and again only one process can create it.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Container
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType

from e4profile.errors import SettingError

EXPIRES_S = 120.0
"""Without a heartbeat, after which a claim is dead. Attributes on NFS may be 60 s old."""

EMPTY_S = 5.0
"""The same for a claim that names no holder, as a process leaves it that is killed while it writes one."""

_BEAT_S = 10.0


class Claims:
    """The claims of this process in a folder; at the end of a ``with`` block it holds none.

    Args:
        folder: shared by all who share the work; made when the first claim is.
        expires_s: without a heartbeat, after which a claim of another machine is dead.
    """

    def __init__(self, folder: Path, expires_s: float = EXPIRES_S) -> None:
        self.folder = folder
        self._expires_s = expires_s
        self._held: dict[str, int] = {}
        self._watched: dict[Path, tuple[tuple[bytes, int], float]] = {}
        self._over = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, key: str) -> bool:
        """Whether this process holds the setting from now on: it was free, or whoever held it is dead.

        What the holder before has finished is known only afterwards: read the records after this call.

        Raises:
            SettingError: when the folder cannot be written.
        """
        number = 0
        try:
            while not self._create(self._path(key, number)):
                if not self._is_dead(self._path(key, number)):
                    return False
                number += 1
        except OSError as error:
            raise SettingError(
                f"cannot claim settings in {self.folder}: {error.strerror}; choose another folder with --out"
            ) from error
        self._held[key] = number
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="claims", daemon=True)
            self._heart.start()
        return True

    def finish(self, key: str) -> None:
        """Give up a setting whose record is stored, with the dead claims to it."""
        for number in range(self._held.pop(key) + 1):
            self._path(key, number).unlink(missing_ok=True)

    def give_back(self, key: str) -> None:
        """Give up a setting that is not finished; another process may take it at once."""
        self._path(key, self._held.pop(key)).unlink(missing_ok=True)

    def clear(self, finished: Container[str]) -> None:
        """Remove the dead claims to settings whose holders were killed just after they had stored them."""
        # another process that ends removes the empty folder
        with suppress(FileNotFoundError):
            for name in os.listdir(self.folder):
                path = self.folder / name
                if path.stem in finished and self._is_dead(path):
                    path.unlink(missing_ok=True)

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for key in list(self._held):
            self.give_back(key)
        self._over.set()
        if self._heart is not None:
            self._heart.join()
        # it is not there, or others work in it
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, key: str, number: int) -> Path:
        return self.folder / f"{key}.{number}"

    def _create(self, path: Path) -> bool:
        while True:
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return False
            except FileNotFoundError:
                # also when a process that ends removes the empty folder, even while it is made here
                try:
                    self.folder.mkdir(parents=True)
                except FileExistsError:
                    if self.folder.is_symlink():
                        # it leads nowhere
                        raise
            else:
                break
        try:
            os.write(descriptor, json.dumps([place(), os.getpid(), begun(os.getpid())]).encode())
        finally:
            os.close(descriptor)
        return True

    def _is_dead(self, path: Path) -> bool:
        try:
            # opening it asks an NFS server anew, looking at its time alone does not
            with path.open("rb") as file:
                seen = file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            # given up just now: the next call takes it
            return False
        now = time.monotonic()
        before, since = self._watched.get(path, (None, now))
        if seen != before:
            self._watched[path], since = (seen, now), now
        holder = _holder(seen[0])
        gone = holder is not None and holder[0] == place() and not runs(*holder[1:])
        return gone or now - since >= (EMPTY_S if holder is None else self._expires_s)

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_S):
            for key, number in list(self._held.items()):
                # given up meanwhile, or the file system is away: the next beat tries again
                with suppress(OSError):
                    os.utime(self._path(key, number))


def _holder(content: bytes) -> tuple[str, int, str] | None:
    """Place, number and beginning of the process that a claim names."""
    try:
        place, process, since = json.loads(content)
    except ValueError:
        return None
    return place, process, since


@cache
def place() -> str:
    """Where a process number means the same process: the machine, its boot, and the container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def runs(process: int, since: str) -> bool:
    """Whether a process of this place runs, and is the one that began then."""
    if os.name != "posix":
        # signal 0 is Ctrl-C there: time alone can tell
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # it runs and belongs to another user
        pass
    return begun(process) in ("", since)


def begun(process: int) -> str:
    """When a process began, since the start of the machine; "ended" for a zombie, empty where the system keeps it."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    # behind the program's name, which may hold spaces and brackets
    state, *more = text.rpartition(")")[2].split()
    return "ended" if state in ("Z", "X") else more[18]
