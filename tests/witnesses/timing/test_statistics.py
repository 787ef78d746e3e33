from __future__ import annotations

import math
import random

import pytest

from e4profile.errors import SettingError
from e4profile.witnesses.timing.statistics import (
    compare_pairs,
    interquartile_range,
    median,
    median_interval,
    relative_noise,
)


def test_median_and_quartiles_of_known_lists():
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert interquartile_range([1.0, 2.0, 3.0, 4.0, 5.0]) == 2.0
    assert interquartile_range([7.0]) == 0.0


@pytest.mark.parametrize("function", [median, interquartile_range])
def test_nothing_has_no_statistics(function):
    with pytest.raises(SettingError, match="no samples"):
        function([])


# ranks of the 95% interval of the median in published tables of order statistics
@pytest.mark.parametrize(
    ("count", "rank"), [(5, None), (6, 1), (8, 1), (9, 2), (10, 2), (15, 4), (20, 6), (25, 8), (50, 18), (100, 40)]
)
def test_interval_of_the_median_takes_the_tabled_ranks(count, rank):
    samples = [float(value) for value in range(1, count + 1)]
    random.Random(1).shuffle(samples)
    expected = None if rank is None else (float(rank), float(count + 1 - rank))
    assert median_interval(samples, 0.95) == expected


def test_an_interval_that_covers_exactly_as_often_as_asked_will_do():
    # the extremes of five samples enclose the median unless all lie on one side: 1 - 2 / 2**5
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.9375) == (1.0, 5.0)
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.9376) is None


def test_the_normal_approximation_continues_the_exact_ranks():
    for count in (501, 502, 503, 600, 750, 1000):
        # the binomial distribution itself, in whole numbers
        tail, rank = 0, 0
        while 40 * (tail + math.comb(count, rank)) <= 2**count:
            tail += math.comb(count, rank)
            rank += 1
        assert median_interval([float(value) for value in range(1, count + 1)]) == (rank, count + 1 - rank)


def test_the_interval_covers_the_median_as_often_as_it_says():
    generator = random.Random(7)
    trials = 2000
    covered = 0
    for _ in range(trials):
        interval = median_interval([generator.expovariate(math.log(2)) for _ in range(21)], 0.95)
        assert interval is not None
        covered += interval[0] <= 1.0 <= interval[1]
    assert 0.94 < covered / trials < 0.99


def test_confidence_must_be_a_probability():
    with pytest.raises(SettingError, match=r"confidence \(=95\)"):
        median_interval([1.0] * 10, 95)


def test_noise_is_infinite_until_there_is_an_interval():
    assert relative_noise([1.0] * 5) == math.inf
    assert relative_noise([1.0] * 6) == 0.0
    assert relative_noise([0.9, 1.0, 1.0, 1.0, 1.0, 1.3]) == pytest.approx(0.3)
    assert relative_noise([0.7, 1.0, 1.0, 1.0, 1.0, 1.1]) == pytest.approx(0.3)


def _jittered(seed: int, scale: float, count: int = 40) -> list[float]:
    generator = random.Random(seed)
    return [scale * (1 + 0.02 * generator.random()) for _ in range(count)]


@pytest.mark.parametrize(
    ("scale", "verdict"), [(0.8, "faster"), (1.0, "ambiguous"), (1.01, "ambiguous"), (1.25, "slower")]
)
def test_verdicts_on_synthetic_samples(scale, verdict):
    estimate = compare_pairs(_jittered(1, scale), _jittered(2, 1.0))
    assert estimate.verdict == verdict
    assert estimate.low <= estimate.ratio <= estimate.high
    assert estimate.ratio == pytest.approx(scale, rel=0.02)


# the effect that placement alone may have is a factor of 1.02, the same both ways
@pytest.mark.parametrize(("ratio", "found"), [(0.5, ("faster", "slower")), (0.9802, ("faster", "slower")),
                                              (1 / 1.02, ("ambiguous", "ambiguous"))])  # fmt: skip
def test_exchanging_the_programs_exchanges_the_verdict(ratio, found):
    a, b = [ratio] * 10, [1.0] * 10
    assert (compare_pairs(a, b).verdict, compare_pairs(b, a).verdict) == found


def test_a_drift_of_the_machine_cancels_between_pairs():
    drift = [1.0 + index / 10 for index in range(40)]
    estimate = compare_pairs([0.9 * value for value in drift], drift)
    assert estimate.ratio == pytest.approx(0.9)
    assert estimate.high - estimate.low < 1e-12
    assert estimate.verdict == "faster"


def test_too_few_pairs_are_ambiguous_however_far_apart():
    estimate = compare_pairs([1.0] * 5, [10.0] * 5)
    assert (estimate.low, estimate.high, estimate.verdict) == (0.0, math.inf, "ambiguous")


def test_samples_must_pair_up_and_last():
    with pytest.raises(SettingError, match="3 against 2"):
        compare_pairs([1.0] * 3, [1.0] * 2)
    with pytest.raises(SettingError, match="without duration"):
        compare_pairs([1.0, 0.0], [1.0, 1.0])
