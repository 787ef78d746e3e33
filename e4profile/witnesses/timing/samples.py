"""Taking samples: warm up until stable, sample until the median is known well enough, say why it stopped.

A ``TimeRecord`` holds the samples with the setting and the environment that they were taken in.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from e4profile.errors import SettingError, positive, some_of
from e4profile.witnesses.timing.clock import Clock, MeasurementError, Work
from e4profile.witnesses.timing.crowding import Speed, crowding
from e4profile.witnesses.timing.statistics import (
    COMPARISON_CONFIDENCE,
    interquartile_range,
    median,
    median_interval,
    relative_noise,
)

NOISE_TARGET = "noise target"
MAX_RUN_TIME = "max run time"
MAX_SAMPLES = "max samples"
LIMIT_DECIDED = "limit decided"

NOISY_SPREAD = 0.10
"""A spread (interquartile range over median) above this makes a result noisy."""

NOISY_MEDIAN = 0.05
"""A median known no better than this makes a result noisy."""

SPREAD, MEDIAN, WARM_UP, CROWDED = "spread", "median", "warm-up", "crowded"
"""The causes of noise."""

_STABLE_WINDOW = 3
_STABLE_WITHIN = 0.05
_WARM_UP_CALLS = 100
_WARM_UP_SHARE = 0.25
_TEXTS = {
    NOISE_TARGET: "the median is {known}, within the target of {target:.2%}",
    MAX_RUN_TIME: "max_run_time_s (={cap:g}) is used up with the median {known}, target {target:.2%}",
    LIMIT_DECIDED: "the 99% interval of the median, {known}, does not contain the limit of {limit:g} s",
    MAX_SAMPLES: "max_samples (={most}) are taken with the median {known}, target {target:.2%}",
}

Noise = Callable[[Sequence[Sequence[float]]], float]


@dataclass(frozen=True)
class StopRule:
    """When enough samples are taken.

    Attributes:
        relative_noise: stop once the quantity of interest is known this well (half its interval, relative).
        min_samples: not before this many samples.
        min_run_time_s: nor before this long, in wall time of sampling.
        max_run_time_s: stop at this wall time whatever the noise; the warm-up may add a quarter of it.
        max_samples: stop at this many samples whatever the noise.
        limit_s: stop as well once the interval of the median lies on one side of this; None asks nothing.

    Raises:
        SettingError: for values that no sampling can meet.
    """

    relative_noise: float = 0.01
    min_samples: int = 10
    min_run_time_s: float = 0.5
    max_run_time_s: float = 10.0
    max_samples: int = 20_000
    limit_s: float | None = None

    def __post_init__(self) -> None:
        positive(min_samples=self.min_samples, max_samples=self.max_samples)
        if not self.relative_noise > 0:
            raise SettingError(f"relative_noise (={self.relative_noise}) must be positive")
        if not 0 <= self.min_run_time_s <= self.max_run_time_s:
            raise SettingError(
                f"min_run_time_s (={self.min_run_time_s:g}) must not be negative or exceed "
                f"max_run_time_s (={self.max_run_time_s:g})"
            )
        if self.min_samples > self.max_samples:
            raise SettingError(f"min_samples (={self.min_samples}) exceeds max_samples (={self.max_samples})")

    def reason(self, count: int, elapsed_s: float, noise: float) -> str | None:
        """Why to stop now, or None to go on; the noise is infinite before the minima are reached."""
        if noise <= self.relative_noise:
            return NOISE_TARGET
        if elapsed_s >= self.max_run_time_s:
            return MAX_RUN_TIME
        return MAX_SAMPLES if count >= self.max_samples else None

    def decided(self, samples: Sequence[float]) -> bool:
        """Whether the samples say on which side of the limit their median is.

        The interval is looked at again and again, so it is as wide as that of a comparison: with the narrower one of
        a single look, every fifth median that is exactly the limit was put on one side of it.
        """
        interval = None if self.limit_s is None else median_interval(samples, COMPARISON_CONFIDENCE)
        return interval is not None and not interval[0] <= (self.limit_s or 0) <= interval[1]

    def explain(self, reason: str, noise: float) -> str:
        """The reason as a sentence with its numbers."""
        known = "not known" if math.isinf(noise) else f"known to {noise:.2%}"
        values = {"known": known, "target": self.relative_noise, "cap": self.max_run_time_s, "limit": self.limit_s or 0}
        return _TEXTS[reason].format(**values, most=self.max_samples)


@dataclass(frozen=True)
class Samples:
    """The raw samples of one program; everything else is derived from them.

    Attributes:
        seconds: every kept sample in the order taken, not rounded.
        dropped: samples discarded because the device ran at a reduced clock.
        first_call_s: the very first call: allocation, caches, compilation.
        warm_up_calls: calls before the first sample, the first call among them.
        warm_up_stable: whether the calls had settled before sampling began.
        stopped_by: ``noise target``, ``max run time``, ``max samples`` or ``limit decided``.
        stopped_because: the same as a sentence with numbers.
        crowded: whether other programs kept the other cores busy meanwhile: they slow a whole run evenly.
        loop_s: the median of a loop that is always the same, between samples: the processor's speed; None of old
            records.
    """

    seconds: tuple[float, ...]
    dropped: int
    first_call_s: float
    warm_up_calls: int
    warm_up_stable: bool
    stopped_by: str
    stopped_because: str
    crowded: bool = False
    loop_s: float | None = None

    @property
    def median_s(self) -> float:
        """The median in seconds."""
        return median(self.seconds)

    @property
    def iqr_s(self) -> float:
        """The interquartile range in seconds."""
        return interquartile_range(self.seconds)

    @property
    def relative_noise(self) -> float:
        """How well the median is known: half its 95% interval over the median; infinite below 6 samples."""
        return relative_noise(self.seconds)

    @property
    def spread(self) -> float:
        """The interquartile range over the median."""
        return self.iqr_s / self.median_s if self.median_s > 0 else math.inf

    @property
    def noise_causes(self) -> Mapping[str, str]:
        """Why the median should not be trusted to its digits, by cause; empty for a quiet measurement."""
        causes = {}
        if self.spread > NOISY_SPREAD:
            causes[SPREAD] = f"interquartile range is {self.spread:.0%} of the median"
        noise = self.relative_noise
        if noise > NOISY_MEDIAN:
            known = "not known" if math.isinf(noise) else f"known to {noise:.0%} only"
            causes[MEDIAN] = f"the median of {len(self.seconds)} samples is {known}"
        if not self.warm_up_stable:
            causes[WARM_UP] = f"times had not settled after {self.warm_up_calls} calls of warm-up"
        if self.crowded:
            causes[CROWDED] = "other programs kept the other cores busy"
        return causes

    @property
    def noise_reasons(self) -> tuple[str, ...]:
        """The causes in words."""
        return tuple(self.noise_causes.values())

    @property
    def noisy(self) -> bool:
        """Whether there is a reason not to trust the median to its digits."""
        return bool(self.noise_causes)


@dataclass(frozen=True)
class TimeRecord:
    """How long one pass of one network takes, sample by sample.

    Attributes:
        name: the network's.
        pass_: ``forward``, ``backward`` or ``step`` (see ``PASS_MEANINGS``).
        mode: ``eval`` or ``train``.
        loss: what backward starts from; empty for a forward pass.
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        input_shape: (B, channels, h, w), or that of the first tensor of several inputs.
        compiled: whether ``torch.compile`` was applied.
        graphed: whether CUDA graphs were replayed.
        threads: intra-operator threads.
        clock: what took the samples.
        samples: the samples.
        environment: where it was measured (see ``e4profile.witnesses.environment``).
        arguments: of the network, or of the builder.
        inputs: all of them in words, where there are several; empty for one tensor.
        label: the name with the arguments that were given, for tables; the name where it is not said.
        macs: of the pass; None where it was not said.
        peak_macs_per_s: of the device, measured in a matrix product; None where it was not said.
    """

    name: str
    pass_: str
    mode: str
    loss: str
    device: str
    dtype: str
    input_shape: tuple[int, ...]
    compiled: bool
    graphed: bool
    threads: int
    clock: str
    samples: Samples
    environment: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = ""
    label: str = ""
    macs: int | None = None
    peak_macs_per_s: float | None = None

    @property
    def title(self) -> str:
        """The label, or the name without one."""
        return self.label or self.name

    @property
    def batch_size(self) -> int:
        """Images per pass."""
        return self.input_shape[0]

    @property
    def median_s(self) -> float:
        """The median in seconds."""
        return self.samples.median_s

    @property
    def iqr_s(self) -> float:
        """The interquartile range in seconds."""
        return self.samples.iqr_s

    @property
    def images_per_s(self) -> float | None:
        """Images in a second of such passes; None for inputs that share no leading size."""
        return self.batch_size / self.median_s if len(self.input_shape) > 1 and self.median_s > 0 else None

    @property
    def mfu(self) -> float | None:
        """The share of the device's measured peak that the MACs of the pass used; None where either is unknown."""
        if self.macs is None or not self.peak_macs_per_s or self.median_s <= 0:
            return None
        return self.macs / self.median_s / self.peak_macs_per_s

    @property
    def noisy(self) -> bool:
        """Whether there is a reason not to trust the median to its digits."""
        return self.samples.noisy


_CAUSES = {
    SPREAD: f"interquartile range above {NOISY_SPREAD:.0%} of the median",
    MEDIAN: f"the median known to {NOISY_MEDIAN:.0%} at best",
    WARM_UP: "times had not settled after the warm-up",
    CROWDED: "other programs kept the other cores busy",
}


def noise_notes(several: Sequence[Samples], what: str = "rows", names: Sequence[str] = ()) -> list[str]:
    """One sentence per cause of noise: how many have it, and how bad it is at worst.

    Args:
        several: the samples of everything in a table.
        what: one of them is, in the plural.
        names: of the samples, where a reader should know which are noisy.
    """
    notes = []
    for cause, words in _CAUSES.items():
        found = [samples for samples in several if cause in samples.noise_causes]
        if not found:
            continue
        worst = ""
        if cause == SPREAD:
            largest = max(samples.spread for samples in found)
            worst = f", up to {largest:.0%}" if math.isfinite(largest) else ""
        named = [name for name, samples in zip(names, several, strict=True) if samples in found] if names else []
        which = f": {some_of(named)}" if named else ""
        notes.append(f"noisy: {len(found)} of {len(several)} {what} ({words}{worst}){which}")
    return notes


def collect(
    works: Sequence[Work],
    clock: Clock,
    rule: StopRule | None = None,
    *,
    noise: Noise | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> list[Samples]:
    """Sample one program, or several in turn.

    Several programs are sampled round by round, every other round in reverse, so that a drift of the machine
    meets all of them; a round with a dropped sample is discarded as a whole, so that samples stay paired.

    Args:
        works: the programs.
        clock: takes the samples.
        rule: when to stop.
        noise: of all kept samples, by program; by default that of the first program's median.
        now: wall time in seconds, for the limits of ``rule``.

    Raises:
        MeasurementError: when every sample was discarded.
    """
    rule = rule or StopRule()
    measure_noise = noise or (lambda kept: relative_noise(kept[0]))
    crowded_since, speed = crowding(), Speed()
    with _garbage_collection_paused():
        warm_ups = [_warm_up(work, clock, rule.max_run_time_s * _WARM_UP_SHARE, now) for work in works]
        kept: list[list[float]] = [[] for _ in works]
        dropped = 0
        start = now()
        next_check = 0
        reason = None
        while reason is None:
            speed.watch()
            order = range(len(works)) if (len(kept[0]) + dropped) % 2 == 0 else reversed(range(len(works)))
            readings = {index: clock.read(works[index]) for index in order}
            if any(reading.dropped for reading in readings.values()):
                dropped += 1
            else:
                for index, reading in readings.items():
                    kept[index].append(reading.seconds)
            count, elapsed_s = len(kept[0]), now() - start
            # sorting after every sample would cost more than sampling
            known = math.inf
            if count >= max(next_check, rule.min_samples) and elapsed_s >= rule.min_run_time_s:
                next_check = count + 1 + count // 10
                known = measure_noise(kept)
                if rule.decided(kept[0]):
                    reason = LIMIT_DECIDED
            reason = reason or rule.reason(count, elapsed_s, known)
    if not kept[0]:
        raise MeasurementError(
            f"all {dropped} samples were discarded because the device ran at a reduced clock; "
            "let it cool down, or fix its clock"
        )
    why, crowded = rule.explain(reason, measure_noise(kept)), crowded_since()
    return [
        Samples(tuple(seconds), dropped, *warm_up, reason, why, crowded, speed.loop_s)
        for seconds, warm_up in zip(kept, warm_ups, strict=True)
    ]


def _warm_up(work: Work, clock: Clock, limit_s: float, now: Callable[[], float]) -> tuple[float, int, bool]:
    """Call until the last calls take as long as the ones before; the first call, how many, whether it settled."""
    start = now()
    times: list[float] = []
    while True:
        times.append(clock.read(work).seconds)
        # the first call allocates and compiles: it is no measure of the ones that follow
        if _settled(times[1:]):
            return times[0], len(times), True
        if len(times) >= _WARM_UP_CALLS or (now() - start >= limit_s and len(times) >= 2):
            return times[0], len(times), False


def _settled(times: Sequence[float]) -> bool:
    if len(times) < 2 * _STABLE_WINDOW:
        return False
    before = median(times[-2 * _STABLE_WINDOW : -_STABLE_WINDOW])
    return abs(median(times[-_STABLE_WINDOW:]) - before) <= _STABLE_WITHIN * before


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
