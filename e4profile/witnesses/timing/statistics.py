"""What a list of timings says: medians, their order-statistic intervals, and a verdict on two programs.

Nothing here assumes a distribution: timings are skewed, and one slow sample must not move the answer.
"""

from __future__ import annotations

import math
import statistics as stats
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from e4profile.errors import SettingError

Verdict = Literal["faster", "slower", "ambiguous"]

CONFIDENCE = 0.95
"""Of the interval that says how well one median is known."""

COMPARISON_CONFIDENCE = 0.99
"""Of the interval that a verdict rests on: sampling stops when it is narrow, so it is looked at more than once."""

MINIMUM_EFFECT = 0.02
"""Two builds of one program differ by this much through memory placement alone."""

_EXACT_UP_TO = 500


def median(samples: Sequence[float]) -> float:
    """The median.

    Raises:
        SettingError: without samples.
    """
    if not samples:
        raise SettingError("no samples: a median needs at least one")
    return stats.median(samples)


def interquartile_range(samples: Sequence[float]) -> float:
    """The distance between the quartiles, in the samples' unit; 0 for a single sample.

    Raises:
        SettingError: without samples.
    """
    if not samples:
        raise SettingError("no samples: an interquartile range needs at least one")
    low, high = quartiles(samples) or (0.0, 0.0)
    return high - low


def quartiles(samples: Sequence[float]) -> tuple[float, float] | None:
    """The first and the third quartile; None for fewer than two samples, which have no spread."""
    if len(samples) < 2:
        return None
    first, _, third = stats.quantiles(samples, n=4, method="inclusive")
    return first, third


def median_interval(samples: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """A confidence interval of the median from order statistics; None where there are too few samples.

    With n samples in order, the k-th from below and from above enclose the median unless fewer than k of n
    fair coins fall on one side: the widest k whose coverage is at least ``confidence`` is taken, exactly up
    to 500 samples, by the normal approximation beyond.

    Raises:
        SettingError: for a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise SettingError(f"confidence (={confidence}) must lie between 0 and 1")
    rank = _rank(len(samples), confidence)
    if rank < 1:
        return None
    ordered = sorted(samples)
    return ordered[rank - 1], ordered[-rank]


@lru_cache
def _rank(count: int, confidence: float) -> int:
    """The largest k with 1 - 2 P(Binomial(n, 1/2) < k) >= confidence; 0 where there is none."""
    if count > _EXACT_UP_TO:
        z = stats.NormalDist().inv_cdf((1 + confidence) / 2)
        return math.floor((count + 1 - z * math.sqrt(count)) / 2)
    tail, rank, allowed = 0, 0, (1 - confidence) / 2 * 2**count
    while 2 * rank < count:
        tail += math.comb(count, rank)
        if tail > allowed:
            break
        rank += 1
    return rank


def relative_noise(samples: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """The larger half of the median's interval over the median; infinite while there is no interval."""
    interval = median_interval(samples, confidence)
    if interval is None:
        return math.inf
    middle = median(samples)
    if middle <= 0:
        return math.inf
    return max(middle - interval[0], interval[1] - middle) / middle


@dataclass(frozen=True)
class RatioEstimate:
    """The ratio of two programs' times, from samples taken in pairs.

    Attributes:
        ratio: the median of the pairs' ratios, first over second: below 1 the first is faster.
        low: lower end of the ratio's interval; 0 while there are too few pairs.
        high: upper end; infinite while there are too few pairs.
        confidence: of the interval.
        verdict: on the first program.
    """

    ratio: float
    low: float
    high: float
    confidence: float
    verdict: Verdict


def compare_pairs(
    first: Sequence[float],
    second: Sequence[float],
    confidence: float = COMPARISON_CONFIDENCE,
    minimum_effect: float = MINIMUM_EFFECT,
) -> RatioEstimate:
    """Compare samples that were taken in turn, pair by pair, so that a drift of the machine cancels.

    The first is ``faster`` when the whole interval lies below 1 / (1 + minimum_effect), ``slower`` when it
    lies above 1 + minimum_effect, and otherwise the answer is ``ambiguous``.

    Raises:
        SettingError: for samples that do not pair up, or are not positive.
    """
    if len(first) != len(second):
        raise SettingError(f"samples must pair up: {len(first)} against {len(second)}")
    if min((*first, *second), default=1.0) <= 0:
        raise SettingError("a sample without duration cannot be compared: the clock is too coarse for it")
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    interval = median_interval(ratios, confidence) or (0.0, math.inf)
    return estimate(median(ratios), interval, confidence, minimum_effect)


def estimate(ratio: float, interval: tuple[float, float], confidence: float, minimum_effect: float) -> RatioEstimate:
    """A ratio with its interval and the verdict on the first program."""
    low, high = interval
    verdict: Verdict = "ambiguous"
    if high < 1 / (1 + minimum_effect):
        verdict = "faster"
    elif low > 1 + minimum_effect:
        verdict = "slower"
    return RatioEstimate(ratio, low, high, confidence, verdict)
