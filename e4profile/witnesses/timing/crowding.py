"""Whether other programs share the cores with what is timed: they slow a whole run evenly, which no sample shows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

CROWDED_CORES = 0.5
"""Cores are crowded where less of one than this stays free, while other programs use more than this."""
_LEAST_WATCHED_S = 0.2  # the system counts hundredths of a second


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
