"""Words for those who wait: what a command is doing, once it has lasted two seconds."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

QUIET_S = 2.0
"""What is over by then says nothing."""

_EVERY_S = 10.0
_INTERRUPTED = 130


def stop_interrupted() -> NoReturn:
    """End the program after what was finished before Ctrl-C has been shown; nothing of it was stored."""
    sys.stderr.write("\ne4profile: interrupted; the result above holds what was finished, and no more\n")
    sys.exit(_INTERRUPTED)


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Give a function that is told in words what is being done.

    On a terminal one line of stderr is rewritten; otherwise a line is written at most every ten seconds.
    """
    live = sys.stderr.isatty()
    start = said = 0.0
    shown = False

    def say(text: str) -> None:
        nonlocal start, said, shown
        now = time.monotonic()
        # what came before the first words (loading torch) is not the work
        start = start or now
        if now - start < QUIET_S or (said and now - said < (0.1 if live else _EVERY_S)):
            return
        said = now
        line = f"{what}, {now - start:.0f} s: {text}"
        if live:
            width = max(20, shutil.get_terminal_size().columns)
            sys.stderr.write(f"\r\x1b[2K{line[: width - 1]}")
            shown = True
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    try:
        yield say
    finally:
        if shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
