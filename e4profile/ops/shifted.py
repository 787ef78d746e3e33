"""The aggregation and its gradients in plain PyTorch: shifted multiply-adds over k² taps, a block at a time.

A block is some of the batch and some of the group elements, small enough that its buffers stay in the cache;
the flat layout (`layout.py`) makes each tap one long in-place multiply-add. The halves are computed in
float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from e4profile.ops.layout import FlatLayout

# Bytes of one block's buffers: within one core's second-level cache; on an accelerator, few launches instead.
CPU_BLOCK_BYTES = 1 << 20
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

    values (stride², elements, s, c, margin + run + margin), stencils (elements, s, k², run) and
    output (elements, s, c, run); what is spare in the values and in the stencils is zero and stays zero.
    """

    def __init__(self, layout: FlatLayout, elements: int, s: int, c: int, like: torch.Tensor) -> None:
        self.layout = layout
        self.taps = layout.taps()
        dtype = compute_dtype(like.dtype)
        self.size = (elements, s, c)

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=like.device)

        self.values = zeros(layout.stride**2, elements, s, c, layout.run + 2 * layout.margin)
        self.stencils = zeros(elements, s, layout.kernel**2, layout.run)
        self.output = zeros(elements, s, c, layout.run)

    def shifted(self, values: torch.Tensor, tap: int) -> torch.Tensor:
        """The run that one tap reads: a view (elements, s, c, run)."""
        phase, start = self.taps[tap]
        return values[phase, ..., start : start + self.layout.run]

    def load_values(self, values: torch.Tensor) -> None:
        """Take values (batch, s, c, elements, h, w)."""
        moved = values.permute(3, 1, 2, 0, 4, 5)
        for view, y, x in self.layout.phases(self.values, values.shape[4], values.shape[5]):
            view.copy_(moved[..., y :: self.layout.stride, x :: self.layout.stride])

    def store_values(self, padded: torch.Tensor, out: torch.Tensor) -> None:
        """Give what was gathered in the places of the values to out (batch, s, c, elements, h, w)."""
        moved = out.permute(3, 1, 2, 0, 4, 5)
        for view, y, x in self.layout.phases(padded, out.shape[4], out.shape[5]):
            moved[..., y :: self.layout.stride, x :: self.layout.stride].copy_(view)

    def load_stencils(self, stencils: torch.Tensor) -> None:
        """Take stencils (batch, elements, s, k², h_out, w_out)."""
        self.layout.planes(self.stencils).copy_(stencils.permute(1, 2, 3, 0, 4, 5))

    def load_output(self, grad: torch.Tensor) -> None:
        """Take the output's gradient (batch, s, c, elements, h_out, w_out)."""
        self.layout.planes(self.output).copy_(grad.permute(3, 1, 2, 0, 4, 5))

    def store_output(self, out: torch.Tensor) -> None:
        """Give the output to out (batch, s, c, elements, h_out, w_out)."""
        out.permute(3, 1, 2, 0, 4, 5).copy_(self.layout.planes(self.output))

    def aggregate(self) -> None:
        """Let output be the sum over taps of stencil · shifted values."""
        weights = self.stencils.unsqueeze(2)
        torch.mul(weights[:, :, :, 0], self.shifted(self.values, 0), out=self.output)
        for tap in range(1, len(self.taps)):
            self.output.addcmul_(weights[:, :, :, tap], self.shifted(self.values, tap))

    def stencil_gradient(self, gradient: torch.Tensor) -> None:
        """Sum output gradient · shifted values over the slice's channels: (elements, s, k², run)."""
        for tap in range(len(self.taps)):
            target, read = gradient[:, :, tap], self.shifted(self.values, tap)
            torch.mul(self.output[:, :, 0], read[:, :, 0], out=target)
            for channel in range(1, self.size[2]):
                target.addcmul_(self.output[:, :, channel], read[:, :, channel])

    def value_gradient(self, gradient: torch.Tensor) -> None:
        """Add stencil · output gradient to each tap's run of gradient, zeroed, laid out as the values."""
        weights = self.stencils.unsqueeze(2)
        for tap in range(len(self.taps)):
            self.shifted(gradient, tap).addcmul_(weights[:, :, :, tap], self.output)


def _blocks_of(
    batch: int, order: int, size: tuple[int, int], layout: FlatLayout, like: torch.Tensor
) -> Iterator[tuple[Block, slice, slice]]:
    """The blocks of a whole aggregation; buffers are made anew only when a block's size changes.

    Args:
        batch: B.
        order: A.
        size: (s, c).
        layout: of one sample.
        like: gives the dtype and the device.
    """
    s, c = size
    per_place = s * (layout.kernel**2 + c * (1 + layout.stride**2))
    bytes_each = compute_dtype(like.dtype).itemsize * per_place * layout.plane
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
    for block, samples, elements in _blocks_of(B, A, (s, c), layout, values):
        block.load_values(values[samples, :, :, elements])
        block.load_stencils(stencils[samples, elements])
        block.aggregate()
        block.store_output(out[samples, :, :, elements])
    return out


def stencil_gradient(grad: torch.Tensor, values: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """(B, s, c, A, h_out, w_out), (B, s, c, A, h, w) -> (B, A, s, k·k, h_out, w_out)."""
    B, s, c, A, h_out, w_out = grad.shape
    out = values.new_empty((B, A, s, kernel * kernel, h_out, w_out))
    if grad.numel() == 0:
        return out.zero_()
    layout = FlatLayout(1, h_out, w_out, kernel, stride)
    for block, samples, elements in _blocks_of(B, A, (s, c), layout, values):
        block.load_output(grad[samples, :, :, elements])
        block.load_values(values[samples, :, :, elements])
        block.stencil_gradient(block.stencils)
        out[samples, elements].permute(1, 2, 3, 0, 4, 5).copy_(block.layout.planes(block.stencils))
    return out


def value_gradient(  # noqa: PLR0917 - the operator's arguments
    grad: torch.Tensor, stencils: torch.Tensor, h: int, w: int, kernel: int, stride: int
) -> torch.Tensor:
    """(B, s, c, A, h_out, w_out), (B, A, s, k·k, h_out, w_out) -> (B, s, c, A, h, w)."""
    B, s, c, A, h_out, w_out = grad.shape
    out = grad.new_empty((B, s, c, A, h, w))
    if grad.numel() == 0:
        return out.zero_()
    layout = FlatLayout(1, h_out, w_out, kernel, stride)
    for block, samples, elements in _blocks_of(B, A, (s, c), layout, grad):
        block.load_output(grad[samples, :, :, elements])
        block.load_stencils(stencils[samples, elements])
        block.value_gradient(block.values.zero_())
        block.store_values(block.values, out[samples, :, :, elements])
    return out
