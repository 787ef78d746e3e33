"""The largest batch whose pass stays within a time: doubling until one is too slow, then inwards between the two."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

from e4profile.errors import E4ProfileError
from e4profile.subjects.inputs import memory_bytes
from e4profile.witnesses.timing.samples import NOISY_SPREAD, TimeRecord
from e4profile.witnesses.timing.statistics import median_interval

LARGEST_BATCH = 1 << 16
"""No larger batch is tried."""

LEAP = 1.5
"""Two neighbours are measured again where the larger takes this many times its share: one may have been disturbed."""

PRECISION = 100
"""A batch is found to one part in this many: no median is known better than that."""

MEMORY_SHARE = 4
"""A search takes at most one part in this many of the machine's memory: other programs run there too."""

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "storage size calculation overflowed")

Measure = Callable[[int], TimeRecord]


@dataclass(frozen=True)
class Bound:
    """A batch that was measured.

    Attributes:
        record: its timing.
        limit_s: what it is held against.
    """

    record: TimeRecord
    limit_s: float

    @property
    def interval_s(self) -> tuple[float, float]:
        """The 95% interval of the median; from nothing to infinity below 6 samples."""
        return median_interval(self.record.samples.seconds) or (0.0, math.inf)

    @property
    def fits(self) -> bool:
        """Whether the median is within the limit."""
        return self.record.median_s <= self.limit_s

    @property
    def within_noise(self) -> bool:
        """Whether the interval of the median holds the limit, so that either side is possible."""
        low, high = self.interval_s
        return low <= self.limit_s <= high


@dataclass(frozen=True)
class FittingBatch:
    """What was found for one network.

    Attributes:
        largest: the largest batch whose median is within the limit; None where none is.
        above: the smallest batch above it that was measured, and too slow; None where there is none.
        batch_above: its size, also where it could not be measured for want of memory; None where no more was tried.
        measured: how many batches were.
        stopped: why nothing larger was tried, where the limit is not the reason; else empty.
    """

    largest: Bound | None
    above: Bound | None
    batch_above: int | None
    measured: int
    stopped: str = ""

    @property
    def batch_size(self) -> int:
        """The largest batch that fits; 0 where none does."""
        return 0 if self.largest is None else self.largest.record.batch_size

    @property
    def undecided(self) -> tuple[Bound, ...]:
        """The bounds whose interval holds the limit."""
        return tuple(bound for bound in (self.largest, self.above) if bound is not None and bound.within_noise)

    @property
    def within_noise(self) -> bool:
        """Whether another run could decide otherwise: by an interval, or a jump that the images do not explain."""
        return bool(self.undecided) or self.jumps

    @property
    def jumps(self) -> bool:
        """Whether the next batch costs more than the share of its images."""
        if self.largest is not None and self.above is not None and 10 * self.batch_above_by <= self.batch_size:
            per_image_s = [bound.record.median_s / bound.record.batch_size for bound in (self.largest, self.above)]
            if per_image_s[1] > (1 + NOISY_SPREAD) * per_image_s[0]:
                return True
        return self.largest is not None and self.above is not None and _leaps(self.largest, self.above)

    @property
    def batch_above_by(self) -> int:
        """By how much the next batch is larger."""
        return (self.batch_above or self.batch_size) - self.batch_size


class TooMuchMemory(E4ProfileError):
    """A batch that is not tried: not enough memory would be left to others."""


def within_memory(measure: Measure, most_bytes: int, peak_bytes: Callable[[], int]) -> Measure:
    """The measurement itself, but of no batch that would take more memory than it may.

    What a batch takes is what the largest so far took, in proportion: weights and libraries count as if they grew
    with it, so a batch may be refused one doubling too early. What the process held before does not count.

    Args:
        measure: times one batch.
        most_bytes: that the process may hold.
        peak_bytes: the most that it has held so far.
    """
    before_bytes, largest = peak_bytes(), 0

    def bounded(batch: int) -> TimeRecord:
        nonlocal largest
        if largest:
            expected = before_bytes + (peak_bytes() - before_bytes) * batch // largest
            if expected > most_bytes:
                raise TooMuchMemory(
                    f"a batch of {batch} would take about {expected / 2**30:,.2g} GiB of memory, and a search takes "
                    f"at most {most_bytes / 2**30:,.2g}: more would not leave enough for other programs"
                )
        record = measure(batch)
        largest = max(batch, largest)
        return record

    return bounded


def peak_process_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def largest_batch_within(
    measure: Measure, limit_s: float, *, most: int = LARGEST_BATCH, first: int = 1, longest_s: float = math.inf
) -> FittingBatch:
    """Find the largest batch whose median time is within a limit.

    Times are taken to grow with the batch. After doubling, the line through the two nearest measurements says where
    to look next; where that does not halve what is left, the middle. The search ends where one image more, of large
    batches one per cent more, is too slow, or where the noise hides what lies between. Two neighbours of which the
    larger takes far more than its images explain are measured again, and the faster measurement of each counts: what
    disturbs a machine only makes it slower.

    Args:
        measure: times one batch.
        limit_s: the most that the median may be.
        most: the largest batch to try.
        first: the smallest.
        longest_s: no larger batch is tried whose pass is expected to take longer, at the rate of the one before.

    Raises:
        Whatever ``measure`` raises, other than for want of memory at a batch larger than one that ran.
    """
    measured = 0

    def bound(batch: int) -> Bound:
        nonlocal measured
        measured += 1
        return Bound(measure(batch), limit_s)

    try:
        lower, batch = bound(first), first
    except E4ProfileError as error:
        if first > 1 or most < 2:
            raise
        # a batch norm over single values refuses one image
        try:
            lower, batch = bound(2), 2
        except E4ProfileError:
            raise error from None
    if not lower.fits:
        return FittingBatch(None, lower, batch, measured)
    again: set[int] = set()
    while True:
        upper: Bound | None = None
        while upper is None:
            if batch >= most:
                stopped = f"at least {batch}: no batch above {most} is tried"
                return FittingBatch(lower, None, None, measured, stopped)
            batch = min(2 * batch, most)
            expected_s = lower.record.median_s * batch / lower.record.batch_size
            if expected_s > longest_s:
                return FittingBatch(lower, None, None, measured, _too_long(lower, batch, expected_s, longest_s))
            try:
                found = bound(batch)
            except E4ProfileError as error:
                if not out_of_memory(error):
                    raise
                # what lies between is bounded by memory and not by time
                why = str(error) if isinstance(error, TooMuchMemory) else f"a batch of {batch} does not fit into memory"
                return FittingBatch(lower, None, batch, measured, f"at least {lower.record.batch_size}: {why}")
            lower, upper = (found, None) if found.fits else (lower, found)
        lower, upper = _narrowed(bound, lower, upper)
        neighbours = {lower.record.batch_size, upper.record.batch_size}
        if not _leaps(lower, upper) or neighbours <= again:
            return FittingBatch(lower, upper, upper.record.batch_size, measured)
        again |= neighbours
        lower, upper = _faster(lower, bound(lower.record.batch_size)), _faster(upper, bound(upper.record.batch_size))
        if not upper.fits:
            return FittingBatch(lower, upper, upper.record.batch_size, measured)
        lower, batch = upper, upper.record.batch_size


def _too_long(lower: Bound, batch: int, expected_s: float, longest_s: float) -> str:
    """Why no larger batch was timed, and how many images the limit would hold."""
    size = lower.record.batch_size
    held = math.floor(lower.limit_s / (lower.record.median_s / size))
    return (
        f"at least {size}: a pass on {batch} images would take about {expected_s:.2g} s, and none longer than "
        f"{longest_s:.2g} s is sampled (--max-run-time-s sets it); at the rate so far the limit holds about {held:.2g}"
    )


def _narrowed(bound: Callable[[int], Bound], lower: Bound, upper: Bound) -> tuple[Bound, Bound]:
    """The batch that fits and the one that does not, as near to each other as the search goes."""
    halve = False
    while upper.record.batch_size - lower.record.batch_size > max(1, lower.record.batch_size // PRECISION):
        if lower.within_noise and upper.within_noise:
            break
        left = upper.record.batch_size - lower.record.batch_size
        found = bound(_between(lower, upper, halve))
        lower, upper = (found, upper) if found.fits else (lower, found)
        halve = 2 * (upper.record.batch_size - lower.record.batch_size) > left
    return lower, upper


def _leaps(lower: Bound, upper: Bound) -> bool:
    """Whether the larger of two batches takes far more than its images explain."""
    share = upper.record.batch_size / lower.record.batch_size
    return upper.record.median_s > LEAP * share * lower.record.median_s


def _faster(first: Bound, second: Bound) -> Bound:
    return min(first, second, key=lambda bound: bound.record.median_s)


def _between(lower: Bound, upper: Bound, halve: bool) -> int:
    """A batch strictly between two: on the line through them, just below the limit, or in the middle."""
    low, high = lower.record.batch_size, upper.record.batch_size
    rise_s = upper.record.median_s - lower.record.median_s
    if halve or rise_s <= 0:
        return (low + high) // 2
    aim = low + math.floor((high - low) * (lower.limit_s - lower.record.median_s) / rise_s)
    return min(max(aim, low + 1), high - 1)


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError | TooMuchMemory):
            return True
        # what torch raises on a CPU is a RuntimeError like any other
        if any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def most_in_memory(input_bytes_per_image: int) -> int:
    """The largest batch whose inputs alone take a sixteenth of this machine's memory, at most ``LARGEST_BATCH``."""
    return max(1, min(LARGEST_BATCH, memory_bytes() // 16 // max(1, input_bytes_per_image)))
