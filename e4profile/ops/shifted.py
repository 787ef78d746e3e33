"""The aggregation and its gradients in plain PyTorch: shifted multiply-adds over k² taps, a block at a time.

A block is some of the batch and some of the group elements, small enough that its buffers stay in the cache;
the flat layout (`layout.py`) makes each tap one long in-place multiply-add. The halves are computed in
float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from e4profile.ops.layout import FlatLayout

# Bytes of one block's buffers: about one core's second-level cache; on an accelerator, few launches instead.
CPU_BLOCK_BYTES = 1 << 21
ACCELERATOR_BLOCK_BYTES = 1 << 27


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept in: float32 for the halves."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def blocks(batch: int, order: int, bytes_each: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Cut (batch, group elements) into blocks of about the cache's size, batch first.

    Args:
        batch: B.
        order: A, the group elements.
        bytes_each: of the buffers of one sample and one group element.
        device: where the block is computed.
    """
    budget = CPU_BLOCK_BYTES if device.type == "cpu" else ACCELERATOR_BLOCK_BYTES
    units = max(1, budget // max(1, bytes_each))
    samples = -(-batch // -(-batch // min(units, batch)))
    elements = max(1, min(order, units // samples))
    for start in range(0, batch, samples):
        for first in range(0, order, elements):
            yield slice(start, min(start + samples, batch)), slice(first, min(first + elements, order))


class Block:
    """Buffers of one block: `samples` of the batch and `elements` of the group.

    values (stride², elements, s, c, margin + run + margin), stencils (elements, s, k², samples, tile) and
    output (elements, s, c, samples, tile); what is spare in the values and in the stencils is zero and stays zero.
    The views of each tap are made once, for making them costs as much as a short multiply-add.
    """

    def __init__(self, layout: FlatLayout, elements: int, s: int, c: int, like: torch.Tensor) -> None:
        self.layout = layout
        self.size = (elements, s, c)
        dtype = compute_dtype(like.dtype)

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=like.device)

        self.values = zeros(layout.stride**2, elements, s, c, layout.run + 2 * layout.margin)
        self.stencils = zeros(elements, s, layout.kernel**2, layout.batch, layout.tile)
        self.output = zeros(elements, s, c, layout.batch, layout.tile)
        self.gathered: torch.Tensor | None = None
        self.gathered_taps: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.taps = self._taps(self.values)

    def _windows(self, padded: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """[(stencils (elements, s, rows, columns, ...), values (elements, s, c, rows, columns, ...))]."""
        k = self.layout.kernel
        stencils = self.stencils.view(*self.size[:2], k, k, self.layout.batch, self.layout.tile)
        return [(stencils[:, :, rows, columns], view) for rows, columns, view in self.layout.windows(padded)]

    def _taps(self, padded: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """[(stencils (elements, s, 1, ...), values (elements, s, c, ...))], tap by tap."""
        return [
            (stencils[:, :, row, column].unsqueeze(2), view[:, :, :, row, column])
            for stencils, view in self._windows(padded)
            for row in range(view.shape[3])
            for column in range(view.shape[4])
        ]

    def load_values(self, values: torch.Tensor) -> None:
        """Take values (batch, s, c, elements, h, w)."""
        moved = values.permute(3, 1, 2, 0, 4, 5)
        for view, y, x in self.layout.phases(self.values, values.shape[4], values.shape[5]):
            view.copy_(moved[..., y :: self.layout.stride, x :: self.layout.stride])

    def load_stencils(self, stencils: torch.Tensor) -> None:
        """Take stencils (batch, elements, s, k², h_out, w_out)."""
        self.layout.planes(self.stencils).copy_(stencils.permute(1, 2, 3, 0, 4, 5))

    def load_output(self, grad: torch.Tensor) -> None:
        """Take the output's gradient (batch, s, c, elements, h_out, w_out)."""
        self.layout.planes(self.output).copy_(grad.permute(3, 1, 2, 0, 4, 5))

    def store_output(self, out: torch.Tensor) -> None:
        """Give the output to out (batch, s, c, elements, h_out, w_out)."""
        out.permute(3, 1, 2, 0, 4, 5).copy_(self.layout.planes(self.output))

    def store_stencil_gradient(self, out: torch.Tensor) -> None:
        """Give the stencils' gradient to out (batch, elements, s, k², h_out, w_out)."""
        out.permute(1, 2, 3, 0, 4, 5).copy_(self.layout.planes(self.stencils))

    def aggregate(self) -> None:
        """Let output be the sum over taps of stencil · shifted values."""
        first, *rest = self.taps
        torch.mul(*first, out=self.output)
        for weight, read in rest:
            self.output.addcmul_(weight, read)

    def stencil_gradient(self) -> None:
        """Let stencils be the sum over the slice's channels of output gradient · shifted values."""
        grad = self.output[:, :, :, None, None]
        for stencils, read in self._windows(self.values):
            torch.mul(grad[:, :, 0], read[:, :, 0], out=stencils)
            for channel in range(1, self.size[2]):
                stencils.addcmul_(grad[:, :, channel], read[:, :, channel])

    def value_gradient(self) -> None:
        """Gather, laid out as the values, the sum of stencil · output gradient over each tap's run."""
        # A buffer of its own: what it gathers in the spare places must not be read as padding later.
        if self.gathered is None:
            self.gathered = torch.empty_like(self.values)
            self.gathered_taps = self._taps(self.gathered)
        self.gathered.zero_()
        for weight, target in self.gathered_taps:
            target.addcmul_(weight, self.output)

    def store_value_gradient(self, out: torch.Tensor) -> None:
        """Give what was gathered to out (batch, s, c, elements, h, w)."""
        assert self.gathered is not None
        moved = out.permute(3, 1, 2, 0, 4, 5)
        for view, y, x in self.layout.phases(self.gathered, out.shape[4], out.shape[5]):
            moved[..., y :: self.layout.stride, x :: self.layout.stride].copy_(view)


def bytes_of_one(size: tuple[int, int], layout: FlatLayout, dtype: torch.dtype, extra: int = 0) -> int:
    """Bytes of a block's buffers per sample and group element: the arguments of ``blocks_of``."""
    s, c = size
    per_place = extra + s * (layout.kernel**2 + c * (1 + layout.stride**2))
    return compute_dtype(dtype).itemsize * per_place * layout.plane


def blocks_of(  # noqa: PLR0917
    batch: int, order: int, size: tuple[int, int], layout: FlatLayout, like: torch.Tensor, extra: int = 0
) -> Iterator[tuple[Block, slice, slice]]:
    """The blocks of a whole aggregation; buffers are made anew only when a block's size changes.

    Args:
        batch: B.
        order: A.
        size: (s, c).
        layout: of one sample.
        like: gives the dtype and the device.
        extra: numbers the caller keeps per place and group element besides.
    """
    s, c = size
    bytes_each = bytes_of_one(size, layout, like.dtype, extra)
    block: Block | None = None
    for samples, elements in blocks(batch, order, bytes_each, like.device):
        of_block = replace(layout, batch=samples.stop - samples.start)
        count = elements.stop - elements.start
        if block is None or block.layout != of_block or block.size[0] != count:
            block = Block(of_block, count, s, c, like)
        yield block, samples, elements


def forward(stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """(B, A, s, k·k, h_out, w_out), (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out)."""
    B, s, c, A = values.shape[:4]
    out = values.new_empty((B, s, c, A, *stencils.shape[4:]))
    if out.numel() == 0:
        return out
    layout = FlatLayout(1, out.shape[4], out.shape[5], kernel, stride)
    for block, samples, elements in blocks_of(B, A, (s, c), layout, values):
        block.load_values(values[samples, :, :, elements])
        block.load_stencils(stencils[samples, elements])
        block.aggregate()
        block.store_output(out[samples, :, :, elements])
    return out


def backward(  # noqa: PLR0917
    grad: torch.Tensor,
    stencils: torch.Tensor | None,
    values: torch.Tensor | None,
    size: Sequence[int],
    kernel: int,
    stride: int,
) -> tuple[Any, Any]:
    """The gradient of the stencils where values are given, and that of the values where stencils are.

    Shapes: grad (B, s, c, A, h_out, w_out), stencils (B, A, s, k·k, h_out, w_out), values (B, s, c, A, *size).
    """
    B, s, c, A, h_out, w_out = grad.shape
    new = grad.new_empty if grad.numel() else grad.new_zeros
    of_stencils = None if values is None else new((B, A, s, kernel * kernel, h_out, w_out))
    of_values = None if stencils is None else new((B, s, c, A, *size))
    if grad.numel() == 0:
        return of_stencils, of_values
    layout = FlatLayout(1, h_out, w_out, kernel, stride)
    for block, samples, elements in blocks_of(B, A, (s, c), layout, grad):
        block.load_output(grad[samples, :, :, elements])
        if stencils is not None and of_values is not None:
            block.load_stencils(stencils[samples, elements])
            block.value_gradient()
            block.store_value_gradient(of_values[samples, :, :, elements])
        if values is not None and of_stencils is not None:
            block.load_values(values[samples, :, :, elements])
            block.stencil_gradient()
            block.store_stencil_gradient(of_stencils[samples, elements])
    return of_stencils, of_values
