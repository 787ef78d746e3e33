"""Clocks that tests wind up themselves: no test depends on how fast this machine is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from e4profile.witnesses.timing.clock import Reading, Work


class ScriptedClock:
    """Gives the durations of a script, one per reading, and moves its own wall time by them."""

    name = "script"

    def __init__(self, seconds: Iterable[float | Reading], overhead_s: float = 0.0) -> None:
        self.script: Iterator[float | Reading] = iter(seconds)
        self.wall_s = 0.0
        self.overhead_s = overhead_s
        self.readings = 0

    def now(self) -> float:
        return self.wall_s

    def read(self, work: Work) -> Reading:
        work.call(work.prepare())
        entry = next(self.script)
        reading = entry if isinstance(entry, Reading) else Reading(entry)
        self.wall_s += reading.seconds + self.overhead_s
        self.readings += 1
        return reading


class RunningClock:
    """Runs the work once per reading and reports durations in a cycle, whatever it took."""

    name = "running stub"

    def __init__(self, *seconds: float) -> None:
        self.seconds = cycle(seconds or (0.001,))

    def read(self, work: Work) -> Reading:
        work.call(work.prepare())
        return Reading(next(self.seconds))


@dataclass
class StubEvents:
    """A device whose stream is a list: every call is written down, every event is the device's time."""

    time_s: float = 0.0
    clocks_mhz: list[float | None] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    done_s: float = 0.0
    name: str = "stub events"
    flush_s: float = 1.0

    def mark(self) -> Any:
        self.log.append("mark")
        return self.time_s

    def synchronize(self) -> None:
        self.log.append("synchronize")
        self.done_s = self.time_s

    def seconds(self, start: Any, end: Any) -> float:
        if end > self.done_s:
            raise RuntimeError("the events are not done: nobody synchronised")
        return float(end - start)

    def flush(self) -> None:
        self.log.append("flush")
        self.time_s += self.flush_s

    def clock_mhz(self) -> float | None:
        self.log.append("clock")
        return self.clocks_mhz.pop(0) if self.clocks_mhz else None

    def kernel(self, what: str, seconds: float) -> Callable[[Any], None]:
        def launch(_: Any = None) -> None:
            self.log.append(what)
            self.time_s += seconds

        return launch
