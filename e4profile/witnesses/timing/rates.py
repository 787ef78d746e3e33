"""What a device does per second, by kind of operator: the time that follows for a pass, and the fit from timed runs.

    t = sum over operations of max(MACs x s_per_mac, bytes x s_per_byte) + calls x s_per_call

after Williams et al. 2009, with rates of its own for each kind of operator. Everything here is arithmetic on numbers or
on arrays of them; nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from e4profile.errors import SettingError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """What one kind of operator takes; 0 where the timed runs show no such part.

    Attributes:
        s_per_mac: seconds per MAC.
        s_per_byte: seconds per byte read or written.
        s_per_call: seconds per call.
        step_factor: how many times as long its share of a training step takes; None where no step was timed.
    """

    s_per_mac: float
    s_per_byte: float
    s_per_call: float
    step_factor: float | None = None

    def seconds(self, macs: Any, moved_bytes: Any, calls: Any = 1) -> Any:
        """The time of operations, for numbers or for arrays that broadcast together."""
        return np.maximum(self.s_per_mac * macs, self.s_per_byte * moved_bytes) + self.s_per_call * calls


@dataclass(frozen=True)
class Run:
    """A timed piece of work.

    Attributes:
        work: (kind, MACs, bytes, calls) of each operation.
        seconds: that all of it took.
        weight: how much this run counts in a fit.
    """

    work: Sequence[tuple[str, int, int, int]]
    seconds: float
    weight: float = 1.0


def predicted_s(rates: Mapping[str, Rate], work: Iterable[tuple[str, Any, Any, Any]], *, step: bool = False) -> Any:
    """The time of a list of operations (kind, MACs, bytes, calls), each a number or an array.

    Args:
        rates: by kind.
        work: of a forward pass.
        step: of a whole training step instead.

    Raises:
        SettingError: for a kind without a rate.
    """
    return sum(seconds_of(rates, kind, macs, moved, calls, step=step) for kind, macs, moved, calls in work)


def seconds_of(rates: Mapping[str, Rate], kind: str, macs: Any, moved: Any, calls: Any, *, step: bool = False) -> Any:
    """The time of operations of a kind in a forward pass, or in a training step.

    Raises:
        SettingError: where the timed runs had no operator of this kind.
    """
    if kind not in rates:
        raise SettingError(f"the calibration has no rate for: {kind}; make one with: e4profile calibrate")
    rate = rates[kind]
    if step and rate.step_factor is None:
        raise SettingError(f"the calibration has no training step with: {kind}; make one with: e4profile calibrate")
    return rate.seconds(macs, moved, calls) * (rate.step_factor if step else 1.0)


_TOWARDS = 0.3
"""How strongly the factors of kinds are drawn towards the common one: few networks tell many kinds apart."""


def with_steps(rates: Mapping[str, Rate], steps: Sequence[Run]) -> dict[str, Rate]:
    """The rates with how many times as long a training step takes, by kind; None for a kind in no step.

    The sum of (predicted / seconds - 1)^2 over the steps is made small, with the factors near the median of all steps.

    Args:
        rates: that predict the forward passes.
        steps: training steps, each with the work of its forward pass.
    """
    kinds = sorted({kind for run in steps for kind, *_ in run.work})
    if not kinds:
        return dict(rates)
    shares = np.zeros((len(steps), len(kinds)))
    for row, run in enumerate(steps):
        for kind, macs, moved, calls in run.work:
            shares[row, kinds.index(kind)] += rates[kind].seconds(macs, moved, calls) / run.seconds
    common = 1 / float(np.median(shares.sum(axis=1)))
    matrix = np.vstack([shares, _TOWARDS * np.eye(len(kinds))])
    target = np.concatenate([np.ones(len(steps)), np.full(len(kinds), _TOWARDS * common)])
    factors = dict(zip(kinds, non_negative(matrix, target).tolist(), strict=True))
    return {kind: replace(rate, step_factor=factors.get(kind)) for kind, rate in rates.items()}


_ROUNDS = 12


def fit_rates(runs: Sequence[Run], near: Mapping[str, Rate] | None = None) -> dict[str, Rate]:
    """The rates that explain timed runs best, by kind; none is negative.

    The sum of (predicted - seconds)^2 / (predicted seconds) is made small, which weighs a run that is twice as fast as
    predicted like one that takes twice as long. Which side of each maximum is the larger follows from the rates, and
    the rates from that: both are settled in turn.

    Args:
        runs: what was timed.
        near: rates to begin with, of a fit of nearly the same runs; several guesses are tried without.

    Raises:
        SettingError: without runs, or for a run that took no time.
    """
    if not runs or min(run.seconds for run in runs) <= 0:
        raise SettingError("a fit needs timed runs, each longer than the clock's step")
    kinds = sorted({kind for run in runs for kind, *_ in run.work})
    place = {kind: index for index, kind in enumerate(kinds)}
    rows = np.array([row for row, run in enumerate(runs) for _ in run.work])
    columns = np.array([place[kind] for run in runs for kind, *_ in run.work])
    macs, moved, calls = np.array([one[1:] for run in runs for one in run.work], dtype=np.float64).T
    seconds = np.array([run.seconds for run in runs])
    weights = np.array([run.weight for run in runs])
    if near is None:
        starts = _starts(macs, moved, columns, len(kinds))
    else:
        known = np.array([[near[kind].s_per_mac, near[kind].s_per_byte] for kind in kinds])[columns]
        starts = (known[:, 0] * macs > known[:, 1] * moved,)
    settled = [_settled(start, (rows, columns), (macs, moved, calls), seconds, weights, len(kinds)) for start in starts]
    per_mac, per_byte, per_call = min(settled, key=lambda one: one[0])[1].reshape(3, len(kinds)).tolist()
    return {kind: Rate(*values) for kind, *values in zip(kinds, per_mac, per_byte, per_call, strict=True)}


def _starts(macs: Array, moved: Array, columns: npt.NDArray[Any], kinds: int) -> tuple[npt.NDArray[np.bool_], ...]:
    """First guesses of the operations that arithmetic bounds: the more intense part of each kind, of several sizes."""
    intensity = macs / np.maximum(moved, 1)
    found = []
    for share in (0.25, 0.5, 0.75):
        limits = np.array([np.quantile(intensity[columns == kind], share) for kind in range(kinds)])
        found.append((intensity >= limits[columns]) & (macs > 0))
    return tuple(found)


def _settled(  # noqa: PLR0917 - one caller
    computes: npt.NDArray[np.bool_],
    places: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    work: tuple[Array, Array, Array],
    seconds: Array,
    weights: Array,
    kinds: int,
) -> tuple[float, Array]:
    """The loss and the rates where sides and rates agree, or after the last round."""
    (rows, columns), (macs, moved, calls) = places, work
    expected: Array = seconds
    best = (np.inf, np.zeros(3 * kinds))
    for _ in range(_ROUNDS):
        matrix = np.zeros((len(seconds), 3 * kinds))
        np.add.at(matrix, (rows, columns), np.where(computes, macs, 0))
        np.add.at(matrix, (rows, kinds + columns), np.where(computes, 0, moved))
        np.add.at(matrix, (rows, 2 * kinds + columns), calls)
        # a first guess far off must not make a run count for nothing
        scale = weights / np.sqrt(seconds * np.maximum(expected, seconds / 5))
        rates = non_negative(matrix * scale[:, None], seconds * scale)
        arithmetic, traffic = rates[columns] * macs, rates[kinds + columns] * moved
        expected = np.asarray(
            np.bincount(rows, np.maximum(arithmetic, traffic) + rates[2 * kinds + columns] * calls, len(seconds)), float
        )
        loss = float(np.sum(weights**2 * (expected - seconds) ** 2 / (np.maximum(expected, seconds / 5) * seconds)))
        if loss < best[0]:
            best = loss, rates
        sides = np.where(arithmetic == traffic, computes, arithmetic > traffic)
        if (sides == computes).all() and abs(loss - best[0]) <= 1e-9 * best[0]:
            break
        computes = sides
    return best


def non_negative(matrix: Array, target: Array) -> Array:
    """X >= 0 that makes the sum of squares of ``matrix @ x - target`` small. Lawson & Hanson 1974, chapter 23."""
    lengths = np.linalg.norm(matrix, axis=0)
    used = lengths > 0
    scaled = matrix[:, used] / lengths[used]
    gram, pull = scaled.T @ scaled, scaled.T @ target
    size = len(pull)
    x, free = np.zeros(size), np.zeros(size, dtype=bool)
    tolerance = 1e-12 * max(float(np.abs(pull).max(initial=0.0)), 1e-300)
    for _ in range(3 * size):
        gradient = np.where(free, -np.inf, pull - gram @ x)
        if not size or gradient.max() <= tolerance:
            break
        free[int(gradient.argmax())] = True
        while True:
            tried = np.zeros(size)
            tried[free] = np.linalg.pinv(gram[np.ix_(free, free)], hermitian=True) @ pull[free]
            negative = free & (tried <= 0)
            if not negative.any():
                x = tried
                break
            steps = np.full(size, np.inf)
            steps[negative] = x[negative] / np.maximum(x[negative] - tried[negative], 1e-300)
            x = x + steps.min() * (tried - x)
            # rounding may leave the one that ends the step just above zero: it would be met again for ever
            x[steps.argmin()] = 0
            free &= x > 0
            x[~free] = 0
            if not free.any():
                break
    found = np.zeros(len(lengths))
    found[used] = x / lengths[used]
    return found
