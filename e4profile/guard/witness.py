"""What the guard measures of a loaded network: exact counts per layer, saved bytes, equivariance error."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from e4profile.counters.state import one_thread, random_state_kept
from e4profile.equivariance import equivariance_errors, randomise
from e4profile.errors import SettingError
from e4profile.groups import Group, as_group
from e4profile.guard.baseline import LayerCosts, ModelCosts
from e4profile.guard.config import GuardedModel
from e4profile.guard.loading import Loaded
from e4profile.layers.base import EquivariantLayer

ERROR_FLOOR = 1e-10
"""A layer whose own error in float64 is below this does not break equivariance: it is rounding."""


def model_costs(entry: GuardedModel, loaded: Loaded, *, saved_bytes: bool = False) -> ModelCosts:
    """The counts of one network, per module that has parameters or runs operations itself.

    Raises:
        E4ProfileError: when saved bytes are asked for and the network cannot run in training mode, or takes
            several inputs.
    """
    counted = loaded.measured.dispatch
    costs = {"params": counted.params, "macs": counted.macs}
    layers = {
        one.path: (one.layer, {"params": one.params, "macs": one.total("macs")}) for one in counted.layers
    }
    if saved_bytes:
        from e4profile.memory import saved_for_backward

        batch_size, *image = loaded.image_shape("saved_bytes_max")
        with loaded.own_errors():
            saved = saved_for_backward(loaded.model, image, batch_size=batch_size)
        costs["saved_bytes"] = saved.saved_bytes
        for _, amounts in layers.values():
            amounts["saved_bytes"] = 0
        for one in saved.modules:
            amount = one.constant_bytes + batch_size * one.per_image_bytes
            nothing = {"params": 0, "macs": 0}
            layers.setdefault(one.path, (one.layer, nothing))[1]["saved_bytes"] = amount
    return ModelCosts(
        entry.build,
        loaded.input,
        loaded.arguments,
        costs,
        {path: LayerCosts(name, amounts) for path, (name, amounts) in layers.items()},
    )


@dataclass(frozen=True)
class EquivarianceFound:
    """How far a network is from commuting with a group.

    Attributes:
        group: whose elements acted.
        error: the largest relative error of the output over the elements.
        element: the element of that error.
        layers: own error of every layer that does not commute on the input it receives, in order of execution.
    """

    group: Group
    error: float
    element: int
    layers: Mapping[str, float]


def equivariance_error(
    model: nn.Module, shape: tuple[int, ...], group: str | None = None, field_out: str | None = None
) -> EquivarianceFound:
    """The equivariance error of a copy in float64 and evaluation mode, every parameter and buffer randomised.

    Args:
        model: with values; it is left as it was found.
        shape: of its input, (B, channels, h, w), an image of trivial fields.
        group: a group's name; the one that the network's layers share when None.
        field_out: the output's field type; without it, an output that is no map is invariant.

    Raises:
        SettingError: when group or field type are needed and not given, or do not fit.
        UnknownNameError: for a group that does not exist.
        Whatever the network's forward raises.
    """
    acting = as_group(group) if group is not None else _group_of(model)
    acting.require_exact_on_grid("the equivariance error")
    if len(shape) != 4:
        raise SettingError(f"an equivariance error needs an input (B, channels, h, w), not {shape}")
    with random_state_kept(), one_thread(), torch.no_grad():
        network = randomise(copy.deepcopy(model).double().eval())
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return _compared(network, images, acting, field_out)


def _compared(network: nn.Module, images: Tensor, acting: Group, field_out: str | None) -> EquivarianceFound:
    with _inputs_seen(network) as seen:
        output = network(images)
    if not isinstance(output, Tensor):
        raise SettingError(f"an equivariance error needs one tensor as output, not a {type(output).__name__}")
    errors = equivariance_errors(network, images, acting, "trivial", field_out or _field_of(output))
    layers = {path: _own_error(layer, given) for path, (layer, given) in seen.items()}
    # an error that is not a number is the worst there is
    worst = max(range(len(errors)), key=lambda g: math.inf if math.isnan(errors[g]) else errors[g])
    broken = {path: error for path, error in layers.items() if not error <= ERROR_FLOOR}
    return EquivarianceFound(acting, errors[worst], worst, broken)


def _group_of(model: nn.Module) -> Group:
    named = (getattr(module, "group", None) for module in model.modules())
    groups = {group for group in named if isinstance(group, Group)}
    if len(groups) != 1:
        found = ", ".join(sorted(group.alias for group in groups)) or "none"
        raise SettingError(
            f"equivariance_error_max needs a group, for example group = 'p4' (its layers: {found})"
        )
    return groups.pop()


def _field_of(output: Tensor) -> str:
    if output.dim() == 4:
        raise SettingError(
            f"the output {tuple(output.shape)} is a map: say its field_out, 'regular', 'trivial' or 'invariant'"
        )
    return "invariant"


@contextmanager
def _inputs_seen(model: nn.Module) -> Iterator[dict[str, tuple[EquivariantLayer, Tensor]]]:
    """The first input of every outermost equivariant layer, in order of execution."""
    seen: dict[str, tuple[EquivariantLayer, Tensor]] = {}
    paths: dict[str, EquivariantLayer] = {}
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") or not outer for outer in paths)
        if isinstance(module, EquivariantLayer) and not inside:
            paths[path] = module

    def watch(path: str, layer: EquivariantLayer) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
            if path not in seen and len(given) == 1 and isinstance(given[0], Tensor):
                seen[path] = (layer, given[0])

        return layer.register_forward_pre_hook(hook)

    handles = [watch(path, layer) for path, layer in paths.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _own_error(layer: EquivariantLayer, given: Tensor) -> float:
    group = getattr(layer, "group", None)
    if not isinstance(group, Group) or not group.exact_on_grid:
        return 0.0
    return max(equivariance_errors(layer, given, group, layer.field_in, layer.field_out))
