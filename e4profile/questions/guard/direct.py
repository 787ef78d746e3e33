"""The guard's checks for one network in hand, without configuration or baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from e4profile.errors import SettingError
from e4profile.questions.guard.checks import check_budgets
from e4profile.questions.guard.config import GuardedModel, parse_budgets
from e4profile.questions.guard.loading import load, load_module
from e4profile.questions.guard.witness import model_costs
from e4profile.records.baseline import ModelCosts


def check_directly(
    model: nn.Module | str, input: Any, folder: Path, arguments: Mapping[str, Any], budgets: Mapping[str, Any]
) -> tuple[ModelCosts, list[str]]:
    """Count a network and hold it to its budgets.

    Args:
        model: a module, which is left as it was found, or what ``build`` may be in a configuration.
        input: ``1x3x32x32``, several such texts, or what ``subjects.inputs.as_example`` takes: (1, 3, 32, 32), a
        tensor, a dict of keyword inputs, a sequence of inputs; a card has its own.
        folder: where relative paths start.
        arguments: of the builder.
        budgets: by the names of ``Budgets``.

    Returns:
        The exact counts, and a message for every budget that is exceeded.

    Raises:
        SettingError: for a budget, an argument or an input that does not exist or fit.
    """
    limits = parse_budgets(budgets, "e4profile_check: ")
    texts, given = _inputs(input)
    name = model if isinstance(model, str) else type(model).__name__
    entry = GuardedModel(name, name, texts, arguments, limits)
    if isinstance(model, str):
        loaded = load(entry, folder, given)
    elif arguments:
        raise SettingError(f"{', '.join(arguments)}: arguments are for a builder, not for a module")
    else:
        loaded = load_module(entry, model, given)
    costs = model_costs(entry, loaded, saved_bytes=limits.saved_bytes_max is not None)
    checks = check_budgets(name, limits, loaded, costs)
    return costs, [f"{name}: {check.name}: {check.message}" for check in checks if check.status != "pass"]


def _inputs(given: Any) -> tuple[tuple[str, ...], Any]:
    """Inputs as texts, or as they are in the second place."""
    if given is None:
        return (), None
    if isinstance(given, str):
        return (given,), None
    if not isinstance(given, Sequence) or not given:
        return (), given
    if all(isinstance(one, str) for one in given):
        return tuple(given), None
    if all(type(one) is int for one in given):
        return ("x".join(map(str, given)),), None
    return (), given
