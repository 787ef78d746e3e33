"""The lifting convolution: images to regular fields. He et al. 2021, section 3.2 and 4.2 (Cohen & Welling 2016)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.errors import SettingError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers.bank_peak import bank_timeline
from e4profile.layers.base import Dimensions, Sample, Shape, check_maps, window_size
from e4profile.layers.constants import shifted
from e4profile.layers.filter_bank import FilterBankLayer
from e4profile.layers.grid import window_reason
from e4profile.symbols import A, c_in, c_out, h, h_out, has_bias, k, w, w_out


class LiftingConv2d(FilterBankLayer):
    """Correlate an image with every transform of each filter.

    Shapes: (B, c_in, h, w) -> (B, c_out * A, h_out, w_out).

    Raises:
        SettingError: for a group that is not exact on the grid, or sizes that are not positive.
    """

    source = "He et al. 2021, section 4.2; Cohen & Welling 2016"
    field_in = "trivial"
    params = {"weight": c_in * c_out * k**2, "bias": has_bias * c_out}
    macs = {"convolution": k**2 * c_in * c_out * A * h_out * w_out}
    printed = {"params": ("weight",), "macs": ("convolution",)}
    saved = {"input": c_in * h * w}
    saved_constant = {"filters": c_in * c_out * A * k**2}
    peak = bank_timeline(1, A)

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        group: GroupLike,
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        positive(c_in=c_in, c_out=c_out, kernel=kernel, stride=stride)
        if padding < 0:
            raise SettingError(f"padding (={padding}) must not be negative")
        self.group = as_group(group)
        self.group.require_exact_on_grid(type(self).__name__)
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel
        self.stride, self.padding = stride, padding
        order, taps = self.group.order, kernel * kernel
        index = shifted(self.group.lifting_index(kernel), c_in, taps)
        self._set_filters((c_out, c_in, kernel, kernel), index, (c_out * order, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None

    def forward(self, images: Tensor) -> Tensor:
        """(B, c_in, h, w) -> (B, c_out * A, h_out, w_out)."""
        bias = None if self.bias is None else self.bias.repeat_interleave(self.group.order)
        return F.conv2d(images, self.filters(), bias, self.stride, self.padding)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        _, _, rows, columns = self.output_shape(input_shape)
        return {
            A: self.group.order, c_in: self.c_in, c_out: self.c_out, k: self.kernel,
            h: input_shape[2], w: input_shape[3], h_out: rows, w_out: columns,
            has_bias: int(self.bias is not None),
        }  # fmt: skip

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, c_in, h, w) -> (B, c_out * A, h_out, w_out)."""
        sizes = check_maps(self, input_shape, self.c_in)
        windows = (window_size(size, self.kernel, self.stride, self.padding, "lifting convolution") for size in sizes)
        return (input_shape[0], self.c_out * self.group.order, *windows)

    def inexact_on(self, input_shape: Shape) -> str | None:
        """Why the windows do not sit symmetrically on this input, or None."""
        return window_reason(self.group, input_shape[-2:], self.kernel, self.stride, self.padding)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "padding": 1}, (6, 6))
        yield Sample({"c_in": 1, "c_out": 2, "kernel": 5, "padding": 1, "stride": 2, "bias": True}, (7, 7))
        yield Sample({"c_in": 3, "c_out": 1, "kernel": 4}, (5, 8))
