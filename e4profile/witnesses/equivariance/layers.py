"""The equivariance witness: how far a map is from commuting with the group, element by element, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError, one_of
from e4profile.groups import Group

FieldType = Literal["regular", "trivial", "invariant"]
FIELDS = ("regular", "trivial", "invariant")


def same_motion(group: Group, acting: Group, element: int) -> int | None:
    """The element of ``group`` that is the same motion, or None."""
    rotation, mirror = acting.split(element)
    turned, rest = divmod(rotation * group.rotations, acting.rotations)
    if rest or (mirror and not group.mirrors):
        return None
    return turned + (group.rotations if mirror else 0)


def group_axis(shape: Sequence[int], order: int) -> int | None:
    """The axis of a regular field's elements, of its own or shared with the channels; None where no axis fits.

    Args:
        shape: (B, c * A) or (B, c, A) without a grid, (B, c * A, h, w), (B, c, A, h, w), and, where c is not A,
            (B, A, c, h, w).
        order: A.
    """
    if len(shape) in (2, 4):
        return 1 if shape[1] % order == 0 else None
    own_axes = {3: (2,), 5: (2, 1)}.get(len(shape), ())
    return next((axis for axis in own_axes if shape[axis] == order), None)


def act(features: Tensor, group: Group, element: int, field: str, own: Group | None = None) -> Tensor:
    """Act with a group element on features of a field type.

    ``regular`` fields move on the grid, where they have one, and over the group (see ``group_axis`` for their shapes),
    ``trivial`` ones (..., h, w) on the grid only, ``invariant`` ones (any shape, for example logits) not at all.

    Args:
        features: what moves.
        group: the group that acts.
        element: of it.
        field: the type.
        own: the group of a regular field that is larger than the one that acts.

    Raises:
        UnknownNameError: for another field type.
        SettingError: for a shape that no field of the type has, or a regular field whose group lacks the element.
    """
    one_of("field type", field, FIELDS)
    if field == "invariant":
        return features
    shape = tuple(features.shape)
    if field == "trivial":
        if len(shape) < 3:
            raise SettingError(f"a trivial field is a map (..., h, w), not of shape {shape}")
        return group.act_on_grid(features, element)
    own = own or group
    axis, inner = group_axis(shape, own.order), same_motion(own, group, element)
    if axis is None:
        raise SettingError(
            f"group order (={own.order}) must divide the channels or have an axis of its own in a regular field, not "
            f"of shape {shape}"
        )
    if inner is None:
        raise SettingError(f"a regular field of {own.name} lacks element {element} of {group.name}")
    fields = features.unflatten(axis, (-1, own.order)).index_select(
        axis + 1, torch.tensor(own.regular_permutation(inner), device=features.device)
    )
    moved = group.act_on_grid(fields, element) if len(shape) > 3 else fields
    return moved.flatten(axis, axis + 1)


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
