"""Energy of a piece of work, where the device's driver counts it."""

from __future__ import annotations

import time
from collections.abc import Callable

from e4profile.witnesses.timing.clock import MeasurementError, Work

COUNTER_PERIOD_S = 0.1
"""NVML's energy counter moves about this often: a measurement must be much longer."""


def energy_per_call_j(
    work: Work,
    energy_j: Callable[[], float | None],
    synchronize: Callable[[], None],
    *,
    min_run_time_s: float = 20 * COUNTER_PERIOD_S,
    now: Callable[[], float] = time.perf_counter,
) -> float | None:
    """Joules of one call, preparation included, averaged over many; None where nothing counts them.

    The device's idle power is part of it, as it is of a training.

    Args:
        work: warmed up.
        energy_j: reads a counter in joules that only grows; None where there is none.
        synchronize: waits for the device.
        min_run_time_s: call again and again for at least this long.
        now: wall time in seconds.

    Raises:
        MeasurementError: when the counter did not move.
    """
    synchronize()
    before_j = energy_j()
    if before_j is None:
        return None
    start, calls = now(), 0
    while now() - start < min_run_time_s:
        work.call(work.prepare())
        synchronize()
        calls += 1
    after_j = energy_j()
    if after_j is None:
        return None
    if not after_j > before_j:
        raise MeasurementError(f"the energy counter did not move during {calls} calls: measure for longer")
    return (after_j - before_j) / calls
