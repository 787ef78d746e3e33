"""The equivariance witness: how far a map is from commuting with the group, element by element, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import Group

FieldType = Literal["regular", "trivial", "invariant"]


def act(features: Tensor, group: Group, element: int, field: str) -> Tensor:
    """Act with a group element on features of a field type.

    ``regular`` fields (B, c * A, h, w) move on the grid and over the group, ``trivial`` ones (B, c, h, w) on
    the grid only, ``invariant`` ones (any shape, for example logits) not at all.

    Raises:
        UnknownNameError: for another field type.
    """
    if field == "regular":
        return group.act_on_field(features, element)
    if field == "trivial":
        return group.act_on_grid(features, element)
    if field == "invariant":
        return features
    raise UnknownNameError("field type", field, ("regular", "trivial", "invariant"))


def equivariance_errors(
    function: Callable[[Tensor], Tensor], inputs: Tensor, group: Group, field_in: str, field_out: str
) -> list[float]:
    """``max |f(g x) - g f(x)| / max |f(x)|`` for every element g, in element order; infinite where it is not finite.

    Args:
        function: the map, for example a module in float64 and evaluation mode.
        inputs: x, of type ``field_in``.
        group: the group that acts.
        field_in: the type of the input.
        field_out: the type of the output.

    Raises:
        SettingError: when f(g x) and g f(x) differ in shape.
    """
    errors = []
    with torch.no_grad():
        output = function(inputs)
        scale = float(output.abs().max()) or 1.0
        for element in group.elements:
            moved_after = act(output, group, element, field_out)
            moved_before = function(act(inputs, group, element, field_in))
            if moved_before.shape != moved_after.shape:
                raise SettingError(
                    f"element {element} of {group.name}: f(g x) has shape {tuple(moved_before.shape)} but g f(x) has "
                    f"{tuple(moved_after.shape)}"
                )
            error = float((moved_before - moved_after).abs().max()) / scale
            # a comparison with NaN is false, so that the largest error would pass it by
            errors.append(error if math.isfinite(error) else math.inf)
    return errors


def assert_equivariant(
    function: Callable[[Tensor], Tensor],
    inputs: Tensor,
    group: Group,
    *,
    field_in: str = "regular",
    field_out: str = "regular",
    tolerance: float = 1e-10,
) -> None:
    """Raise an AssertionError that names the worst element when an error exceeds the tolerance."""
    errors = equivariance_errors(function, inputs, group, field_in, field_out)
    worst = max(range(len(errors)), key=errors.__getitem__)
    if not errors[worst] < tolerance:
        raise AssertionError(
            f"not equivariant under element {worst} of {group.name}: relative error {errors[worst]:.3g} "
            f"(tolerance {tolerance:g})"
        )


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every floating parameter and buffer random values: affines, biases and statistics included.

    A network whose norms are still (1, 0) can be equivariant by accident of initialisation. Running
    variances stay positive.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if name.rpartition(".")[2] == "running_var":
                noise = noise.abs() + 0.5
            tensor.copy_(noise * (0.5 if tensor.dim() > 1 else 1.0))
    return module
