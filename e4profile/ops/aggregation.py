"""The E4 aggregation as one PyTorch operator: each position's own stencil times its neighbourhood.

out[b,s,c,a,y,x] = Σ_{dy,dx} stencils[b,a,s,dy·k+dx,y,x] · values[b,s,c,a, y·stride+dy−p, x·stride+dx−p], with
zero padding p = (k−1)/2. He et al. 2021, section 4.1, eq. 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from e4profile.errors import UnknownNameError
from e4profile.ops.choice import IMPLEMENTATIONS, kernels_for
from e4profile.ops.reference import aggregate_reference
from e4profile.ops.shapes import (
    aggregation_macs,
    check_aggregate,
    check_stencil_gradient,
    check_value_gradient,
    output_shape,
    stencils_shape,
)


def aggregate(
    stencils: torch.Tensor,
    values: torch.Tensor,
    kernel: int,
    stride: int = 1,
    implementation: str = "auto",
) -> torch.Tensor:
    """Apply to every value's neighbourhood the stencil of its position, slice and group element.

    Under autocast both inputs are cast to its dtype, as for a convolution; the halves are summed in float32.

    Shapes: (B, A, s, k·k, h_out, w_out), (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out), contiguous, where
    c is channels per slice, so that the field layout (B, s·c·A, h, w), channel = field·A + element, is a
    view.

    Args:
        stencils: already acted on by each group element (rotated, mirrored).
        values: the encoded field.
        kernel: k, odd.
        stride: h_out = (h − 1) // stride + 1, likewise w_out.
        implementation: "reference" (unfold·multiply·sum), "cpu" (shifted multiply-adds in plain PyTorch, any
            device), "triton" (CUDA), or "auto": the best there is for the device.

    Raises:
        SettingError: naming the values, when shapes, dtypes or devices do not fit or the kernel is even.
        UnknownNameError: for an implementation that does not exist.
    """
    if implementation not in IMPLEMENTATIONS:
        raise UnknownNameError("implementation", implementation, IMPLEMENTATIONS)
    stencils, values = autocast(stencils, values)
    if implementation == "reference":
        check_aggregate(stencils, values, kernel, stride)
        return aggregate_reference(stencils, values, kernel, stride)
    result: torch.Tensor = aggregate_operator(stencils, values, kernel, stride, implementation)
    return result


def autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cast to autocast's dtype where it is on for the device; as for a convolution, float64 is left alone."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t for t in tensors)


# The operation is bilinear, and so are its two gradients: the three operators are closed under
# differentiation, and each saves only the inputs that the gradients asked of it need.


@torch.library.custom_op(
    "e4profile::aggregate",
    mutates_args=(),
    schema="(Tensor stencils, Tensor values, SymInt kernel, SymInt stride, str implementation) -> Tensor",
)
def aggregate_operator(
    stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, implementation: str
) -> torch.Tensor:
    """Operator behind `aggregate`: the same arguments, autocast done."""
    check_aggregate(stencils, values, kernel, stride)
    return kernels_for(implementation, values).forward(stencils, values, kernel, stride)


@torch.library.custom_op(
    "e4profile::aggregate_stencil_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor values, SymInt kernel, SymInt stride, str implementation) -> Tensor",
)
def stencil_gradient_operator(
    grad: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, implementation: str
) -> torch.Tensor:
    """(B, s, c, A, h_out, w_out), (B, s, c, A, h, w) -> (B, A, s, k·k, h_out, w_out)."""
    check_stencil_gradient(grad, values, kernel, stride)
    return kernels_for(implementation, values).stencil_gradient(grad, values, kernel, stride)


@torch.library.custom_op(
    "e4profile::aggregate_value_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor stencils, SymInt h, SymInt w, SymInt kernel, SymInt stride, "
    "str implementation) -> Tensor",
)
def value_gradient_operator(  # noqa: PLR0917
    grad: torch.Tensor, stencils: torch.Tensor, h: int, w: int, kernel: int, stride: int, implementation: str
) -> torch.Tensor:
    """(B, s, c, A, h_out, w_out), (B, A, s, k·k, h_out, w_out) -> (B, s, c, A, h, w)."""
    check_value_gradient(grad, stencils, h, w, kernel, stride)
    return kernels_for(implementation, grad).value_gradient(grad, stencils, h, w, kernel, stride)


@aggregate_operator.register_fake
def _(
    stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, _implementation: str
) -> torch.Tensor:
    check_aggregate(stencils, values, kernel, stride)
    return values.new_empty(output_shape(values.shape, stride))


@stencil_gradient_operator.register_fake
def _(
    grad: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, _implementation: str
) -> torch.Tensor:
    check_stencil_gradient(grad, values, kernel, stride)
    return values.new_empty(stencils_shape(grad.shape, kernel))


@value_gradient_operator.register_fake
def _(  # noqa: PLR0917
    grad: torch.Tensor, stencils: torch.Tensor, h: int, w: int, kernel: int, stride: int, _implementation: str
) -> torch.Tensor:
    check_value_gradient(grad, stencils, h, w, kernel, stride)
    return grad.new_empty((*grad.shape[:4], h, w))


def _setup_aggregate(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001
    stencils, values, ctx.kernel, ctx.stride, ctx.implementation = inputs
    ctx.h, ctx.w = values.shape[4:]
    needs = ctx.needs_input_grad
    ctx.save_for_backward(stencils if needs[1] else None, values if needs[0] else None)


def _backward_aggregate(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    stencils, values = ctx.saved_tensors
    rest = (ctx.kernel, ctx.stride, ctx.implementation)
    return (
        None if values is None else stencil_gradient_operator(grad, values, *rest),
        None if stencils is None else value_gradient_operator(grad, stencils, ctx.h, ctx.w, *rest),
        *_NO_GRADIENTS[:3],
    )


def _setup_stencil_gradient(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001
    grad, values, ctx.kernel, ctx.stride, ctx.implementation = inputs
    ctx.h, ctx.w = values.shape[4:]
    needs = ctx.needs_input_grad
    ctx.save_for_backward(grad if needs[1] else None, values if needs[0] else None)


def _backward_stencil_gradient(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grad, values = ctx.saved_tensors
    rest = (ctx.kernel, ctx.stride, ctx.implementation)
    return (
        None if values is None else aggregate_operator(upstream, values, *rest),
        None if grad is None else value_gradient_operator(grad, upstream, ctx.h, ctx.w, *rest),
        *_NO_GRADIENTS[:3],
    )


def _setup_value_gradient(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001
    grad, stencils, _, _, ctx.kernel, ctx.stride, ctx.implementation = inputs
    needs = ctx.needs_input_grad
    ctx.save_for_backward(grad if needs[1] else None, stencils if needs[0] else None)


def _backward_value_gradient(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grad, stencils = ctx.saved_tensors
    rest = (ctx.kernel, ctx.stride, ctx.implementation)
    return (
        None if stencils is None else aggregate_operator(stencils, upstream, *rest),
        None if grad is None else stencil_gradient_operator(grad, upstream, *rest),
        *_NO_GRADIENTS[:5],
    )


_NO_GRADIENTS = (None,) * 5
aggregate_operator.register_autograd(_backward_aggregate, setup_context=_setup_aggregate)
stencil_gradient_operator.register_autograd(_backward_stencil_gradient, setup_context=_setup_stencil_gradient)
value_gradient_operator.register_autograd(_backward_value_gradient, setup_context=_setup_value_gradient)


@register_flop_formula(torch.ops.e4profile.aggregate)
def _aggregate_flop(
    _stencils: Sequence[int], values: Sequence[int], kernel: int, stride: int, *_: Any, **__: Any
) -> int:
    return 2 * aggregation_macs(values, kernel, stride)


@register_flop_formula(torch.ops.e4profile.aggregate_stencil_gradient)
def _stencil_gradient_flop(
    grad: Sequence[int], _values: Sequence[int], kernel: int, *_: Any, **__: Any
) -> int:
    return 2 * math.prod(grad) * kernel * kernel


@register_flop_formula(torch.ops.e4profile.aggregate_value_gradient)
def _value_gradient_flop(grad: Sequence[int], stencils: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(grad) * stencils[3]
