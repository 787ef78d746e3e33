"""``python -m e4profile`` and the command ``e4profile``: nothing is imported before Ctrl-C is one line."""

from __future__ import annotations

# the built-in module: signal itself imports enum, and Ctrl-C amid that would be a traceback
import _signal  # type: ignore[import-not-found]
import atexit
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_INTERRUPTED = 130

_YOUNG_OBJECTS = 100_000
"""After how many new objects the garbage collector looks at them: importing torch makes 380 times the usual 700."""


def _interrupted(number: int, frame: FrameType | None) -> None:
    """End at once: an exception amid the imports would come out as somebody's traceback or import error."""
    del number, frame
    try:
        os.write(2, b"\ne4profile: interrupted\n")
    finally:
        os._exit(_INTERRUPTED)


def _raised(number: int, frame: FrameType | None) -> None:
    """Raise ``KeyboardInterrupt``, but not amid torch's import: its extension swallows it and goes on without numpy."""
    if getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False):
        _interrupted(number, frame)
    _signal.default_int_handler(number, frame)


def _listen() -> bool:
    """Take Ctrl-C over; False for a program started in the background, which may have been told to ignore it."""
    listens = _signal.getsignal(_signal.SIGINT) in (_signal.default_int_handler, _interrupted)
    if listens:
        _signal.signal(_signal.SIGINT, _interrupted)
    return listens


if __name__ == "__main__":
    _listen()


def _freeze() -> None:
    """Collect no garbage among modules at the end; triton's extension would take what is left for leaks and say so."""
    if "triton" not in sys.modules:
        gc.freeze()


def main() -> None:
    """Run the program; Ctrl-C while it is imported ends it like Ctrl-C later."""
    listens = _listen()
    gc.set_threshold(_YOUNG_OBJECTS)
    # modules are no garbage at the end either: collecting them takes a quarter of the time that importing torch takes
    atexit.register(_freeze)
    if listens:
        # registered first, so it runs last: behind it the interpreter gives the signal back to the system, whose
        # default ends the process without an exit code although the result is out
        atexit.register(_signal.signal, _signal.SIGINT, _signal.SIG_IGN)
    from e4profile.cli.main import main as run

    try:
        if listens:
            _signal.signal(_signal.SIGINT, _raised)
        run()
    except KeyboardInterrupt:
        sys.stderr.write("\ne4profile: interrupted\n")
        sys.exit(_INTERRUPTED)
    finally:
        if listens:
            # threads that are waited for, and what others do at the end, can still be interrupted
            _signal.signal(_signal.SIGINT, _interrupted)
            # Python takes an interrupt that passed an exec of text for unhandled until the next text is run, and
            # would end by the signal instead of with our code
            exec("")


if __name__ == "__main__":
    main()
