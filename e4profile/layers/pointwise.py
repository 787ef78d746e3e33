"""One 1x1 map shared by all group elements: the branch "without concatenation". He et al. 2021, Table 2."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.errors import positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers.base import Dimensions, EquivariantLayer, Sample, Shape, check_maps, window_reason, window_size
from e4profile.layers.e4_peak import POINTWISE
from e4profile.symbols import A, c_in, c_out, h, h_out, has_bias, is_sampled, is_sliced, w, w_out


class PointwiseConv2d(EquivariantLayer):
    """The same 1x1 linear map at every position and group element; group elements do not mix.

    Shapes: (B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out).

    Raises:
        SettingError: for sizes that are not positive, or a stride with a group that is not exact on the grid.
    """

    source = "He et al. 2021, Table 2"
    params = {"weight": c_in * c_out, "bias": has_bias * c_out}
    macs = {"convolution": c_in * c_out * A * h_out * w_out}
    saved = {"input": (1 - is_sampled) * c_in * A * h * w, "sampled": is_sampled * c_in * A * h_out * w_out}
    peak = POINTWISE

    def __init__(self, c_in: int, c_out: int, *, group: GroupLike, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        positive(c_in=c_in, c_out=c_out, stride=stride)
        self.group = as_group(group)
        if stride > 1:
            self.group.require_exact_on_grid(type(self).__name__)
        self.c_in, self.c_out, self.stride = c_in, c_out, stride
        self.weight = nn.Parameter(torch.empty(c_out, c_in, 1, 1))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out)."""
        sampled = features[..., :: self.stride, :: self.stride] if self.stride > 1 else features
        order, (rows, columns) = self.group.order, sampled.shape[2:]
        mapped = F.conv2d(sampled.reshape(-1, self.c_in, order * rows, columns), self.weight, self.bias)
        return mapped.reshape(-1, self.c_out * order, rows, columns)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        _, _, rows, columns = self.output_shape(input_shape)
        return {
            A: self.group.order, c_in: self.c_in, c_out: self.c_out,
            h: input_shape[2], w: input_shape[3], h_out: rows, w_out: columns,
            has_bias: int(self.bias is not None), is_sampled: int(self.copies_samples(input_shape)),
            is_sliced: int(self.stride > 1),
        }  # fmt: skip

    def copies_samples(self, input_shape: Shape) -> bool:
        """Whether the sampled positions of all group elements cannot be one view of the input."""
        rows = window_size(input_shape[2], 1, self.stride, 0, "pointwise convolution")
        return self.group.order > 1 and rows > 1 and rows * self.stride != input_shape[2]

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out)."""
        sizes = check_maps(self, input_shape, self.c_in * self.group.order)
        return (
            input_shape[0],
            self.c_out * self.group.order,
            *(window_size(size, 1, self.stride, 0, "pointwise convolution") for size in sizes),
        )

    def inexact_on(self, input_shape: Shape) -> str | None:
        """Why the sampled positions do not sit symmetrically on this input, or None."""
        if self.stride == 1:
            return None
        return window_reason(self.group, input_shape[-2:], 1, self.stride, 0, what="sampled positions")

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 2, "c_out": 3}, (4, 5))
        yield Sample({"c_in": 3, "c_out": 2, "stride": 2, "bias": False}, (5, 7))
