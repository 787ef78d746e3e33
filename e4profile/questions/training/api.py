"""``e4profile.training``: the command ``training`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Arguments, Inputs, Names, Networks, Values
    from e4profile.questions.result import Result


def training(
    models: Networks,
    input: Inputs | None = None,
    *,
    set: Arguments | None = None,
    recipe: Values | None = None,
    device: str | None = None,
    dtype: str = "float32",
    threads: int | None = None,
    max_run_time_s: float = 10.0,
    cards: Names | None = None,
) -> Result:
    """MACs, steps and memory of whole trainings; with a device also hours, peak memory and energy.

    ``recipe`` is a card whose recipe is taken, or values: ``{"epochs": 100, "batch_size": 64, "training_images":
    50000, "optimiser": "adam"}``; a user-defined model needs one.

    Returns:
        One row per network.

    Raises:
        UnknownNameError: for an unknown network, argument, device or dtype.
        SettingError: for a recipe that lacks a value.

    Example:
        >>> recipe = {"epochs": 2, "batch_size": 10, "training_images": 1000, "optimiser": "adam"}
        >>> found = e4profile.training(["z2cnn", "p4-cnn"], recipe=recipe)
        >>> found.steps.tolist(), found.training_macs.is_monotonic_increasing
        ([200, 200], True)
    """
    given = locals()
    from e4profile.questions.training.command import training as command

    return ask(command, given)
