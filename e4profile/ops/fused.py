"""The generator and the aggregation as one operator: stencils live for one block and are never saved.

Between the two stands the largest tensor of an E4 layer, k²·s numbers per position and group element. Here it
is generated block by block, used, and forgotten; backward generates it again. He et al. 2021, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from e4profile.errors import UnknownNameError
from e4profile.ops.aggregation import aggregate, autocast
from e4profile.ops.choice import IMPLEMENTATIONS, generated_kernels_for, is_transformed
from e4profile.ops.flops import flop_formula
from e4profile.ops.reference import aggregate_reference
from e4profile.ops.shapes import (
    check_generate_aggregate,
    generate_aggregate_backward_macs,
    generate_aggregate_macs,
    output_shape,
)

Four = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def generate_stencils(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, kernel: int) -> torch.Tensor:
    """All the stencils at once: weight · hidden + bias.

    Shapes: (B, A, c_mid, h, w), (A, s·k², c_mid), (A, s·k²) -> (B, A, s, k·k, h, w).
    """
    B, A, _, h, w = hidden.shape
    taps = kernel * kernel
    stencils = torch.matmul(weight, hidden.flatten(3)) + bias.unsqueeze(2)
    return stencils.view(B, A, weight.shape[1] // taps, taps, h, w)


def generate_and_aggregate(  # noqa: PLR0917
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    values: torch.Tensor,
    kernel: int,
    stride: int = 1,
    implementation: str = "auto",
) -> torch.Tensor:
    """Generate each position's stencil from the hidden maps and aggregate the values with it.

    Equal to `aggregate(generate_stencils(...), values, ...)` without its largest tensor. Under autocast all
    four are cast to its dtype; the plain PyTorch path then still generates and sums in float32. Inside the
    transforms of ``torch.func`` and under forward-mode differentiation the reference runs.

    Shapes: hidden (B, A, c_mid, h_out, w_out), weight (A, s·k², c_mid), bias (A, s·k²),
    values (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out), contiguous.

    Args:
        hidden: the kernel branch after its norm and activation.
        weight: the generator's, its rows permuted for each group element as the element moves the taps.
        bias: as the weight.
        values: the encoded field.
        kernel: k, odd.
        stride: h_out = (h − 1) // stride + 1; w_out by the same rule.
        implementation: as in `aggregate`.

    Raises:
        SettingError: naming the values, when shapes, dtypes or devices do not fit or the kernel is even.
        UnknownNameError: for an implementation that does not exist.
    """
    if implementation not in IMPLEMENTATIONS:
        raise UnknownNameError("implementation", implementation, IMPLEMENTATIONS)
    hidden, weight, bias, values = autocast(hidden, weight, bias, values)
    if implementation == "reference" or is_transformed(hidden, weight, bias, values):
        check_generate_aggregate(hidden, weight, bias, values, kernel, stride)
        return aggregate_reference(generate_stencils(hidden, weight, bias, kernel), values, kernel, stride)
    result: torch.Tensor = generate_aggregate_operator(hidden, weight, bias, values, kernel, stride, implementation)
    return result


@torch.library.custom_op(
    "e4profile::generate_aggregate",
    mutates_args=(),
    schema="(Tensor hidden, Tensor weight, Tensor bias, Tensor values, SymInt kernel, SymInt stride, "
    "str implementation) -> Tensor",
)
def generate_aggregate_operator(  # noqa: PLR0917
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    values: torch.Tensor,
    kernel: int,
    stride: int,
    implementation: str,
) -> torch.Tensor:
    """Operator behind `generate_and_aggregate`: the same arguments, autocast done."""
    check_generate_aggregate(hidden, weight, bias, values, kernel, stride)
    kernels = generated_kernels_for(implementation, values)
    with torch.autocast(values.device.type, enabled=False):
        return kernels.forward(hidden, weight, bias, values, kernel, stride)


@torch.library.custom_op(
    "e4profile::generate_aggregate_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor hidden, Tensor weight, Tensor bias, Tensor values, SymInt kernel, "
    "SymInt stride, str implementation, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
)
def generate_aggregate_backward_operator(  # noqa: PLR0917
    grad: torch.Tensor,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    values: torch.Tensor,
    kernel: int,
    stride: int,
    implementation: str,
    needs: Sequence[bool],
) -> Four:
    """Gradients of hidden, weight, bias and values; one that is not needed comes back empty."""
    check_generate_aggregate(hidden, weight, bias, values, kernel, stride)
    kernels = generated_kernels_for(implementation, values)
    with torch.autocast(values.device.type, enabled=False):
        found = kernels.backward(grad, (hidden, weight, bias, values), kernel, stride, needs)
    a, b, c, d = (grad.new_empty(0) if gradient is None else gradient for gradient in found)
    return a, b, c, d


@generate_aggregate_operator.register_fake
def _(  # noqa: PLR0917
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    values: torch.Tensor,
    kernel: int,
    stride: int,
    _implementation: str,
) -> torch.Tensor:
    check_generate_aggregate(hidden, weight, bias, values, kernel, stride)
    return values.new_empty(output_shape(values.shape, stride))


@generate_aggregate_backward_operator.register_fake
def _(  # noqa: PLR0917
    grad: torch.Tensor,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    values: torch.Tensor,
    kernel: int,
    stride: int,
    _implementation: str,
    needs: Sequence[bool],
) -> Four:
    check_generate_aggregate(hidden, weight, bias, values, kernel, stride)
    tensors = (hidden, weight, bias, values)
    a, b, c, d = (grad.new_empty(t.shape if need else (0,)) for t, need in zip(tensors, needs, strict=True))
    return a, b, c, d


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.kernel, ctx.stride, ctx.implementation = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    needs = list(ctx.needs_input_grad[:4])
    found = generate_aggregate_backward_operator(
        grad, *ctx.saved_tensors, ctx.kernel, ctx.stride, ctx.implementation, needs
    )
    gradients = (gradient if need else None for gradient, need in zip(found, needs, strict=True))
    return *gradients, None, None, None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Four) -> None:  # noqa: ARG001
    *tensors, ctx.kernel, ctx.stride, ctx.implementation, ctx.needs = inputs
    ctx.save_for_backward(*tensors)


def _double_backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    # Differentiate the two operations apart, all stencils at once: rare enough for memory not to matter.
    with torch.enable_grad():
        inputs = [t if t.requires_grad else t.detach().requires_grad_() for t in ctx.saved_tensors]
        grad, hidden, weight, bias, values = inputs
        stencils = generate_stencils(hidden, weight, bias, ctx.kernel)
        out = aggregate(stencils, values, ctx.kernel, ctx.stride, ctx.implementation)
        wanted = [t for t, need in zip(inputs[1:], ctx.needs, strict=True) if need]
        first = torch.autograd.grad(out, wanted, grad, create_graph=True)
    given = [g for g, need in zip(upstream, ctx.needs, strict=True) if need]
    second = torch.autograd.grad(
        first, inputs, given, create_graph=torch.is_grad_enabled(), allow_unused=True, materialize_grads=True
    )
    return *second, None, None, None, None


generate_aggregate_operator.register_autograd(_backward, setup_context=_setup)
generate_aggregate_backward_operator.register_autograd(_double_backward, setup_context=_setup_backward)


@flop_formula(torch.ops.e4profile.generate_aggregate)
def _flop(
    hidden: Sequence[int],
    _weight: Sequence[int],
    _bias: Sequence[int],
    values: Sequence[int],
    kernel: int,
    stride: int,
    *_: Any,
    **__: Any,
) -> int:
    return 2 * sum(generate_aggregate_macs(hidden, values, kernel, stride).values())


@flop_formula(torch.ops.e4profile.generate_aggregate_backward)
def _backward_flop(
    _grad: Sequence[int],
    hidden: Sequence[int],
    _weight: Sequence[int],
    _bias: Sequence[int],
    values: Sequence[int],
    kernel: int,
    stride: int,
    _implementation: str,
    needs: Sequence[bool],
    **_: Any,
) -> int:
    return 2 * sum(generate_aggregate_backward_macs(hidden, values, kernel, stride, needs).values())
