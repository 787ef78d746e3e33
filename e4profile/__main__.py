"""``python -m e4profile`` and the command ``e4profile``: nothing is imported before Ctrl-C is one line."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

_INTERRUPTED = 130

_YOUNG_OBJECTS = 100_000
"""After how many new objects the garbage collector looks at them: importing torch makes 380 times the usual 700."""


def _interrupted(number: int, frame: FrameType | None) -> None:
    """End at once: an exception amid the imports would come out as somebody's traceback or import error."""
    del number, frame
    with suppress(OSError):
        os.write(2, b"\ne4profile: interrupted\n")
    os._exit(_INTERRUPTED)


def main() -> None:
    """Run the program; Ctrl-C while it is imported ends it like Ctrl-C later."""
    gc.set_threshold(_YOUNG_OBJECTS)
    # modules are no garbage at the end either: collecting them takes a quarter of the time that importing torch takes
    atexit.register(gc.freeze)
    # a program started in the background may have been told to ignore Ctrl-C
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, _interrupted)
        # registered first, so it runs last: behind it the interpreter gives the signal back to the system, whose
        # default ends the process without an exit code although the result is out
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    from e4profile.cli.main import main as run

    try:
        if listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.stderr.write("\ne4profile: interrupted\n")
        sys.exit(_INTERRUPTED)
    finally:
        if listens:
            # threads that are waited for, and what others do at the end, can still be interrupted
            signal.signal(signal.SIGINT, _interrupted)


if __name__ == "__main__":
    main()
