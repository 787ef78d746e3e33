"""The clock as a witness: raw samples, their median, and how well it is known."""

from e4profile.witnesses.timing.clock import Clock, CpuClock, EventClock, MeasurementError, Reading, Work
from e4profile.witnesses.timing.measure import (
    Comparison,
    Setting,
    Timed,
    clock_for,
    compare_interleaved,
    compare_works,
    measure_time,
)
from e4profile.witnesses.timing.passes import PASS_MEANINGS, PASSES
from e4profile.witnesses.timing.record import TimeRecord
from e4profile.witnesses.timing.samples import Samples, StopRule, collect
from e4profile.witnesses.timing.statistics import RatioEstimate, compare_pairs

__all__ = [
    "PASSES",
    "PASS_MEANINGS",
    "Clock",
    "Comparison",
    "CpuClock",
    "EventClock",
    "MeasurementError",
    "RatioEstimate",
    "Reading",
    "Samples",
    "Setting",
    "StopRule",
    "TimeRecord",
    "Timed",
    "Work",
    "clock_for",
    "collect",
    "compare_interleaved",
    "compare_pairs",
    "compare_works",
    "measure_time",
]
