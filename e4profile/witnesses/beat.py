"""A sign of life in long work: whoever waits is told between two steps, by the work itself rather than by a thread.

The clock's work gives none: what is timed runs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_heard: list[Callable[[], None]] = []


def beat() -> None:
    """Tell who waits, if anybody does, that the work goes on."""
    if _heard:
        _heard[-1]()


@contextmanager
def heard(listener: Callable[[], None]) -> Iterator[None]:
    """Let a listener, which must be quick, hear every beat."""
    _heard.append(listener)
    try:
        yield
    finally:
        _heard.remove(listener)
