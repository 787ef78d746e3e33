"""Where a command's words go: data to stdout, progress and notes to stderr."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e4profile.render.tables import Table


def terminal_width() -> int | None:
    """The columns a table must fit in: the terminal's, or ``COLUMNS``; None when piped."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) >= 20:
        return int(columns)
    return max(20, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def emit(table: Table, output_format: str, units: str = "auto") -> None:
    """Write a table to stdout in one of the formats."""
    from e4profile.render.tables import render

    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    sys.stdout.write(render(table, output_format, width=terminal_width(), color=color, units=units))
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Progress:
    """How far a long command is, on stderr: a live line on a terminal, first and last line otherwise."""

    def __init__(self, what: str, total: int) -> None:
        import time

        self._clock = time.monotonic
        self.what, self.total, self.done = what, total, 0
        self._start = self._clock()
        self._live = sys.stderr.isatty()
        if not self._live:
            note(f"{what}: {total} to do")

    def step(self, text: str) -> None:
        """One more is done; ``text`` says which."""
        self.done += 1
        if self._live:
            elapsed = self._clock() - self._start
            left = elapsed / self.done * (self.total - self.done)
            line = f"{self.what}: {self.done}/{self.total}, about {left:.0f} s left  {text}"
            width = max(20, shutil.get_terminal_size().columns)
            sys.stderr.write(f"\r\x1b[2K{line[: width - 1]}")
            sys.stderr.flush()

    def close(self) -> None:
        """Leave the line behind."""
        if self._live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        note(f"{self.what}: {self.done} of {self.total} done")
