"""The operators behind `aggregate`: the operation, its two gradients, and both gradients at once.

The operation is bilinear, and so are its gradients: the four are closed under differentiation, and each saves
only the inputs that the gradients asked of it need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from e4profile.ops.choice import kernels_for
from e4profile.ops.flops import flop_formula
from e4profile.ops.shapes import (
    aggregation_macs,
    check_aggregate,
    check_stencil_gradient,
    check_value_gradient,
    output_shape,
    stencils_shape,
)

Two = tuple[torch.Tensor, torch.Tensor]


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
    kernels = kernels_for(implementation, grad)
    of_stencils: torch.Tensor = kernels.backward(grad, None, values, values.shape[4:], kernel, stride)[0]
    return of_stencils


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
    kernels = kernels_for(implementation, grad)
    of_values: torch.Tensor = kernels.backward(grad, stencils, None, (h, w), kernel, stride)[1]
    return of_values


@torch.library.custom_op(
    "e4profile::aggregate_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor stencils, Tensor values, SymInt kernel, SymInt stride, "
    "str implementation) -> (Tensor, Tensor)",
)
def backward_operator(  # noqa: PLR0917
    grad: torch.Tensor, stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, implementation: str
) -> Two:
    """Both gradients at once: grad (B, s, c, A, h_out, w_out) -> as stencils, as values."""
    _check_backward(grad, stencils, values, kernel, stride)
    return kernels_for(implementation, grad).backward(grad, stencils, values, values.shape[4:], kernel, stride)


def _check_backward(grad: torch.Tensor, stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int) -> None:
    check_aggregate(stencils, values, kernel, stride)
    check_stencil_gradient(grad, values, kernel, stride)


@aggregate_operator.register_fake
def _(stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, _implementation: str) -> torch.Tensor:
    check_aggregate(stencils, values, kernel, stride)
    return values.new_empty(output_shape(values.shape, stride))


@stencil_gradient_operator.register_fake
def _(grad: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, _implementation: str) -> torch.Tensor:
    check_stencil_gradient(grad, values, kernel, stride)
    return values.new_empty(stencils_shape(grad.shape, kernel))


@value_gradient_operator.register_fake
def _(  # noqa: PLR0917
    grad: torch.Tensor, stencils: torch.Tensor, h: int, w: int, kernel: int, stride: int, _implementation: str
) -> torch.Tensor:
    check_value_gradient(grad, stencils, h, w, kernel, stride)
    return grad.new_empty((*grad.shape[:4], h, w))


@backward_operator.register_fake
def _(
    grad: torch.Tensor, stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, _implementation: str
) -> Two:
    _check_backward(grad, stencils, values, kernel, stride)
    return stencils.new_empty(stencils.shape), values.new_empty(values.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001
    """Of the three operators with two factors: the first is needed for the second's gradient and vice versa."""
    first, second = inputs[:2]
    ctx.h, ctx.w = second.shape[4:]
    ctx.rest = inputs[-3:]
    ctx.others = len(inputs) - 2
    needs = ctx.needs_input_grad
    ctx.save_for_backward(first if needs[1] else None, second if needs[0] else None)


def _backward_aggregate(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    stencils, values = ctx.saved_tensors
    if stencils is not None and values is not None:
        both = backward_operator(grad, stencils, values, *ctx.rest)
    else:
        both = (
            None if values is None else stencil_gradient_operator(grad, values, *ctx.rest),
            None if stencils is None else value_gradient_operator(grad, stencils, ctx.h, ctx.w, *ctx.rest),
        )
    return *both, *[None] * ctx.others


def _backward_stencil_gradient(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grad, values = ctx.saved_tensors
    return (
        None if values is None else aggregate_operator(upstream, values, *ctx.rest),
        None if grad is None else value_gradient_operator(grad, upstream, ctx.h, ctx.w, *ctx.rest),
        *[None] * ctx.others,
    )


def _backward_value_gradient(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grad, stencils = ctx.saved_tensors
    return (
        None if stencils is None else aggregate_operator(stencils, upstream, *ctx.rest),
        None if grad is None else stencil_gradient_operator(grad, upstream, *ctx.rest),
        *[None] * ctx.others,
    )


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Two) -> None:  # noqa: ARG001
    *tensors, kernel, stride, implementation = inputs
    ctx.rest = kernel, stride, implementation
    ctx.save_for_backward(*tensors)


def _double_backward(ctx: Any, of_stencils: torch.Tensor, of_values: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grad, stencils, values = ctx.saved_tensors
    of_grad = None
    if ctx.needs_input_grad[0]:
        of_grad = aggregate_operator(of_stencils, values, *ctx.rest)
        of_grad = of_grad + aggregate_operator(stencils, of_values, *ctx.rest)
    return of_grad, *backward_operator(grad, of_stencils, of_values, *ctx.rest), None, None, None


aggregate_operator.register_autograd(_backward_aggregate, setup_context=_setup)
stencil_gradient_operator.register_autograd(_backward_stencil_gradient, setup_context=_setup)
value_gradient_operator.register_autograd(_backward_value_gradient, setup_context=_setup)
backward_operator.register_autograd(_double_backward, setup_context=_setup_backward)


@flop_formula(torch.ops.e4profile.aggregate)
def _aggregate_flop(
    _stencils: Sequence[int], values: Sequence[int], kernel: int, stride: int, *_: Any, **__: Any
) -> int:
    return 2 * aggregation_macs(values, kernel, stride)


@flop_formula(torch.ops.e4profile.aggregate_stencil_gradient)
def _stencil_gradient_flop(grad: Sequence[int], _values: Sequence[int], kernel: int, *_: Any, **__: Any) -> int:
    return 2 * math.prod(grad) * kernel * kernel


@flop_formula(torch.ops.e4profile.aggregate_value_gradient)
def _value_gradient_flop(grad: Sequence[int], stencils: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(grad) * stencils[3]


@flop_formula(torch.ops.e4profile.aggregate_backward)
def _backward_flop(grad: Sequence[int], stencils: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * 2 * math.prod(grad) * stencils[3]
