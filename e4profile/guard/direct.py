"""The guard's checks for one network in hand, without configuration or baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from e4profile.errors import SettingError
from e4profile.guard.baseline import ModelCosts
from e4profile.guard.checks import check_budgets
from e4profile.guard.config import GuardedModel, parse_budgets
from e4profile.guard.loading import load, load_module
from e4profile.guard.witness import model_costs


def check_directly(
    model: nn.Module | str,
    input: str | Sequence[int] | None,
    folder: Path,
    arguments: Mapping[str, Any],
    budgets: Mapping[str, Any],
) -> tuple[ModelCosts, list[str]]:
    """Count a network and hold it to its budgets.

    Args:
        model: a module, which is left as it was found, or what ``build`` may be in a configuration.
        input: ``1x3x32x32`` or (1, 3, 32, 32); a card has its own.
        folder: where relative paths start.
        arguments: of the builder.
        budgets: by the names of ``Budgets``.

    Returns:
        The exact counts, and a message for every budget that is exceeded.

    Raises:
        SettingError: for a budget, an argument or an input that does not exist or fit.
    """
    limits = parse_budgets(budgets, "e4profile_check")
    shape = input if isinstance(input, str) or input is None else "x".join(map(str, input))
    name = model if isinstance(model, str) else type(model).__name__
    entry = GuardedModel(name, name, () if shape is None else (shape,), arguments, limits)
    if isinstance(model, str):
        loaded = load(entry, folder)
    elif arguments:
        raise SettingError(f"{', '.join(arguments)}: arguments are for a builder, not for a module")
    else:
        loaded = load_module(entry, model)
    costs = model_costs(entry, loaded, saved_bytes=limits.saved_bytes_max is not None)
    checks = check_budgets(name, limits, loaded, costs)
    return costs, [f"{name}: {check.name}: {check.message}" for check in checks if check.status != "pass"]
