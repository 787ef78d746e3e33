"""What a whole training costs: MACs and steps from a recipe, hours and energy from one measured step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from e4profile.errors import SettingError, one_of, positive
from e4profile.layers.e4 import Aggregation
from e4profile.subjects.batches import ModelInputs
from e4profile.subjects.losses import Loss
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import parse_count
from e4profile.witnesses.counts.closed_form import training_step_macs
from e4profile.witnesses.counts.training_step import count_training_step
from e4profile.witnesses.memory.peak import allocator_emulation
from e4profile.witnesses.memory.step import MOMENTS, StepMemory, predict
from e4profile.witnesses.timing.cuda import energy_per_call_j
from e4profile.witnesses.timing.measure import clock_for, measure_time
from e4profile.witnesses.timing.passes import PassSetting, device_named, dtype_named, prepared
from e4profile.witnesses.timing.samples import StopRule, TimeRecord
from e4profile.witnesses.variants import VariantCounter

_EXAMPLES = {"epochs": 100, "batch_size": 64, "training_images": 50000}

SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Recipe:
    """The part of a training recipe that its cost follows from.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step; the last step of an epoch takes what is left.
        training_images: in one epoch.
        optimiser: a name of ``MOMENTS``: what it keeps per parameter.

    Raises:
        SettingError: for sizes that are not positive.
        UnknownNameError: for an optimiser whose state is not known.
    """

    epochs: int
    batch_size: int
    training_images: int
    optimiser: str = "sgd"

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, batch_size=self.batch_size, training_images=self.training_images)
        one_of("optimiser", self.optimiser, MOMENTS)

    @property
    def full_steps_per_epoch(self) -> int:
        """Steps of ``batch_size`` images."""
        return self.training_images // self.batch_size

    @property
    def last_batch(self) -> int:
        """Images of the last, smaller step of an epoch; 0 where there is none."""
        return self.training_images % self.batch_size

    @property
    def steps(self) -> int:
        """Forward and backward passes of the whole training."""
        return self.epochs * -(-self.training_images // self.batch_size)


def recipe_of(name: str, training: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a card's ``[training]`` table.

    Args:
        name: the card's, for messages.
        training: the table; what has no influence on the cost is ignored.
        overrides: of single values.

    Raises:
        SettingError: when a value is missing or cannot be.
        UnknownNameError: for an override that a recipe does not have.
    """
    known = [field.name for field in fields(Recipe)]
    for key in overrides or {}:
        one_of("recipe value", key, (*known, "momentum"))
    values = {**training, **(overrides or {})}
    missing = [key for key in _EXAMPLES if key not in values]
    if missing:
        example = f"--recipe {','.join(f'{key}={_EXAMPLES[key]}' for key in missing)}"
        raise SettingError(f"the training recipe of {name} lacks {', '.join(missing)}; give it, for example {example}")
    epochs, batch_size, images = (parse_count(v, k) if isinstance(v := values[k], str) else v for k in _EXAMPLES)
    optimiser = str(values.get("optimiser", "sgd"))
    if optimiser == "sgd" and values.get("momentum"):
        optimiser = "momentum"
    return Recipe(epochs, batch_size, images, optimiser)


@dataclass(frozen=True)
class TrainingMacs:
    """MACs of a whole training.

    Attributes:
        forward: of all forward passes.
        backward: of all backward passes.
        counted: whether they were counted from what runs, not from a closed form.
        unknown: operators that were not counted.
        recomputed: whether ``backward`` holds what the fused aggregation computes again, which no closed form does.
    """

    forward: int
    backward: int
    counted: bool = False
    unknown: tuple[str, ...] = ()
    recomputed: bool = False

    @property
    def total(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward


def training_macs(model: nn.Module, image_shape: tuple[int, ...], recipe: Recipe) -> TrainingMacs:
    """MACs of the whole training, the smaller last batch of every epoch counted as it is.

    Raises:
        SettingError: for a part without a closed form.
    """
    steps = [(training_step_macs(model, (batch, *image_shape)), times) for batch, times in _batches(recipe)]
    return TrainingMacs(*_whole(recipe, steps))


def counted_training_macs(model: nn.Module, inputs: ModelInputs, recipe: Recipe, loss: Loss = "auto") -> TrainingMacs:
    """MACs of the whole training from what runs on the meta device, for a network without a closed form.

    Raises:
        SettingError: for a loss that does not fit the output.
        Whatever the model's forward raises.
    """
    steps = [(count_training_step(model, inputs, batch, loss), times) for batch, times in _batches(recipe)]
    unknown = dict.fromkeys(name for step, _ in steps for name in step.unknown)
    recomputed = any(isinstance(part, Aggregation) and part.implementation != "reference" for part in model.modules())
    return TrainingMacs(*_whole(recipe, steps), True, tuple(unknown), recomputed)


def _whole(recipe: Recipe, steps: Sequence[tuple[Any, int]]) -> tuple[int, int]:
    """MACs forward and backward of all epochs, from a step of each batch size of one epoch."""
    forward, backward = (sum(times * getattr(step, name) for step, times in steps) for name in ("forward", "backward"))
    return recipe.epochs * forward, recipe.epochs * backward


def _batches(recipe: Recipe) -> list[tuple[int, int]]:
    """The batch sizes of one epoch, and how often each runs."""
    pairs = ((recipe.batch_size, recipe.full_steps_per_epoch), (recipe.last_batch, 1))
    return [(batch_size, times) for batch_size, times in pairs if batch_size and times]


@dataclass(frozen=True)
class MeasuredStep:
    """One training step on a device: gradients' reset, forward, loss, backward.

    Attributes:
        record: its time.
        peak_bytes: that forward and backward held beyond what was there before: on CUDA by the allocator's
            statistics, on a CPU the live storages of one more step, without workspaces.
        energy_j: of one step; None where the driver does not count.
    """

    record: TimeRecord
    peak_bytes: int | None = None
    energy_j: float | None = None


@dataclass(frozen=True)
class Budget:
    """What training one network costs.

    Attributes:
        name: of the network.
        params: of the network.
        recipe: how it is trained.
        macs: of the whole training.
        memory: of one step, predicted.
        step: measured on a device, or None.
    """

    name: str
    params: int
    recipe: Recipe
    macs: TrainingMacs
    memory: StepMemory
    step: MeasuredStep | None = None

    @property
    def hours(self) -> float | None:
        """Device hours of all steps; the last batch of an epoch counts as a full one."""
        return None if self.step is None else self.recipe.steps * self.step.record.median_s / SECONDS_PER_HOUR

    @property
    def energy_kwh(self) -> float | None:
        """Energy of all steps on the device, without the host."""
        if self.step is None or self.step.energy_j is None:
            return None
        return self.recipe.steps * self.step.energy_j / JOULES_PER_KWH


def measure_budget(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    device: str | None = None,
    dtype: str = "float32",
    threads: int | None = 1,
    rule: StopRule | None = None,
) -> Budget:
    """The budget of a network: exact counts always, a measured step where a device is given.

    Args:
        subject: a network with a published recipe, or any network with a ``recipe``; without a closed form it is
            counted from what runs.
        recipe: instead of the card's.
        device: ``cpu`` or ``cuda`` to measure one step there at the recipe's batch size; None measures nothing.
        dtype: of weights and images.
        threads: intra-operator threads; None keeps what is set.
        rule: when to stop sampling the step.

    Raises:
        SettingError: for a recipe that lacks a value, or inputs whose leading sizes are no batch.
        UserCodeError: for what a user-defined model raises.
        MeasurementError: when the step cannot run.
    """
    recipe = recipe or recipe_of(subject.name, subject.training)
    if device is not None:
        device_named(device)
    kind: torch.dtype = dtype_named(dtype)
    subject.check_batched("the recipe sets")
    params, macs, memory = VariantCounter().on_meta(subject, lambda fresh: _counts(fresh, recipe, kind))
    step = None
    if device is not None:
        with subject.guarded():
            step = _measure_step(subject, recipe.batch_size, device, dtype, threads, rule or StopRule())
    return Budget(subject.full_name, params, recipe, macs, memory, step)


def _counts(subject: Subject, recipe: Recipe, kind: torch.dtype) -> tuple[int, TrainingMacs, StepMemory]:
    model = subject.build_whole()
    with subject.guarded():
        macs = None
        if subject.input is not None:
            with suppress(SettingError):  # no closed form: what runs is counted
                macs = training_macs(model, subject.input, recipe)
        macs = macs or counted_training_macs(model, subject.batched, recipe)
        memory = predict(model, subject.batched, recipe.batch_size, optimiser=recipe.optimiser, dtype=kind, loss="auto")
    return sum(parameter.numel() for parameter in model.parameters()), macs, memory


def _measure_step(
    subject: Subject, batch_size: int, device: str, dtype: str, threads: int | None, rule: StopRule
) -> MeasuredStep:
    model, inputs = subject.build("cpu"), subject.batched
    setting = PassSetting("step", "train", device, dtype, batch_size, threads=threads)
    record = measure_time(model, inputs, setting, rule, name=subject.full_name, clock=clock_for(device))
    where = device_named(device)
    how: dict[str, Any] = {"batch_size": batch_size, "device": where, "dtype": dtype_named(dtype), "loss": "auto"}
    if where.type != "cuda":
        return MeasuredStep(record, allocator_emulation(model, inputs, **how).peak_bytes)
    from e4profile.witnesses.memory.peak import allocator_peak
    from e4profile.witnesses.timing.cuda import CudaEvents

    peak = allocator_peak(model, inputs, **how).peak_bytes
    events = CudaEvents(where)
    with prepared(model, inputs, setting) as taken:
        taken.work.call(taken.work.prepare())
        energy_j = energy_per_call_j(taken.work, events.nvml.energy_j, events.synchronize)
    return MeasuredStep(record, peak, energy_j)
