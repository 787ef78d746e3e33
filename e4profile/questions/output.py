"""Where a command's words go: data to stdout, progress and notes to stderr."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e4profile.show.tables import Table


def terminal_width() -> int | None:
    """The columns a table must fit in: the terminal's, or ``COLUMNS``; None when piped."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) >= 20:
        return int(columns)
    return max(20, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def emit(table: Table, output_format: str, units: str = "auto") -> None:
    """Write a table to stdout in one of the formats."""
    from e4profile.show.tables import render

    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    sys.stdout.write(render(table, output_format, width=terminal_width(), color=color, units=units))
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def on_interrupt(remark: str | Callable[[], str] | None) -> Iterator[None]:
    """Say where a command left what it had finished, should Ctrl-C end it; nothing for None.

    Args:
        remark: the words, or what gives them once it is known how far the command came.
    """
    try:
        yield
    except KeyboardInterrupt:
        if remark is not None:
            # behind the terminal's ^C
            note(f"\n{remark if isinstance(remark, str) else remark()}")
        raise


class Progress:
    """How far a long command is, on stderr: on a terminal a bar with an estimate, which leaves nothing behind.

    Elsewhere the first and the last line, for the log of a run of minutes.

    Args:
        what: the command.
        total: how many steps there are.
        quiet: whether to say nothing where there is no terminal, and nothing at the end of what was finished.
    """

    _BAR = 20

    def __init__(self, what: str, total: int, *, quiet: bool = False) -> None:
        import time

        self._clock = time.monotonic
        self.what, self.total, self.done = what, total, 0
        self._start = self._clock()
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        if self._live:
            self._draw("")
        elif not quiet:
            note(f"{what}: {total} to do")

    def step(self, text: str) -> None:
        """One more is done; ``text`` says which."""
        self.done += 1
        if self._live:
            left = (self._clock() - self._start) / self.done * (self.total - self.done)
            self._draw(f", about {left:.0f} s left: {text}")

    def close(self, *, failed: bool = False) -> None:
        """Leave the line behind; a failure has a line of its own."""
        if self._live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        if not self._quiet or (self._live and self.done < self.total and not failed):
            note(f"{self.what}: {self.done} of {self.total} done")

    def _draw(self, text: str) -> None:
        filled = self._BAR * self.done // max(self.total, 1)
        bar = "#" * filled + "-" * (self._BAR - filled)
        width = max(20, shutil.get_terminal_size().columns)
        sys.stderr.write(f"\r\x1b[2K{f'{self.what} [{bar}] {self.done}/{self.total}{text}'[: width - 1]}")
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None and issubclass(kind, Exception))
