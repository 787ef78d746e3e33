"""Times of two programs from runs that were not interleaved: the ratio of medians and its bootstrap interval.

Samples of one run say nothing about what differs from run to run (another load, another clock, other memory
placement): only the minimum effect stands against that. Sampling in turn (``compare_pairs``) is the better witness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from e4profile.errors import SettingError
from e4profile.witnesses.timing.statistics import (
    COMPARISON_CONFIDENCE,
    MINIMUM_EFFECT,
    RatioEstimate,
    Verdict,
    median,
    median_interval,
)

RESAMPLES = 10_000


def compare_independent(
    first: Sequence[float],
    second: Sequence[float],
    confidence: float = COMPARISON_CONFIDENCE,
    minimum_effect: float = MINIMUM_EFFECT,
    seed: int = 0,
) -> RatioEstimate:
    """Whether the first program is faster than the second, from independent samples in seconds.

    The interval is the percentile bootstrap of the ratio of medians (Efron 1979); the same samples give the same
    interval. Where either program has too few samples for an interval of its median at this confidence, the
    ratio has none either and the verdict is ``ambiguous``.

    Raises:
        SettingError: without samples, or for samples that are not positive.
    """
    if min((*first, *second), default=1.0) <= 0:
        raise SettingError("a sample without duration cannot be compared: the clock is too coarse for it")
    middle = median(first) / median(second)
    low, high = 0.0, math.inf
    if median_interval(first, confidence) and median_interval(second, confidence):
        generator = np.random.default_rng(seed)
        ratios = _resampled_medians(first, generator) / _resampled_medians(second, generator)
        tail = (1 - confidence) / 2
        low, high = (float(end) for end in np.quantile(ratios, (tail, 1 - tail)))
    verdict: Verdict = "ambiguous"
    if high < 1 / (1 + minimum_effect):
        verdict = "faster"
    elif low > 1 + minimum_effect:
        verdict = "slower"
    return RatioEstimate(middle, low, high, confidence, verdict)


def _resampled_medians(samples: Sequence[float], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Medians of bootstrap resamples, without drawing the resamples.

    A resample of n sorted samples takes the positions floor(n u) of n uniform numbers u, so its k-th smallest
    value stands at floor(n u_k), where the k-th smallest uniform number u_k follows Beta(k, n + 1 - k). The
    next one is u_k plus the smallest of the n - k larger numbers, which are uniform on (u_k, 1).
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    count = len(ordered)
    rank = (count + 1) // 2
    lower = generator.beta(rank, count + 1 - rank, RESAMPLES)
    values = ordered[np.minimum((lower * count).astype(np.int64), count - 1)]
    if count % 2 == 0:
        upper = lower + (1 - lower) * generator.beta(1, count - rank, RESAMPLES)
        values = (values + ordered[np.minimum((upper * count).astype(np.int64), count - 1)]) / 2
    medians: npt.NDArray[np.float64] = values
    return medians
