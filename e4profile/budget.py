"""What a whole training costs: MACs and steps from the published recipe, hours and energy from one measured step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from e4profile.cards import Card
from e4profile.errors import SettingError, UnknownNameError, positive
from e4profile.memory.predict import StepMemory, predict
from e4profile.memory.states import MOMENTS
from e4profile.timing.energy import energy_per_call_j
from e4profile.timing.measure import clock_for, measure_time
from e4profile.timing.passes import device_named, dtype_named, fixed_threads, prepared
from e4profile.timing.record import TimeRecord
from e4profile.timing.samples import StopRule
from e4profile.training import training_step_macs

SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Recipe:
    """The part of a training recipe that its cost follows from.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step; the last step of an epoch takes what is left.
        training_images: in one epoch.
        optimiser: ``sgd``, ``momentum`` or ``adam``: what it keeps per parameter.

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
        if self.optimiser not in MOMENTS:
            raise UnknownNameError("optimiser", self.optimiser, MOMENTS)

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
        return self.epochs * math.ceil(self.training_images / self.batch_size)


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
        if key not in (*known, "momentum"):
            raise UnknownNameError("recipe value", key, (*known, "momentum"))
    values = {**training, **(overrides or {})}
    missing = [key for key in ("epochs", "batch_size", "training_images") if key not in values]
    if missing:
        example = f"--recipe {missing[0]}=..."
        raise SettingError(
            f"the training recipe of {name} lacks {', '.join(missing)}; give it, for example {example}"
        )
    optimiser = str(values.get("optimiser", "sgd"))
    if optimiser == "sgd" and values.get("momentum"):
        optimiser = "momentum"
    return Recipe(values["epochs"], values["batch_size"], values["training_images"], optimiser)


@dataclass(frozen=True)
class TrainingMacs:
    """MACs of a whole training."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward


def training_macs(model: nn.Module, image_shape: tuple[int, ...], recipe: Recipe) -> TrainingMacs:
    """MACs of the whole training, the smaller last batch of every epoch counted as it is.

    Raises:
        SettingError: for a part without a closed form.
    """
    forward = backward = 0
    for batch_size, times in ((recipe.batch_size, recipe.full_steps_per_epoch), (recipe.last_batch, 1)):
        if batch_size and times:
            step = training_step_macs(model, (batch_size, *image_shape))
            forward += times * step.forward
            backward += times * step.backward
    return TrainingMacs(recipe.epochs * forward, recipe.epochs * backward)


@dataclass(frozen=True)
class MeasuredStep:
    """One training step on a device: gradients' reset, forward, loss, backward.

    Attributes:
        record: its time.
        peak_bytes: that the allocator gave out during forward and backward beyond what was there before;
            None on a CPU.
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
    card: Card,
    recipe: Recipe | None = None,
    *,
    device: str | None = None,
    dtype: str = "float32",
    threads: int | None = 1,
    rule: StopRule | None = None,
) -> Budget:
    """The budget of a card's network: exact counts always, a measured step where a device is given.

    Args:
        card: with a ``[training]`` table, unless ``recipe`` is given.
        recipe: instead of the card's.
        device: ``cpu`` or ``cuda`` to measure one step there at the recipe's batch size; None measures nothing.
        dtype: of weights and images.
        threads: intra-operator threads; None keeps what is set.
        rule: when to stop sampling the step.

    Raises:
        SettingError: for a recipe that lacks a value.
        MeasurementError: when the step cannot run.
    """
    recipe = recipe or recipe_of(card.name, card.training)
    if device is not None:
        device_named(device)
    kind: torch.dtype = dtype_named(dtype)
    model = card.build("meta")
    return Budget(
        card.name,
        sum(parameter.numel() for parameter in model.parameters()),
        recipe,
        training_macs(model, card.input, recipe),
        predict(model, card.input, recipe.batch_size, optimiser=recipe.optimiser, dtype=kind),
        None
        if device is None
        else _measure_step(card, recipe.batch_size, device, dtype, threads, rule or StopRule()),
    )


def _measure_step(  # noqa: PLR0917 - one caller
    card: Card, batch_size: int, device: str, dtype: str, threads: int | None, rule: StopRule
) -> MeasuredStep:
    model = card.build("cpu")
    record = measure_time(
        model,
        card.input,
        pass_="step",
        mode="train",
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        min_run_time_s=rule.min_run_time_s,
        max_run_time_s=rule.max_run_time_s,
        relative_noise=rule.relative_noise,
        threads=threads,
        name=card.name,
        clock=clock_for(device),
    )
    if device_named(device).type != "cuda":
        return MeasuredStep(record)
    from e4profile.memory.cuda import allocator_peak
    from e4profile.timing.cuda import CudaEvents

    where = device_named(device)
    peak = allocator_peak(
        model, card.input, batch_size=batch_size, device=where, dtype=dtype_named(dtype)
    ).peak_bytes
    events = CudaEvents(where)
    with (
        fixed_threads(threads),
        prepared(
            model, card.input, pass_="step", mode="train", device=device, dtype=dtype, batch_size=batch_size
        ) as taken,
    ):
        taken.work.call(taken.work.prepare())
        energy_j = energy_per_call_j(taken.work, events.nvml.energy_j, events.synchronize)
    return MeasuredStep(record, peak, energy_j)
