"""What the fused operator of an E4 layer holds inside itself on the CPU, from sizes alone.

The operator runs block by block: some images and some group elements, as many as ``ops.shifted.blocks`` says for a
budget of bytes. A block's buffers are made anew where its size changes, and then the old ones are still there. The
chunk is that rule's, called with integers; no tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from e4profile.layers.e4 import E4Conv2d
from e4profile.ops.layout import FlatLayout
from e4profile.ops.shifted import blocks, bytes_of_one, compute_dtype
from e4profile.witnesses.memory.peak import GRANULARITY_BYTES


@dataclass(frozen=True)
class FusedSizes:
    """The sizes that ``generate_and_aggregate`` gets.

    Attributes:
        batch: B.
        order: A.
        hidden: c_mid, fields of the kernel branch.
        slices: s.
        channels: fields per slice.
        h: rows of the values.
        w: columns of the values.
        h_out: rows of the output.
        w_out: columns of the output.
        kernel: k.
        stride: of the output positions.
    """

    batch: int
    order: int
    hidden: int
    slices: int
    channels: int
    h: int
    w: int
    h_out: int
    w_out: int
    kernel: int
    stride: int

    @classmethod
    def of(cls, layer: E4Conv2d, input_shape: tuple[int, ...]) -> FusedSizes:
        """Of an E4 layer on inputs (B, c_in * A, h, w)."""
        _, _, h_out, w_out = layer.output_shape(input_shape)
        return cls(
            input_shape[0], layer.group.order, layer.c_in // layer.reduction, layer.slices,
            layer.c_out // layer.slices, input_shape[2], input_shape[3], h_out, w_out, layer.kernel, layer.stride,
        )  # fmt: skip

    @property
    def layout(self) -> FlatLayout:
        """Of one image."""
        return FlatLayout(1, self.h_out, self.w_out, self.kernel, self.stride)

    def blocks(self, dtype: torch.dtype) -> Iterator[tuple[int, int]]:
        """(images, group elements) of every block, in order, on the CPU."""
        each = bytes_of_one((self.slices, self.channels), self.layout, dtype, extra=self.hidden + 1)
        for images, elements in blocks(self.batch, self.order, each, torch.device("cpu")):
            yield images.stop - images.start, elements.stop - elements.start


@dataclass
class _Account:
    """Live storages by name, and the most of them so far."""

    granularity_bytes: int
    live: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)

    def make(self, name: str, elements: int, dtype: torch.dtype) -> None:
        size_bytes = elements * dtype.itemsize
        self.live[name] = -(-size_bytes // self.granularity_bytes) * self.granularity_bytes
        if sum(self.live.values()) > sum(self.most.values()):
            self.most = dict(self.live)

    def rename(self, old: str, new: str) -> None:
        if old in self.live:
            self.live[new] = self.live.pop(old)

    def free(self, *names: str) -> None:
        for name in names:
            self.live.pop(name, None)


_BUFFERS = ("values of the block", "stencils of the block", "output of the block")
_GATHERED, _HIDDEN, _MAPS = ("gradient of the block's values", "hidden of the block", "gradient of the block's hidden")


def _last(name: str) -> str:
    return f"{name} before"


def _pack(account: _Account, sizes: FusedSizes, dtype: torch.dtype) -> int:
    """The generator's weight with its bias, in the dtype that sums are kept in; its elements."""
    packed = sizes.order * sizes.slices * sizes.kernel**2 * (sizes.hidden + 1)
    wide = compute_dtype(dtype)
    account.make("generator" if wide == dtype else "generator, narrow", packed, dtype)
    if wide != dtype:
        account.make("generator", packed, wide)
        account.free("generator, narrow")
    return packed


def _make_buffers(account: _Account, sizes: FusedSizes, block: tuple[int, int], dtype: torch.dtype) -> None:
    """A block's buffers while the last block's are still there; then those go."""
    images, elements = block
    layout = replace(sizes.layout, batch=images)
    wide, fields = compute_dtype(dtype), sizes.slices * sizes.channels
    places = images * layout.tile
    for name in (*_BUFFERS, _GATHERED, _HIDDEN):
        account.rename(name, _last(name))
    amounts = (
        sizes.stride**2 * elements * fields * (layout.run + 2 * layout.margin),
        elements * sizes.slices * sizes.kernel**2 * places,
        elements * fields * places,
    )
    for name, amount in zip(_BUFFERS, amounts, strict=True):
        account.make(name, amount, wide)
    account.free(_last(_BUFFERS[0]), _last(_BUFFERS[2]), _last(_GATHERED))


def _make_hidden(account: _Account, sizes: FusedSizes, block: tuple[int, int], dtype: torch.dtype) -> None:
    images, elements = block
    places = images * sizes.layout.tile
    account.make(_HIDDEN, elements * (sizes.hidden + 1) * places, compute_dtype(dtype))
    account.free(_last(_HIDDEN))


def forward_at_most(
    sizes: FusedSizes, dtype: torch.dtype, granularity_bytes: int = GRANULARITY_BYTES
) -> dict[str, int]:
    """Bytes of every storage when the forward holds most, its output included.

    Args:
        sizes: of the call.
        dtype: of its tensors.
        granularity_bytes: each storage is rounded up to a multiple of this.
    """
    account = _Account(granularity_bytes)
    positions = sizes.batch * sizes.order * sizes.h_out * sizes.w_out
    account.make("output", positions * sizes.slices * sizes.channels, dtype)
    _pack(account, sizes, dtype)
    last = None
    for block in sizes.blocks(dtype):
        if block != last:
            _make_buffers(account, sizes, block, dtype)
            account.free(_last(_BUFFERS[1]))
            _make_hidden(account, sizes, block, dtype)
        last = block
    return account.most


def backward_at_most(
    sizes: FusedSizes, dtype: torch.dtype, granularity_bytes: int = GRANULARITY_BYTES
) -> dict[str, int]:
    """Bytes of every storage when the backward holds most, the four gradients included: as ``forward_at_most``."""
    account, wide = _Account(granularity_bytes), compute_dtype(dtype)
    fields = sizes.slices * sizes.channels
    packed = _pack(account, sizes, dtype)
    places_out = sizes.batch * sizes.order * sizes.h_out * sizes.w_out
    account.make("gradient of hidden", places_out * sizes.hidden, dtype)
    account.make("gradient of values", sizes.batch * sizes.order * fields * sizes.h * sizes.w, dtype)
    account.make("gradient of the generator", packed, wide)
    last = None
    for block in sizes.blocks(dtype):
        images, elements = block
        if block != last:
            _make_buffers(account, sizes, block, dtype)
            _make_hidden(account, sizes, block, dtype)
            layout = replace(sizes.layout, batch=images)
            gathered = sizes.stride**2 * elements * fields * (layout.run + 2 * layout.margin)
            account.make(_GATHERED, gathered, wide)
            # until here a view of the last block's stencils is held
            account.free(_last(_BUFFERS[1]))
        account.rename(_MAPS, _last(_MAPS))
        account.make(_MAPS, elements * sizes.hidden * images * sizes.layout.tile, wide)
        account.free(_last(_MAPS))
        last = block
    rows = sizes.order * sizes.slices * sizes.kernel**2
    if wide != dtype:
        account.make("gradient of the generator, narrow", packed, dtype)
    account.make("gradient of generator filters", rows * sizes.hidden, dtype)
    account.make("gradient of generator bias rows", rows, dtype)
    return account.most
