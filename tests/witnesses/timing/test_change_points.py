"""Steps in a series of times: exact for few runs, a measured rate of false alarms, and the place of the step."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from e4profile.witnesses.timing.change_points import LEVEL, clearest, fewest_runs, steps


def evidence(values: tuple[float, ...]) -> float:
    """The definition, place by place, without arrays."""
    runs, best = len(values), 0.0
    ranks = [sum(other < one for other in values) + (values.count(one) + 1) / 2 for one in values]
    mean = sum(ranks) / runs
    variance = sum((rank - mean) ** 2 for rank in ranks) / (runs - 1)
    for at in range(1, runs):
        spread = math.sqrt(variance * at * (runs - at) / runs)
        best = max(best, abs(sum(ranks[:at]) - at * mean) / spread) if spread else best
    return best


@pytest.mark.parametrize("values", [(3.0, 1.0, 2.0, 7.0, 9.0, 8.0), (1.0, 1.0, 1.0, 2.0, 2.0), (1.0, 1.0, 1.0)])
def test_the_chance_of_few_runs_is_that_of_every_order(values: tuple[float, ...]) -> None:
    orders = [evidence(order) >= evidence(values) - 1e-9 for order in itertools.permutations(values)]
    assert clearest(values)[1] == pytest.approx(sum(orders) / len(orders))


def test_false_alarms_are_as_rare_as_stated() -> None:
    generator = np.random.default_rng(3)
    for runs in (10, 24, 60):
        # skewed, with outliers
        series = np.exp(generator.standard_t(3, (2_000, runs)) / 10)
        for level in (LEVEL, 0.2):
            alarms = sum(clearest(one)[1] <= level for one in series.tolist())
            sigma = math.sqrt(level * (1 - level) / len(series))
            # not more often than stated, and not by never naming one
            assert level - 6 * sigma <= alarms / len(series) <= level + 4 * sigma, (runs, level)


def test_every_step_is_placed_and_sized() -> None:
    generator = np.random.default_rng(5)
    values = np.exp(0.01 * generator.standard_normal(60)) * np.repeat([1.0, 1.2, 0.9], [25, 15, 20])
    first, second = steps(values.tolist())
    assert (first.at, second.at) == (25, 40)
    assert (first.ratio, second.ratio) == (pytest.approx(1.2, rel=0.02), pytest.approx(0.75, rel=0.02))
    assert max(first.p_value, second.p_value) <= LEVEL


def test_too_few_runs_and_small_steps_are_none() -> None:
    clean = [1.0 + place / 1e6 for place in range(5)]
    assert fewest_runs() == 10
    assert [one.at for one in steps([*clean, *(value + 1 for value in clean)])] == [5]
    assert steps([*clean, *(value + 1 for value in clean[1:])]) == []
    assert steps([*clean, *(value * 1.015 for value in clean)]) == []
