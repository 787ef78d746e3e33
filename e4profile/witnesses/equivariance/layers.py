"""The equivariance witness: how far a map is from commuting with the group, element by element, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.groups import GroupLike, as_group
from e4profile.witnesses.equivariance.fields import act, of_the_map


def equivariance_errors(
    function: Callable[[Tensor], Tensor], inputs: Tensor, group: GroupLike, field_in: str, field_out: str
) -> list[float]:
    """``max |f(g x) - g f(x)| / max |f(x)|`` for every element g, in element order; infinite where it is not finite.

    Args:
        function: the map, for example a module in float64 and evaluation mode.
        inputs: x, of type ``field_in``.
        group: the group that acts.
        field_in: the type or layout of the input.
        field_out: the type or layout of the output.

    Raises:
        SettingError: when f(g x) and g f(x) differ in shape.
    """
    group = as_group(group)
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
            differences = of_the_map(moved_before - moved_after, group, field_out, group)
            error = float(differences.abs().max()) / scale
            # a comparison with NaN is false, so that the largest error would pass it by
            errors.append(error if math.isfinite(error) else math.inf)
    return errors


def assert_equivariant(
    function: Callable[[Tensor], Tensor],
    inputs: Tensor,
    group: GroupLike,
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
            f"not equivariant under element {worst} of {as_group(group).name}: relative error {errors[worst]:.3g} "
            f"(tolerance {tolerance:g})"
        )


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module, with random values in what ``varied`` lists.

    A network whose norms are still (1, 0) can be equivariant by accident of initialisation. Everything else, such as
    a basis, a mask or a frozen parameter, may be what the equivariance rests on, and stays. Running variances stay
    positive. What a module derives from its parameters when it enters evaluation mode has to be derived again.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in varied(module).items():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if name.rpartition(".")[2] == "running_var":
                noise = noise.abs() + 0.5
            tensor.copy_(noise * (0.5 if tensor.dim() > 1 else 1.0))
    return module


def varied(module: nn.Module) -> dict[str, Tensor]:
    """By name, the floating parameters that are trained and the running statistics of norms."""
    statistics = {
        f"{path}{'.' if path else ''}{name}": norm._buffers[name]
        for path, norm in module.named_modules()
        for name in ("running_mean", "running_var")
        # by their names, so that a norm that is written by hand is one
        if isinstance(norm._buffers.get("running_mean"), Tensor)
        and isinstance(norm._buffers.get("running_var"), Tensor)
    }
    trained = {name: one for name, one in module.named_parameters() if one.requires_grad}
    return {name: one for name, one in (trained | statistics).items() if one is not None and one.is_floating_point()}
