"""Generator and aggregation together on a GPU: a matrix product and a Triton kernel, some samples at a time.

The stencils of those samples lie as (A, s·k², batch·h_out·w_out), which one matrix product per group
element writes and, for the gradients, reads as it is; the kernels take the strides. Unlike the plain PyTorch
path this generates in the inputs' dtype, as a convolution under autocast does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from e4profile.ops import triton_kernels

Gradients = tuple["torch.Tensor | None", "torch.Tensor | None", "torch.Tensor | None", "torch.Tensor | None"]

# Bytes of one buffer of stencils, of which backward has two: enough for full launches, far below what a whole
# batch takes.
STENCIL_BYTES = 1 << 27


def _samples(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[slice]:
    B, A, _, h_out, w_out = hidden.shape
    bytes_each = A * weight.shape[1] * h_out * w_out * hidden.element_size()
    step = max(1, STENCIL_BYTES // max(1, bytes_each))
    for start in range(0, B, step):
        yield slice(start, min(start + step, B))


def _rows(hidden: torch.Tensor) -> torch.Tensor:
    """(batch, A, c_mid, h, w) -> (A, c_mid, batch·h·w)."""
    return hidden.permute(1, 2, 0, 3, 4).flatten(2)


def _as_stencils(rows: torch.Tensor, hidden: torch.Tensor, taps: int) -> torch.Tensor:
    """(A, s·k², batch·h·w) -> a view (batch, A, s, k², h, w)."""
    b, A, _, h_out, w_out = hidden.shape
    return rows.view(A, rows.shape[1] // taps, taps, b, h_out, w_out).permute(3, 0, 1, 2, 4, 5)


def forward(  # noqa: PLR0917
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, values: torch.Tensor, kernel: int, stride: int
) -> torch.Tensor:
    """Aggregate with the stencils weight · hidden + bias; shapes as in `generated.forward`."""
    out = values.new_empty((*values.shape[:4], *hidden.shape[3:]))
    if out.numel() == 0:
        return out
    for samples in _samples(hidden, weight):
        some = hidden[samples]
        rows = torch.baddbmm(bias.unsqueeze(2), weight, _rows(some))
        stencils = _as_stencils(rows, some, kernel * kernel)
        triton_kernels.forward(stencils, values[samples], kernel, stride, out=out[samples])
    return out


def backward(
    grad: torch.Tensor,
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    kernel: int,
    stride: int,
    needs: Sequence[bool],
) -> Gradients:
    """Gradients of hidden, weight, bias and values, where needed; shapes as in `generated.backward`."""
    hidden, weight, bias, values = tensors
    size, of_stencils = values.shape[4:], any(needs[:3])
    sums = torch.float64 if weight.dtype == torch.float64 else torch.float32
    grad_hidden = hidden.new_zeros(hidden.shape) if needs[0] else None
    grad_weight = weight.new_zeros(weight.shape, dtype=sums) if needs[1] else None
    grad_bias = bias.new_zeros(bias.shape, dtype=sums) if needs[2] else None
    grad_values = values.new_zeros(values.shape) if needs[3] else None
    for samples in _samples(hidden, weight) if grad.numel() else ():
        some, upstream, maps = hidden[samples], grad[samples], _rows(hidden[samples])
        # The stencils' gradient is laid out as the stencils are, for the matrix products.
        rows = maps.new_empty((maps.shape[0], weight.shape[1], maps.shape[2]))
        stencil_grad = _as_stencils(rows, some, kernel * kernel)
        stencils = into = None
        if grad_values is not None:
            stencils = _as_stencils(torch.baddbmm(bias.unsqueeze(2), weight, maps), some, kernel * kernel)
            into = grad_values[samples]
        given = values[samples] if of_stencils else None
        triton_kernels.backward(
            upstream, stencils, given, size, kernel, stride, (stencil_grad if of_stencils else None, into)
        )
        if grad_weight is not None:
            grad_weight += torch.bmm(rows, maps.transpose(1, 2))
        if grad_bias is not None:
            grad_bias += rows.sum(2, dtype=sums)
        if grad_hidden is not None:
            back = torch.bmm(weight.transpose(1, 2), rows)
            grad_hidden[samples] = back.view(*some.permute(1, 2, 0, 3, 4).shape).permute(2, 0, 1, 3, 4)
    return (
        grad_hidden,
        None if grad_weight is None else grad_weight.to(weight.dtype),
        None if grad_bias is None else grad_bias.to(bias.dtype),
        grad_values,
    )
