"""Generator and aggregation together in plain PyTorch, a block at a time: no stencil outlives its block.

One matrix product per block writes the stencils straight into the flat layout (`layout.py`). The bias is one
more column of the weight, against a row of ones that is zero in the spare places, so that the bias, its
gradient and the zeros of the layout cost nothing apart. Backward generates each block's stencils anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from e4profile.ops.layout import FlatLayout
from e4profile.ops.shifted import Block, blocks_of, compute_dtype

Gradients = tuple["torch.Tensor | None", "torch.Tensor | None", "torch.Tensor | None", "torch.Tensor | None"]


class Generator:
    """The weight with its bias (A, s·k², c_mid + 1); a block's hidden maps (elements, c_mid + 1, places)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.weight = torch.cat([weight, bias.unsqueeze(2)], dim=2).to(compute_dtype(weight.dtype))
        self.hidden = self.weight.new_empty(0)

    def load(self, block: Block, hidden: torch.Tensor) -> None:
        """Take hidden (batch, elements, c_mid, h_out, w_out)."""
        shape = (block.size[0], self.weight.shape[2], block.layout.batch, block.layout.tile)
        if self.hidden.shape != shape:
            self.hidden = self.weight.new_zeros(shape)
            block.layout.planes(self.hidden[:, -1]).fill_(1.0)
        block.layout.planes(self.hidden[:, :-1]).copy_(hidden.permute(1, 2, 0, 3, 4))

    def generate(self, block: Block, elements: slice) -> None:
        """Write the block's stencils."""
        torch.bmm(self.weight[elements], self.hidden.flatten(2), out=rows_of(block))


def rows_of(block: Block) -> torch.Tensor:
    """The block's stencils as a matrix per group element: a view (elements, s·k², places)."""
    elements, s, taps, samples, tile = block.stencils.shape
    return block.stencils.view(elements, s * taps, samples * tile)


def _blocks(
    hidden: torch.Tensor, values: torch.Tensor, kernel: int, stride: int
) -> Iterator[tuple[Block, slice, slice]]:
    (B, A, c_mid, h_out, w_out), (s, c) = hidden.shape, values.shape[1:3]
    layout = FlatLayout(1, h_out, w_out, kernel, stride)
    return blocks_of(B, A, (s, c), layout, values, extra=c_mid + 1)


def forward(  # noqa: PLR0917
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, values: torch.Tensor, kernel: int, stride: int
) -> torch.Tensor:
    """Aggregate with the stencils weight · hidden + bias.

    Shapes: hidden (B, A, c_mid, h_out, w_out), weight (A, s·k², c_mid), bias (A, s·k²),
    values (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out).
    """
    out = values.new_empty((*values.shape[:4], *hidden.shape[3:]))
    if out.numel() == 0:
        return out
    generator = Generator(weight, bias)
    for block, samples, elements in _blocks(hidden, values, kernel, stride):
        generator.load(block, hidden[samples, elements])
        generator.generate(block, elements)
        block.load_values(values[samples, :, :, elements])
        block.aggregate()
        block.store_output(out[samples, :, :, elements])
    return out


def backward(
    grad: torch.Tensor,
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    kernel: int,
    stride: int,
    needs: Sequence[bool],
) -> Gradients:
    """Gradients of hidden, weight, bias and values, those that are needed.

    Shapes: grad (B, s, c, A, h_out, w_out), tensors as in `forward`.
    """
    hidden, weight, bias, values = tensors
    generator = Generator(weight, bias)
    grad_hidden = torch.empty_like(hidden, memory_format=torch.contiguous_format) if needs[0] else None
    grad_values = torch.zeros_like(values, memory_format=torch.contiguous_format) if needs[3] else None
    grad_weight = torch.zeros_like(generator.weight) if needs[1] or needs[2] else None
    if grad.numel() == 0:
        return _finished(None if grad_hidden is None else grad_hidden.zero_(), grad_weight, grad_values, weight, needs)
    for block, samples, elements in _blocks(hidden, values, kernel, stride):
        generator.load(block, hidden[samples, elements])
        block.load_output(grad[samples, :, :, elements])
        if grad_values is not None:
            generator.generate(block, elements)
            block.value_gradient()
            block.store_value_gradient(grad_values[samples, :, :, elements])
        if grad_hidden is None and grad_weight is None:
            continue
        block.load_values(values[samples, :, :, elements])
        block.stencil_gradient()
        rows = rows_of(block)
        if grad_weight is not None:
            grad_weight[elements].baddbmm_(rows, generator.hidden.flatten(2).transpose(1, 2))
        if grad_hidden is not None:
            maps = torch.bmm(generator.weight[elements, :, :-1].transpose(1, 2), rows)
            grad_hidden[samples, elements].permute(1, 2, 0, 3, 4).copy_(
                block.layout.planes(maps.view_as(generator.hidden[:, :-1]))
            )
    return _finished(grad_hidden, grad_weight, grad_values, weight, needs)


def _finished(
    grad_hidden: torch.Tensor | None,
    grad_weight: torch.Tensor | None,
    grad_values: torch.Tensor | None,
    weight: torch.Tensor,
    needs: Sequence[bool],
) -> Gradients:
    if grad_weight is None:
        return grad_hidden, None, None, grad_values
    both = grad_weight.to(weight.dtype)
    # Copies: an operator's results may not share memory.
    return (
        grad_hidden,
        both[:, :, :-1].clone(memory_format=torch.contiguous_format) if needs[1] else None,
        both[:, :, -1].clone(memory_format=torch.contiguous_format) if needs[2] else None,
        grad_values,
    )
