"""A calibration: rates of a device by kind of operator, fitted from timed networks, with the error they leave.

The networks of ``references`` run round after round, so that whatever else the machine does meets all of them; of each
layer, each whole pass and each training step the lower quartile of its rounds counts. The rates are fitted to layers
and passes; how many times as long each kind of operator takes in a training step is fitted to the steps. How far all
can be trusted is measured: networks are left out of the fit and predicted from the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from e4profile.errors import SettingError, positive
from e4profile.witnesses.environment import environment
from e4profile.witnesses.timing.clock import Clock, MeasurementError, ThreadClock, Work
from e4profile.witnesses.timing.layers import Marks, layer_samples, marks_for
from e4profile.witnesses.timing.measure import clock_for
from e4profile.witnesses.timing.passes import (
    PassSetting,
    device_named,
    dtype_name,
    dtype_named,
    fixed_threads,
    prepared,
)
from e4profile.witnesses.timing.rates import Array, Rate, Run, fit_rates, predicted_s, with_steps
from e4profile.witnesses.timing.references import REFERENCES, Reference
from e4profile.witnesses.timing.statistics import median
from e4profile.witnesses.timing.work import layers_of

FOLDS = 8
"""Parts that the networks are dealt into, to leave settings out of the fit."""

_PASSES = 3
"""Of each network in a round, whole and again layer by layer."""

_WHOLE_WEIGHT = 5.0
_BETWEEN_WEIGHT = 0.3


@dataclass(frozen=True)
class Observed:
    """One network's timed runs.

    Attributes:
        topology: that it is of.
        name: with what distinguishes it.
        parts: one run per layer, and what is left of the pass between them.
        whole: the pass.
        step: a training step, with the work of the pass; None where it does not run: a norm refuses single values.
    """

    topology: str
    name: str
    parts: tuple[Run, ...]
    whole: Run
    step: Run | None = None


@dataclass(frozen=True)
class FitError:
    """How far predictions were off for networks that were left out of the fit.

    Attributes:
        mean_percent: the mean of |predicted - measured| / measured.
        largest_percent: the largest of them.
        rank_correlation: Spearman's, of predicted and measured times.
        networks: that were predicted.
        without_rate: networks that could not be, because no other one has their kinds of operators.
    """

    mean_percent: float
    largest_percent: float
    rank_correlation: float
    networks: int
    without_rate: int = 0


@dataclass(frozen=True)
class Calibration:
    """The rates of one device, and how well they predict.

    Attributes:
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        threads: intra-operator threads.
        clock: what the runs were timed with.
        networks: that were timed.
        rounds: of all of them.
        largest_macs: of the networks that were timed.
        rates: by kind of operator.
        setting_error: of settings that the fit did not see.
        topology_error: of topologies that the fit did not see.
        environment: where it was measured.
        step_setting_error, step_topology_error: the same of training steps; None in a calibration of forward passes.
    """

    device: str
    dtype: str
    threads: int
    clock: str
    networks: int
    rounds: int
    largest_macs: int
    rates: Mapping[str, Rate]
    setting_error: FitError
    topology_error: FitError
    environment: Mapping[str, Any]
    step_setting_error: FitError | None = None
    step_topology_error: FitError | None = None

    def __post_init__(self) -> None:
        for kind, rate in self.rates.items():
            values = (rate.s_per_mac, rate.s_per_byte, rate.s_per_call, rate.step_factor or 0.0)
            if not all(np.isfinite(value) and value >= 0 for value in values):
                raise ValueError(f"the rate of {kind!r} must be finite and not negative")


def calibrate(
    device: str = "cpu",
    dtype: str = "float32",
    *,
    threads: int | None = 1,
    references: Sequence[Reference] = REFERENCES,
    max_run_time_s: float = 60.0,
    told: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.perf_counter,
) -> Calibration:
    """Time the reference networks, fit the rates, and leave networks out to see how well they predict.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        threads: intra-operator threads; None keeps what is set.
        references: the networks.
        max_run_time_s: of the timed rounds; each network runs at least once.
        told: hears in words how far it is.
        now: wall time in seconds.

    Raises:
        SettingError: for a device that does not exist.
        MeasurementError: when a network cannot run there.
    """
    where, kind = device_named(device), dtype_name(dtype)
    with fixed_threads(threads) as used:
        observed, rounds, clock = observe(references, where, kind, used, max_run_time_s, told, now)
        here = environment()
    told("fitting")
    rates = fit(observed)
    stepped = any(one.step for one in observed)
    folds, topologies = [str(place % FOLDS) for place in range(len(observed))], [one.topology for one in observed]
    return Calibration(
        device=where.type,
        dtype=kind,
        threads=used,
        clock=clock,
        networks=len(observed),
        rounds=rounds,
        largest_macs=max(sum(macs for _, macs, _, _ in one.whole.work) for one in observed),
        rates=rates,
        setting_error=left_out(observed, folds, rates),
        topology_error=left_out(observed, topologies, rates),
        environment=here,
        step_setting_error=left_out(observed, folds, rates, step=True) if stepped else None,
        step_topology_error=left_out(observed, topologies, rates, step=True) if stepped else None,
    )


def observe(  # noqa: PLR0917 - one caller and its benchmark
    references: Sequence[Reference],
    where: torch.device,
    dtype: str,
    threads: int,
    max_run_time_s: float,
    told: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.perf_counter,
) -> tuple[list[Observed], int, str]:
    """The timed runs of networks, how many rounds they are from, and what they were timed with."""
    if not max_run_time_s > 0:
        raise SettingError(f"max_run_time_s (={max_run_time_s:g}) must be positive")
    clock: Clock = clock_for(where)
    marks: Marks = marks_for(where)
    if where.type == "cpu" and threads == 1:
        clock = marks = ThreadClock()
    setting = PassSetting(device=str(where), dtype=dtype, threads=threads)
    training = replace(setting, pass_="step", mode="train")
    with ExitStack() as stack:
        timed, steps = [], list[Work | None]()
        for reference in references:
            images = torch.zeros((reference.batch, *reference.image))
            taken = stack.enter_context(prepared(reference.build().eval(), images, setting))
            found = layers_of(taken.network, taken.input_shape, dtype_named(dtype).itemsize)
            timed.append((reference, taken.work, found))
            clock.read(taken.work)
            steps.append(_step_of(reference, images, training, clock, stack))
        wholes: list[list[float]] = [[] for _ in timed]
        whole_steps: list[list[float]] = [[] for _ in timed]
        layers: list[list[list[float]]] = [[] for _ in timed]
        start, rounds = now(), 0
        while not rounds or now() - start < max_run_time_s:
            for place, (_, work, found) in enumerate(timed):
                # the others have pushed it out of the caches, and a network that is timed alone is in them
                clock.read(work)
                wholes[place] += [clock.read(work).seconds for _ in range(_PASSES)]
                layers[place].append(_by_layer(found, work, marks))
                if (step := steps[place]) is not None:
                    clock.read(step)
                    whole_steps[place].append(clock.read(step).seconds)
            rounds += 1
            told(f"round {rounds}, {now() - start:.0f} of {max_run_time_s:.0f} s")
    observed = []
    for (reference, _, found), whole, parts, step_s in zip(timed, wholes, layers, whole_steps, strict=True):
        seconds = [_quartile(one) for one in zip(*parts, strict=True)]
        one = _observed(reference, found, _quartile(whole), seconds)
        observed.append(replace(one, step=Run(one.whole.work, _quartile(step_s))) if step_s else one)
    return observed, rounds, clock.name


def _step_of(
    reference: Reference, images: torch.Tensor, training: PassSetting, clock: Clock, stack: ExitStack
) -> Work | None:
    """A training step of a network, once run; None where a norm refuses single values."""
    try:
        with ExitStack() as tried:
            work = tried.enter_context(prepared(reference.build(), images, training)).work
            clock.read(work)
            stack.push(tried.pop_all())
    except MeasurementError:
        return None
    return work


def _by_layer(found: Sequence[tuple[Any, Any]], work: Work, marks: Marks) -> list[float]:
    modules = [step.module for step, _ in found if step is not None]
    samples = layer_samples(modules, work, marks, min_passes=_PASSES, min_run_time_s=0)
    return [median(layer) for layer in samples]


def _quartile(seconds: Sequence[float]) -> float:
    return float(np.quantile(seconds, 0.25))


def _observed(
    reference: Reference, found: Sequence[tuple[Any, Any]], whole_s: float, seconds: Sequence[float]
) -> Observed:
    works = [tuple((one.kind, one.macs, one.bytes, one.calls) for one in operations) for _, operations in found]
    shortest = 1e-7
    runs = [Run(work, max(one, shortest)) for work, one in zip(works, seconds, strict=False)]
    runs.append(Run(works[-1], max(whole_s - sum(seconds), shortest), _BETWEEN_WEIGHT))
    whole = Run(tuple(one for work in works for one in work), whole_s, _WHOLE_WEIGHT)
    return Observed(reference.topology, reference.name, tuple(runs), whole)


def fit(observed: Sequence[Observed], near: Mapping[str, Rate] | None = None) -> dict[str, Rate]:
    """The rates that explain layers and whole passes together; ``near`` are those of nearly the same networks."""
    rates = fit_rates([run for one in observed for run in (*one.parts, one.whole)], near)
    return with_steps(rates, [one.step for one in observed if one.step is not None])


def left_out(
    observed: Sequence[Observed], parts: Sequence[str], near: Mapping[str, Rate], *, step: bool = False
) -> FitError:
    """The error of each network, predicted by a fit of the networks of the other parts.

    Args:
        observed: the networks.
        parts: what each is left out with.
        near: the rates of all of them.
        step: of training steps, of the networks that have one.

    Raises:
        SettingError: where no network can be left out.
    """
    positive(parts=len(set(parts)))
    predicted = np.full(len(observed), np.nan)
    for part in sorted(set(parts)):
        others = [one for one, its in zip(observed, parts, strict=True) if its != part]
        if not others:
            continue
        rates = fit(others, near)
        for place, (one, its) in enumerate(zip(observed, parts, strict=True)):
            if its == part and all(_known(rates, kind, step=step) for kind, *_ in one.whole.work):
                predicted[place] = predicted_s(rates, one.whole.work, step=step)
    runs = [one.step if step else one.whole for one in observed]
    measured = np.array([np.nan if run is None else run.seconds for run in runs])
    timed = ~np.isnan(measured)
    known = timed & ~np.isnan(predicted)
    if not known.any():
        raise SettingError("no network has only kinds of operators that the others have: nothing can be left out")
    return fit_error(predicted[known], measured[known], int((timed & ~known).sum()))


def _known(rates: Mapping[str, Rate], kind: str, *, step: bool) -> bool:
    return kind in rates and not (step and rates[kind].step_factor is None)


def fit_error(predicted: Array, measured: Array, without_rate: int = 0) -> FitError:
    """How far predicted times are off measured ones."""
    off = 100 * np.abs(predicted - measured) / measured
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (predicted, measured)]
    alike = float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if len(off) > 1 else 1.0
    return FitError(float(off.mean()), float(off.max()), alike, len(off), without_rate)
