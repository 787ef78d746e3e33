"""What slows a whole run evenly, which no sample shows: other programs on the cores, a processor at another speed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

CROWDED_CORES = 0.5
"""Cores are crowded where less of one than this stays free, while other programs use more than this."""
_LEAST_WATCHED_S = 0.2  # the system counts hundredths of a second
OTHER_SPEED = 0.03
"""Two runs are at another speed where the same loop takes longer in one by more than this share."""
_BETWEEN_LOOPS_S = 0.02
_LOOP_STEPS = 2000


def crowding() -> Callable[[], bool]:
    """What says later whether the cores were crowded from now on; never where the system does not say."""
    cores, idle, own, wall = os.cpu_count() or 1, idle_s(), time.process_time(), time.perf_counter()

    def crowded() -> bool:
        now, passed = idle_s(), time.perf_counter() - wall
        if idle is None or now is None or passed < _LEAST_WATCHED_S:
            return False
        free = now - idle
        others = cores * passed - free - (time.process_time() - own)
        return free < CROWDED_CORES * passed and others > CROWDED_CORES * passed

    return crowded


def idle_s() -> float | None:
    """Seconds that all cores together had nothing to do since the system began; None where it does not say."""
    try:
        with Path("/proc/stat").open(encoding="ascii") as lines:
            words = lines.readline().split()
        return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


class Speed:
    """How fast the processor runs between samples, by a loop that is always the same.

    A virtual machine can be at another speed for seconds, by what its neighbours do, and its system does not say.
    """

    def __init__(self) -> None:
        self._taken_s: list[float] = []
        self._due = 0.0

    def watch(self) -> None:
        """Run the loop, unless it ran just now."""
        if time.perf_counter() < self._due:
            return
        total, start = 0, time.perf_counter()
        for step in range(_LOOP_STEPS):
            total += step
        end = time.perf_counter()
        self._taken_s.append(end - start)
        self._due = end + _BETWEEN_LOOPS_S

    @property
    def loop_s(self) -> float | None:
        """The loop's median so far; None before it ran."""
        return median(self._taken_s) if self._taken_s else None


def slowdown(before_s: float | None, after_s: float | None) -> float | None:
    """How many times as long the loop took, where that is another speed; None where it is not, or is not known."""
    if not before_s or not after_s:
        return None
    ratio = after_s / before_s
    return ratio if max(ratio, 1 / ratio) > 1 + OTHER_SPEED else None
