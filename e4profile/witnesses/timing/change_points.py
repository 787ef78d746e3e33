"""Where a series of times stepped: a rank test whose chance of a false step is what it says.

For every place in the series the ranks before it are held against those after it (the statistic of Mann, Whitney and
Wilcoxon, over its standard deviation where nothing changed); the largest over all places is the evidence. How much
there would be without a step is counted: over every order of the same values up to 7 runs, else over 9,999 orders that
are drawn with a fixed seed. The share of orders with as much, the series itself among them, is an exact p-value
whatever the distribution, as long as the order of the runs does not matter where nothing changed.

A series with several steps is split at the clearest one, and each side is tested in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, permutations
from math import comb
from statistics import median
from typing import Any

import numpy as np

from e4profile.witnesses.timing.statistics import MINIMUM_EFFECT

LEVEL = 0.01
"""The chance of any step among series that have none."""

DRAWN = 9_999
_ENUMERATED = 7
_SEED = 20_201

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Step:
    """Where a series stepped.

    Attributes:
        at: the first place with the new level.
        before, after: medians of the stretches on both sides, up to the next steps.
        p_value: the chance of as much evidence without a step.
    """

    at: int
    before: float
    after: float
    p_value: float

    @property
    def ratio(self) -> float:
        """After over before."""
        return self.after / self.before


def steps(values: Sequence[float], level: float = LEVEL, minimum_effect: float = MINIMUM_EFFECT) -> list[Step]:
    """The steps of a series, in order.

    Args:
        values: one per run, in order; positive.
        level: the chance of a step where there is none.
        minimum_effect: steps of medians that are smaller, relatively, are none.
    """
    found = sorted(_split(values, 0, level, minimum_effect))
    places = [0, *(at for at, _ in found), len(values)]
    levels = [median(values[start:end]) for start, end in pairwise(places)]
    return [Step(at, levels[number], levels[number + 1], p) for number, (at, p) in enumerate(found)]


def _split(values: Sequence[float], start: int, level: float, minimum_effect: float) -> list[tuple[int, float]]:
    if len(values) < fewest_runs(level):
        return []
    at, p_value = clearest(values)
    before, after = median(values[:at]), median(values[at:])
    if p_value > level or max(before / after, after / before) < 1 + minimum_effect:
        return []
    return [
        *_split(values[:at], start, level, minimum_effect),
        (start + at, p_value),
        *_split(values[at:], start + at, level, minimum_effect),
    ]


def clearest(values: Sequence[float]) -> tuple[int, float]:
    """The place with the most evidence of a step, and its p-value."""
    ranks = _ranks(np.asarray(values, dtype=np.float64))
    evidence = _evidence(ranks[None, :])[0]
    at = int(np.argmax(evidence))
    # rounding must not make an order with the same evidence a lesser one
    reached = _of_orders(tuple(sorted(ranks.tolist()))) >= evidence[at] - 1e-9
    if len(ranks) <= _ENUMERATED:
        return at + 1, float(reached.mean())
    return at + 1, (1 + int(reached.sum())) / (1 + DRAWN)


@lru_cache(maxsize=256)
def _of_orders(ranks: tuple[float, ...]) -> Numbers:
    """The largest evidence of every order of the ranks, or of many that are drawn."""
    if len(ranks) <= _ENUMERATED:
        every: Numbers = _evidence(np.array(list(permutations(ranks)))).max(axis=1)
        return every
    generator = np.random.default_rng(_SEED)
    drawn = [generator.permuted(np.tile(ranks, (size, 1)), axis=1) for size in _sizes(len(ranks))]
    return np.concatenate([_evidence(one).max(axis=1) for one in drawn])


def _sizes(runs: int) -> list[int]:
    """Orders that are drawn at a time, so that a long history needs no memory to speak of."""
    size = max(1, 1_000_000 // runs)
    return [size] * (DRAWN // size) + [DRAWN % size] * bool(DRAWN % size)


def _evidence(ranks: Numbers) -> Numbers:
    """By row and place how far the sum of the ranks before it is from its mean, in standard deviations."""
    runs = ranks.shape[1]
    before = np.arange(1, runs)
    sums = np.cumsum(ranks, axis=1)[:, :-1]
    spread = ranks[0].var() * runs / (runs - 1)
    deviation = np.sqrt(spread * before * (runs - before) / runs)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Numbers = np.abs(sums - before * ranks[0].mean()) / deviation
    return np.nan_to_num(found, nan=0.0, posinf=0.0)


def _ranks(values: Numbers) -> Numbers:
    """Ranks from 1, those of ties averaged."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: Numbers = (ends - (counts - 1) / 2)[inverse]
    return found


@lru_cache
def fewest_runs(level: float = LEVEL) -> int:
    """How many runs a series must have for any step to be as unlikely as the level: half of them on either side."""
    runs = 2
    # the two orders of a clean step in the middle, of all that the halves can be in
    while 2 / comb(runs, runs // 2) > level:
        runs += 1
    return runs
