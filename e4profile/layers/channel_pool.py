"""The maximum over groups of consecutive channels. Khetan et al. 2021, Implicit Equivariance, section 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError, positive
from e4profile.layers.base import Dimensions, Shape, check_maps
from e4profile.layers.terms import Terms
from e4profile.symbols import is_shared_out, n_in, n_out


def channel_parts(channels: int, pool_sizes: Sequence[int], ratio: Sequence[int] | None = None) -> list[int]:
    """How many channels each pool size gets: all of them, or shares in the given ratio.

    Raises:
        SettingError: when ratio and pool sizes differ in length, or a division is not whole.
    """
    positive(**{f"pool_sizes[{i}]": size for i, size in enumerate(pool_sizes)})
    shares = (1,) if ratio is None else tuple(ratio)
    positive(**{f"ratio[{i}]": share for i, share in enumerate(shares)})
    if len(shares) != len(pool_sizes):
        said = "without a ratio there is one pool size" if ratio is None else "each share needs one pool size"
        raise SettingError(f"pool_sizes (={list(pool_sizes)}) and ratio (={ratio}) do not fit: {said}")
    if channels % sum(shares):
        raise SettingError(f"the ratio's sum (={sum(shares)}) must divide the channels (={channels})")
    parts = [channels // sum(shares) * share for share in shares]
    for part, size in zip(parts, pool_sizes, strict=True):
        if part % size:
            raise SettingError(f"pool size (={size}) must divide its channels (={part} of {channels})")
    return parts


def pooled_channels(channels: int, pool_sizes: Sequence[int], ratio: Sequence[int] | None = None) -> int:
    """Channels that the pool leaves.

    Raises:
        SettingError: as ``channel_parts``.
    """
    parts = channel_parts(channels, pool_sizes, ratio)
    return sum(part // size for part, size in zip(parts, pool_sizes, strict=True))


def channel_max_pool(features: Tensor, pool_sizes: Sequence[int], ratio: Sequence[int] | None = None) -> Tensor:
    """The maximum over groups of consecutive channels.

    Shapes: (B, c, ...) -> (B, sum of part / size, ...), where the c channels are split in the given ratio and
    each part is pooled by its own size.

    Raises:
        SettingError: as ``channel_parts``.
    """
    parts = channel_parts(features.shape[1], pool_sizes, ratio)
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part)
    pooled = [
        features[:, start:end].unflatten(1, (-1, size)).amax(2)
        for (start, end), size in zip(pairwise(ends), pool_sizes, strict=True)
    ]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1)


class ChannelMaxPool(nn.Module):
    """``channel_max_pool`` as a layer. Multiplies nothing, so it costs nothing.

    Shapes: (B, c, h, w) -> (B, sum of part / size, h, w).

    Raises:
        SettingError: for sizes or shares that are not positive or do not fit each other.
    """

    source: ClassVar[str] = "Khetan et al. 2021, section 3"
    params: ClassVar[Terms] = {}
    macs: ClassVar[Terms] = {}
    elements: ClassVar[Terms] = {}
    kinds: ClassVar[Mapping[str, str]] = {}
    printed: ClassVar[Mapping[str, Sequence[str]]] = {"params": (), "macs": ()}
    saved: ClassVar[Terms] = {
        "input": n_in,
        "output": (1 - is_shared_out) * n_out,
        "pooled parts": is_shared_out * n_out,
    }
    saved_constant: ClassVar[Terms] = {}
    saved_as: ClassVar[Mapping[str, str]] = {}
    hands_on_input: ClassVar[bool] = False

    def __init__(self, channels: int, pool_sizes: Sequence[int], ratio: Sequence[int] | None = None) -> None:
        super().__init__()
        positive(channels=channels)
        self.channels, self.pool_sizes = channels, tuple(pool_sizes)
        self.ratio = None if ratio is None else tuple(ratio)
        self.channels_left = pooled_channels(channels, self.pool_sizes, self.ratio)

    def forward(self, features: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, channels left, h, w)."""
        return channel_max_pool(features, self.pool_sizes, self.ratio)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        rows, columns = check_maps(self, input_shape, self.channels)
        return {
            n_in: self.channels * rows * columns, n_out: self.channels_left * rows * columns,
            is_shared_out: int(len(self.pool_sizes) > 1),
        }  # fmt: skip

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, c, h, w) -> (B, channels left, h, w)."""
        return (input_shape[0], self.channels_left, *check_maps(self, input_shape, self.channels))
