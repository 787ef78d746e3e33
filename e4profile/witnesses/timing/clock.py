"""Clocks: how one sample is taken. On a CPU the process's own counter; on an accelerator a pair of events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from e4profile.errors import E4ProfileError, SettingError

CLOCK_DROP = 0.75
"""A sample taken below this fraction of the highest clock seen under load is discarded."""


class MeasurementError(E4ProfileError, RuntimeError):
    """A measurement that could not be made: says what stood in the way."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Work:
    """What is timed: ``call(prepare())``, where only the call is on the clock.

    What the call returns is kept until the clock has stopped, so that freeing it is not timed.
    """

    call: Callable[[Any], Any]
    prepare: Callable[[], Any] = _nothing


@dataclass(frozen=True)
class Reading:
    """One sample in seconds; ``dropped`` when the device ran at a reduced clock."""

    seconds: float
    dropped: bool = False


class Clock(Protocol):
    """Takes one sample at a time."""

    @property
    def name(self) -> str:
        """What the seconds are measured with."""

    def read(self, work: Work) -> Reading:
        """Prepare, then time one call."""


class CpuClock:
    """``time.perf_counter_ns`` around the call: the wall time of the calling thread. It sets marks too."""

    name = "time.perf_counter_ns"

    def read(self, work: Work) -> Reading:
        """Prepare, then time one call."""
        state = work.prepare()
        start_ns = self.mark()
        result = work.call(state)
        end_ns = self.mark()
        del result, state
        return Reading(self.seconds(start_ns, end_ns))

    def mark(self) -> int:
        """A point in time."""
        return time.perf_counter_ns()

    def synchronize(self) -> None:
        """Nothing is pending on the calling thread."""

    def seconds(self, start: int, end: int) -> float:
        """Between two marks."""
        return (end - start) * 1e-9


class ThreadClock(CpuClock):
    """``time.thread_time_ns``: the processor time of the calling thread, whatever else runs on the machine.

    For work on one thread that is its wall time on a machine with nothing else to do.
    """

    name = "time.thread_time_ns"

    def mark(self) -> int:
        """A point in the thread's time."""
        return time.thread_time_ns()


class DeviceEvents(Protocol):
    """What an event clock needs of a device; a test gives it a stub."""

    @property
    def name(self) -> str:
        """What the seconds are measured with."""

    def mark(self) -> Any:
        """Put an event into the stream that the work goes into."""

    def synchronize(self) -> None:
        """Wait until everything in the stream is done."""

    def seconds(self, start: Any, end: Any) -> float:
        """Between two events that are done."""

    def flush(self) -> None:
        """Put a write into the stream that pushes everything else out of the last-level cache."""

    def clock_mhz(self) -> float | None:
        """The device's present clock; None where nothing tells it."""


class EventClock:
    """Events before and after the call in its stream: the device's time, with the gaps between its kernels.

    Before each sample the last-level cache is flushed; the flush also lets the host run ahead. A sample at a
    dropped clock is marked: one below ``drop_below`` times the highest clock seen so far.
    """

    def __init__(self, events: DeviceEvents, drop_below: float = CLOCK_DROP) -> None:
        if not 0 <= drop_below <= 1:
            raise SettingError(f"drop_below (={drop_below}) must lie between 0 and 1")
        self.events, self.drop_below = events, drop_below
        self.highest_mhz = 0.0
        self.watched = False

    @property
    def name(self) -> str:
        """What the seconds are measured with."""
        return self.events.name

    def read(self, work: Work) -> Reading:
        """Prepare, flush, then time one call."""
        events = self.events
        state = work.prepare()
        events.flush()
        start = events.mark()
        result = work.call(state)
        end = events.mark()
        events.synchronize()
        seconds = events.seconds(start, end)
        del result, state
        return Reading(seconds, self._dropped(events.clock_mhz()))

    def _dropped(self, clock_mhz: float | None) -> bool:
        if clock_mhz is None:
            return False
        self.watched = True
        self.highest_mhz = max(self.highest_mhz, clock_mhz)
        return clock_mhz < self.drop_below * self.highest_mhz
