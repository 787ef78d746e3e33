"""Convolution by a filter bank that is gathered from a weight, as one step of autograd: for large banks on a CPU.

PyTorch's own chain of gather and convolution keeps the same tensors for the backward pass and counts the same
operations; it allocates the bank's gradient, as large as the bank, where the gradient of the weight can be had
directly (see ``turned_maps``), and touches the bank's fresh memory in small pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from e4profile.groups import FiniteGroup, Group
from e4profile.ops import huge_pages, turned_maps
from e4profile.ops.aggregation import autocast_dtype
from e4profile.ops.choice import is_transformed

_LARGE_BANK = 1 << 19
"""Elements from which a bank's memory is worth care: of smaller ones the allocator keeps the pages."""


@dataclass(frozen=True)
class Bank:
    """What a group convolution by a filter bank is, apart from its tensors."""

    group: FiniteGroup
    filter_shape: tuple[int, int, int, int]
    stride: int
    padding: int

    @property
    def elements(self) -> int:
        """Of the expanded filters."""
        return math.prod(self.filter_shape)

    @property
    def is_large(self) -> bool:
        """Whether the bank's memory is worth care; it is taken of groups of the square grid, which turn maps."""
        return type(self.group) is Group and self.elements >= _LARGE_BANK

    def takes(self, features: Tensor) -> bool:
        """Whether an input is a batch of maps with the channels of the filters, on the CPU or as its stand-ins."""
        on_cpu = features.device.type in ("cpu", "meta")
        return on_cpu and features.dim() == 4 and features.shape[1] == self.filter_shape[1]

    def is_symmetric_on(self, input_shape: Sequence[int]) -> bool:
        """Whether the windows sit symmetrically on a square map, so that acting on the map is exact."""
        rows, columns = input_shape[-2:]
        return rows == columns and (rows + 2 * self.padding - self.filter_shape[-1]) % self.stride == 0

    def exceeds(self, input_shape: Sequence[int], times: int) -> bool:
        """Whether the bank is that many times as large as the input (B, c_in * A, h, w) acted on by all elements."""
        return 0 < times * self.group.order * math.prod(input_shape) <= self.elements

    def turns_maps(self, input_shape: Sequence[int]) -> bool:
        """Whether the forward pass without gradients acts on the maps."""
        return self.is_symmetric_on(input_shape) and self.exceeds(input_shape, turned_maps.FORWARD_ADVANTAGE)

    def turns_gradients(self, input_shape: Sequence[int]) -> bool:
        """Whether the gradient of the weight is had without that of the bank."""
        return self.is_symmetric_on(input_shape) and self.exceeds(input_shape, turned_maps.GRADIENT_ADVANTAGE)


def stand_alone(*tensors: Tensor | None) -> bool:
    """Whether tensors are what they seem, values or stand-ins without any.

    Tracers, compilers, ``torch.func``, forward-mode differentiation, autocast and subclasses see PyTorch's own chain.
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    given = [one for one in tensors if one is not None]
    return all(
        type(one) in (Tensor, nn.Parameter, FakeTensor)
        and (one.dtype, one.device) == (given[0].dtype, given[0].device)
        and one.is_floating_point()
        # stand-ins without values are of what would run on the CPU
        and autocast_dtype(torch.device("cpu") if one.is_meta else one.device) is None
        for one in given
    ) and not is_transformed(*given)


def convolve(features: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor, bank: Bank) -> Tensor:
    """Convolve maps with the filters gathered from a weight, differentiably.

    Args:
        features: (B, c_in * A, h, w).
        weight: (c_out, c_in, A, k, k).
        bias: (c_out * A,) or None.
        index: of each output field's filters into its weights, c_in * A * A * k * k of them.
        bank: shape and windows.

    Returns:
        (B, c_out * A, h_out, w_out).
    """
    found: Tensor = _BankConvolution.apply(features, weight, bias, index, bank)  # type: ignore[no-untyped-call]
    return found


class _BankConvolution(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  (autograd passes by position)
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor, bank: Bank
    ) -> Tensor:
        """Keep what PyTorch's own chain keeps: the input and the bank; the weight is a parameter."""
        flat = weight.flatten(1)
        filters = huge_pages.empty((flat.shape[0], index.numel()), flat)
        torch.index_select(flat, 1, index, out=filters)
        filters = filters.view(bank.filter_shape)
        ctx.save_for_backward(features, filters, index)
        # only its shape is needed, unless gradients are differentiated: a weight may be stepped before backward
        ctx.weight, ctx.weight_version = weight, None if weight.is_inference() else weight._version
        ctx.bank = bank
        return F.conv2d(features, filters, bias, bank.stride, bank.padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of features, weight and bias."""
        # a caller who differentiates the gradient gets PyTorch's own chain, which can be
        gradients = _differentiable_gradients if torch.is_grad_enabled() else _gradients
        of_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return *gradients(ctx, gradient), of_bias, None, None


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    features, filters, index = ctx.saved_tensors
    weight, bank = ctx.weight, ctx.bank
    wanted = ctx.needs_input_grad
    directly = wanted[1] and bank.turns_gradients(features.shape)
    of_features, of_filters, _ = torch.ops.aten.convolution_backward(
        gradient, features, filters, None,
        [bank.stride] * 2, [bank.padding] * 2, [1, 1], False, [0, 0], 1,
        [wanted[0], wanted[1] and not directly, False],
    )  # fmt: skip
    if directly:
        window = {"stride": bank.stride, "padding": bank.padding}
        return of_features, turned_maps.weight_gradient(gradient, features, weight, bank.group, **window)
    if not wanted[1]:
        return of_features, None
    # the gradient of filters can come in another layout than the filters
    folded = torch.zeros_like(weight.flatten(1)).index_add_(1, index, of_filters.reshape(weight.shape[0], -1))
    return of_features, folded.view(weight.shape)


def _differentiable_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    features, _, index = ctx.saved_tensors
    if ctx.weight_version is not None and ctx.weight._version != ctx.weight_version:
        raise RuntimeError(
            "an inplace operation modified the weight of a group convolution whose gradient is differentiated"
        )
    # aliases end the walk: the features' own history may lead to the same weight, or the weight's to the features
    features, weight = features.view_as(features), ctx.weight.view_as(ctx.weight)
    wanted = ctx.needs_input_grad[:2]
    filters = weight.flatten(1).index_select(1, index).view(ctx.bank.filter_shape)
    output = F.conv2d(features, filters, None, ctx.bank.stride, ctx.bank.padding)
    asked = [tensor for tensor, want in zip((features, weight), wanted, strict=True) if want]
    found = iter(torch.autograd.grad(output, asked, gradient, create_graph=True))
    of_features, of_weight = (next(found) if want else None for want in wanted)
    return of_features, of_weight
