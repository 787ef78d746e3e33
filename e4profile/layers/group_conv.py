"""Lifting images to regular fields, and the group convolution between regular fields.

He et al. 2021, eq. 5 and sections 3.2 and 4.2 (Cohen & Welling 2016).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.groups import GroupLike
from e4profile.layers import operators
from e4profile.layers.base import Dimensions, Sample, Shape, check_maps, window_reason, window_size
from e4profile.layers.constants import shifted
from e4profile.layers.execution import (
    TRANSFORMS,
    Execution,
    IrrepLayer,
    irrep_products,
    lifting_products,
    lifting_transforms,
    transforms,
)
from e4profile.layers.storages import (
    BIAS_ROWS,
    INDEX,
    Step,
    Timeline,
    bias_gradient,
    bias_sum,
    expanded_bias,
    folded,
    gathered,
)
from e4profile.layers.terms import Term
from e4profile.ops import turned_maps
from e4profile.ops.filter_bank import Bank, convolve, stand_alone
from e4profile.symbols import (
    A,
    B,
    c_in,
    c_out,
    h,
    h_conv,
    h_out,
    has_bias,
    in_irreps,
    is_large,
    is_pooled,
    k,
    w,
    w_conv,
    w_out,
)

_FILTERS = c_in * c_out


def bank_timeline(order_in: Term, order_out: Term, *, pooled: Term = 0, large: Term = 0) -> Timeline:
    """Gather the filters, convolve, and pool where ``pooled`` is 1.

    Args:
        order_in: channels of an input field: 1 for an image.
        order_out: channels of an output field.
        pooled: 1 where a max-pool realises the stride.
        large: 1 where gather and convolution are one step of autograd (see ``ops.filter_bank``).
    """
    output = c_out * order_out * h_out * w_out
    convolved = pooled * c_out * order_out * h_conv * w_conv
    filters = c_in * order_in * c_out * order_out * k**2
    weight = c_in * c_out * order_in * k**2
    gradients = {"gradient of input": B * c_in * order_in * h * w, "gradient of filters": filters}
    return Timeline(
        forward=(
            expanded_bias(has_bias, c_out, order_out),
            Step("expand filters", {"filters": filters}),
            Step("convolve", {"convolved": B * convolved, "output": (1 - pooled) * B * output}, (BIAS_ROWS,)),
            Step("pool", {"output": pooled * B * output, "pool indices": pooled * B * output}),
        ),
        backward=(
            Step("pool, backward", {"gradient of convolved": B * convolved}, ("convolved", "pool indices")),
            Step("add up bias over images", bias_gradient(has_bias, c_out, order_out), when=large),
            Step(
                "convolve, backward",
                {**gradients, **bias_gradient(has_bias, c_out, order_out)},
                ("gradient of convolved", "filters"),
                when=1 - large,
            ),
            *gathered("weight", weight, ("gradient of filters",), 1 - large),
            Step("convolve, backward", gradients, when=large),
            folded("weight", weight, ("gradient of convolved", "gradient of filters", "filters"), large),
            bias_sum(has_bias, c_out, order_out),
        ),
        units={"pool indices": INDEX},
    )


class LiftingConv2d(IrrepLayer):
    """Correlate an image with every transform of each filter.

    Shapes: (B, c_in, h, w) -> (B, c_out * A, h_out, w_out).

    Raises:
        SettingError: for a group that is not exact on the grid, or sizes that are not positive.
    """

    source = "He et al. 2021, section 4.2; Cohen & Welling 2016"
    what = "lifting convolution"
    field_in = "trivial"
    params = {"weight": c_in * c_out * k**2, "bias": has_bias * c_out}
    macs = {
        "convolution": (1 - in_irreps) * k**2 * c_in * c_out * A * h_out * w_out,
        "irrep products": lifting_products(h_out * w_out),
    }
    elements = lifting_transforms(h_out * w_out)
    kinds = TRANSFORMS
    entry_terms = frozenset(macs)
    runs_as = {"irrep products": operators.IRREP}
    printed = {"params": ("weight",), "macs": ("convolution",)}
    saved = {"input": c_in * h * w}
    saved_constant = {"filters": (1 - in_irreps) * c_in * c_out * A * k**2}
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
        execution: Execution = "bank",
    ) -> None:
        super().__init__()
        self._set_windows(c_in, c_out, kernel, group, stride, padding)
        self.group.require_exact_on_grid(type(self).__name__)
        self.execution = execution
        order, tap_axes = self.group.order, self._tap_axes(_FILTERS)
        self._set_filters(
            (c_out, c_in, *tap_axes),
            lambda: shifted(self.group.lifting_index(kernel), c_in, math.prod(tap_axes)),
            (c_out * order, c_in, kernel, kernel),
            kernel,
        )
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None

    def forward(self, images: Tensor) -> Tensor:
        """(B, c_in, h, w) -> (B, c_out * A, h_out, w_out)."""
        if self._runs_in_irreps(images):
            return self._convolve_in_irreps(images)
        bias = self._bias_rows
        return F.conv2d(images, self._filters(), bias, self.stride, self.padding)

    def _irrep_weight(self) -> tuple[Tensor, None]:
        """The weight as it is: the orbits of its taps are read."""
        return self.weight, None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "padding": 1}, (6, 6))
        yield Sample({"c_in": 1, "c_out": 2, "kernel": 5, "padding": 1, "stride": 2, "bias": True}, (7, 7))
        yield Sample({"c_in": 3, "c_out": 1, "kernel": 4}, (5, 8))
        yield Sample({"c_in": 3, "c_out": 2, "kernel": 5, "padding": 2, "bias": True, "execution": "irreps"}, (5, 6))


class GroupConv2d(IrrepLayer):
    """Correlate regular fields with W(a^-1 b) acted on by a.

    Shapes: (B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out).

    ``stride_by="max_pool"`` is how the released E4 networks realise a stride: the convolution runs at
    stride 1 and a stride x stride max-pool follows, so its MACs are those of the unstrided map.

    Raises:
        SettingError: for a group that is not exact on the grid, or sizes that are not positive.
    """

    source = "He et al. 2021, eq. 5 and section 4.2; Cohen & Welling 2016"
    what = "group convolution"
    params = {"weight": c_in * c_out * A * k**2, "bias": has_bias * c_out}
    macs = {
        "convolution": (1 - in_irreps) * k**2 * c_in * c_out * A**2 * h_conv * w_conv,
        "irrep products": irrep_products(h_conv * w_conv),
    }
    elements = transforms(h_conv * w_conv)
    kinds = TRANSFORMS
    entry_terms = frozenset(macs)
    runs_as = {"irrep products": operators.IRREP}
    printed = {"params": ("weight",), "macs": ("convolution",)}
    moved = {
        "convolution": B * A * (c_in * h * w + c_out * h_conv * w_conv) + c_in * c_out * A**2 * k**2,
        "pooling": is_pooled * B * c_out * A * (h_conv * w_conv + h_out * w_out),
    }
    saved = {
        "input": c_in * A * h * w,
        "convolved": is_pooled * c_out * A * h_conv * w_conv,
        "pool indices": is_pooled * c_out * A * h_out * w_out,
    }
    saved_constant = {"filters": (1 - in_irreps) * c_in * c_out * A**2 * k**2}
    saved_as = {"pool indices": INDEX}
    peak = bank_timeline(A, A, pooled=is_pooled, large=is_large)

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
        stride_by: Literal["conv", "max_pool"] = "conv",
        execution: Execution = "bank",
    ) -> None:
        super().__init__()
        self._set_windows(c_in, c_out, kernel, group, stride, padding)
        self.group.require_exact_on_grid(type(self).__name__)
        if stride_by not in ("conv", "max_pool"):
            raise SettingError(f"stride_by (={stride_by!r}) must be 'conv' or 'max_pool'")
        self.stride_by = stride_by
        self.execution = execution
        order, tap_axes = self.group.order, self._tap_axes(_FILTERS * A)
        self._set_filters(
            (c_out, c_in, order, *tap_axes),
            lambda: shifted(self.group.filter_bank_index(kernel), c_in, order * math.prod(tap_axes)),
            (c_out * order, c_in * order, kernel, kernel),
            kernel,
        )
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None

    @property
    def _conv_stride(self) -> int:
        return self.stride if self.stride_by == "conv" else 1

    @property
    def bank(self) -> Bank:
        """The filter bank apart from its tensors."""
        return Bank(self.group, self.filter_shape, self._conv_stride, self.padding)

    def forward(self, features: Tensor) -> Tensor:
        """(B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out)."""
        convolved = self._convolve(features)
        if self.stride_by == "max_pool" and self.stride > 1:
            return F.max_pool2d(convolved, self.stride)
        return convolved

    def _convolve(self, features: Tensor) -> Tensor:
        if self._runs_in_irreps(features):
            return self._convolve_in_irreps(features)
        bias, bank = self._bias_rows, self.bank
        if bank.is_large and stand_alone(features, self.weight, bias) and bank.takes(features):
            differentiates = torch.is_grad_enabled()
            if differentiates and self.weight.requires_grad:
                return convolve(features, self.weight, bias, self.filter_index, bank)
            needs_bank = differentiates and features.requires_grad
            if bank.turns_maps(features.shape) and not (needs_bank or features.is_meta):
                window = {"stride": self._conv_stride, "padding": self.padding}
                convolved = turned_maps.convolve(features, self.weight, self.group, **window)
                return convolved if bias is None else convolved.add_(bias[:, None, None])
        return F.conv2d(features, self._filters(), bias, self._conv_stride, self.padding)

    def _conv_sizes(self, input_shape: Shape) -> tuple[int, int]:
        rows, columns = check_maps(self, input_shape, self.c_in * self.group.order)
        window = (self.kernel, self._conv_stride, self.padding, self.what)
        return window_size(rows, *window), window_size(columns, *window)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        rows, columns = self._conv_sizes(input_shape)
        return {
            **super().dimensions(input_shape), h_conv: rows, w_conv: columns,
            is_pooled: int(self.stride_by == "max_pool" and self.stride > 1),
            is_large: +self.bank.is_large,
        }  # fmt: skip

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out)."""
        rows, columns = self._conv_sizes(input_shape)
        if self.stride_by == "max_pool":
            rows = window_size(rows, self.stride, self.stride, 0, "max-pool")
            columns = window_size(columns, self.stride, self.stride, 0, "max-pool")
        return (input_shape[0], self.c_out * self.group.order, rows, columns)

    def _pooled(self, input_shape: Shape) -> int:
        pools = self.stride_by == "max_pool" and self.stride > 1
        return math.prod(self.output_shape(input_shape)) if pools else 0

    def no_peak_on(self, input_shape: Shape) -> str | None:
        """Why the peak is not the timeline's on this input, or None."""
        if reason := super().no_peak_on(input_shape):
            return reason
        by_bank = not self.in_irreps(input_shape)
        if by_bank and self.bank.is_large and self.bank.turns_gradients(input_shape):
            return (
                f"the filter bank (={self.bank.elements} elements) is so much larger than the input "
                f"{tuple(input_shape)} that backward acts on the maps instead, with index maps that it makes on the "
                "first call and keeps for later ones"
            )
        return None

    def inexact_on(self, input_shape: Shape) -> str | None:
        """Why the windows do not sit symmetrically on this input, or None."""
        if self.stride_by == "conv":
            return super().inexact_on(input_shape)
        if self.stride > 1 and not self.group.keeps_windows(self.stride):
            return f"{self.group.name} moves no max-pool window of {self.stride}x{self.stride} to itself"
        pooled = [size + 2 * self.padding - self.kernel + 1 for size in input_shape[-2:]]
        return window_reason(self.group, pooled, self.stride, self.stride, 0, what="pooling windows")

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "padding": 1}, (5, 6))
        yield Sample({"c_in": 3, "c_out": 2, "kernel": 1, "bias": True}, (4, 4))
        yield Sample({"c_in": 2, "c_out": 2, "kernel": 3, "padding": 1, "stride": 2}, (7, 5))
        yield Sample({"c_in": 1, "c_out": 2, "kernel": 3, "padding": 1, "stride": 2, "stride_by": "max_pool"}, (6, 8))
        yield Sample({"c_in": 1, "c_out": 2, "kernel": 4, "bias": True}, (6, 6))
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "padding": 1, "bias": True, "execution": "irreps"}, (5, 6))
        pooled = {"c_in": 3, "c_out": 2, "kernel": 3, "padding": 1, "stride": 2, "stride_by": "max_pool"}
        yield Sample({**pooled, "execution": "irreps"}, (6, 8))
