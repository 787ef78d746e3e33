"""The flat layout in which a shift by (dy, dx) is one constant offset.

A plane of values is written with e spare columns and e spare rows, e = ⌈p / stride⌉ for a padding p = (k − 1)/2,
and the planes of a batch one after another. The spare places hold zeros and serve as the right and left padding
of neighbouring rows and as the bottom and top padding of neighbouring planes. Output and stencils take the same
rows without the spare ones. Every tap of the stencil then reads one contiguous run per plane, so that a
multiply-add runs over long vectors however short the rows. With a stride, the stride² phases of the values are
written as planes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from e4profile.ops.shapes import output_size


@dataclass(frozen=True)
class FlatLayout:
    """Places of `batch` planes of h_out×w_out."""

    batch: int
    h_out: int
    w_out: int
    kernel: int
    stride: int

    @property
    def edge(self) -> int:
        """Spare columns and rows per plane."""
        return -(-((self.kernel - 1) // 2) // self.stride)

    @property
    def pitch(self) -> int:
        """Distance between rows."""
        return self.w_out + self.edge

    @property
    def tile(self) -> int:
        """Places of a plane of output or stencils: rows with their spare columns."""
        return self.h_out * self.pitch

    @property
    def plane(self) -> int:
        """Distance between planes of values."""
        return (self.h_out + self.edge) * self.pitch

    @property
    def run(self) -> int:
        """Length of the batch's values."""
        return self.batch * self.plane

    @property
    def margin(self) -> int:
        """Zeros before and after the run of the values, as far as the largest shift reaches."""
        return self.edge * self.pitch + self.edge

    def windows(self, padded: torch.Tensor) -> list[tuple[slice, slice, torch.Tensor]]:
        """What the taps read, as overlapping views of padded (stride², ..., margin + run + margin).

        Each of the [(rows, columns, view)] is a view (..., rows of taps, columns of taps, batch, tile); `rows` and
        `columns` say which of the k×k taps these are. Without a stride there is one view, of all taps; with a
        stride, one for each phase.
        """
        padding = (self.kernel - 1) // 2
        found = []
        for y in range(min(self.stride, self.kernel)):
            for x in range(min(self.stride, self.kernel)):
                (qy, phase_y), (qx, phase_x) = (divmod(y - padding, self.stride), divmod(x - padding, self.stride))
                phase = padded[phase_y * self.stride + phase_x]
                size = [output_size(self.kernel - first, self.stride) for first in (y, x)]
                view = phase.as_strided(
                    (*phase.shape[:-1], *size, self.batch, self.tile),
                    (*phase.stride()[:-1], self.pitch, 1, self.plane, 1),
                    phase.storage_offset() + self.margin + qy * self.pitch + qx,
                )
                found.append((slice(y, None, self.stride), slice(x, None, self.stride), view))
        return found

    def planes(self, tiles: torch.Tensor) -> torch.Tensor:
        """The places that are not spare: (..., batch, tile) -> a view (..., batch, h_out, w_out)."""
        return tiles.view(*tiles.shape[:-1], self.h_out, self.pitch)[..., : self.w_out]

    def phases(self, padded: torch.Tensor, h: int, w: int) -> list[tuple[torch.Tensor, int, int]]:
        """Where the values go: (stride², ..., margin + run + margin) -> [(view, first row, first column)].

        Each view (..., batch, rows, columns) takes the values [first row::stride, first column::stride].
        """
        run = padded[..., self.margin : self.margin + self.run]
        inside = run.view(*run.shape[:-1], self.batch, self.h_out + self.edge, self.pitch)
        found = []
        for y in range(min(self.stride, h)):
            for x in range(min(self.stride, w)):
                rows, columns = output_size(h - y, self.stride), output_size(w - x, self.stride)
                found.append((inside[y * self.stride + x][..., :rows, :columns], y, x))
        return found
