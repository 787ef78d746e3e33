"""The convolution in the irrep basis as one operator of PyTorch's, for compiled models, and its two gradients as one.

A compiler that looked inside would meet hundreds of sums of views, for each of which it writes code: the operator runs
what runs without a compiler, in the middle of its graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from e4profile.groups import Group
from e4profile.ops import irreps
from e4profile.ops.aggregation import autocast_dtype
from e4profile.ops.choice import is_transformed
from e4profile.ops.filter_bank import stand_alone
from e4profile.ops.flops import flop_formula
from e4profile.ops.irrep_basis import Window

# PyTorch 2.4 cannot say that it exports
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


def compiled_alone(*tensors: Tensor | None) -> bool:
    """Whether a compiler meets tensors of one dtype and device; exporters and other transforms see PyTorch's chain."""
    given = [one for one in tensors if one is not None]
    if not torch.compiler.is_compiling() or _is_exporting() or is_transformed(*given):
        return False
    alike = all((one.dtype, one.device) == (given[0].dtype, given[0].device) for one in given)
    return alike and given[0].is_floating_point() and autocast_dtype(given[0].device) is None


def convolve(
    features: Tensor, weight: Tensor, bias: Tensor | None, bank_index: Tensor | None, window: Window
) -> Tensor:
    """``irreps.convolve`` as one operator."""
    made: Tensor = convolution_operator(features, weight, bias, bank_index, window.numbers)
    return made


def convolution(features: Tensor, weight: Tensor, window: Window) -> Tensor:
    """The group convolution in the way that fits, with a weight that is gathered already (``irreps.irrep_filters``).

    Args:
        features: (B, c_in * A, h, w).
        weight: (c_out, c_in, A, k, k).
        window: group, kernel, stride and padding.

    Returns:
        (B, c_out * A, h_out, w_out).
    """
    if compiled_alone(features, weight):
        return convolve(features, weight, None, None, window)
    if stand_alone(features, weight):
        if torch.is_grad_enabled() and (features.requires_grad or weight.requires_grad):
            return irreps.convolve(features, weight, None, None, window)
        return irreps.forward(features, irreps.irrep_filters(weight, None, window), None, window)
    return irreps.chain(features, irreps.irrep_filters(weight, None, window), None, window)


@lru_cache(maxsize=256)
def _window(numbers: tuple[int, ...]) -> Window:
    rotations, mirrors, kernel, stride, padding, lifts, sections, *cosets = numbers
    group = Group(rotations, bool(mirrors))
    by_coset = tuple(tuple(cosets[first : first + group.order]) for first in range(0, len(cosets), group.order))
    return Window(group, kernel, stride, padding, by_coset, bool(lifts), sections)


@torch.library.custom_op(
    "e4profile::irrep_convolution",
    mutates_args=(),
    schema="(Tensor features, Tensor weight, Tensor? bias, Tensor? index, int[] window) -> Tensor",
)
def convolution_operator(
    features: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor | None, window: Sequence[int]
) -> Tensor:
    """Operator behind ``convolve``: the window in numbers."""
    with torch.autocast(features.device.type, enabled=False):
        return irreps.forward_of_weight(features, weight, bias, index, _window(tuple(window)))


@torch.library.custom_op(
    "e4profile::irrep_convolution_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor features, Tensor weight, Tensor? index, int[] window, bool[] wanted) "
    "-> (Tensor, Tensor)",
)
def backward_operator(  # noqa: PLR0917
    gradient: Tensor, features: Tensor, weight: Tensor, index: Tensor | None, window: Sequence[int],
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients of features and weight; one that is not wanted comes back empty."""
    with torch.autocast(features.device.type, enabled=False):
        found = irreps.gradients(gradient, features, weight, index, _window(tuple(window)), wanted)
    of_features, of_weight = (gradient.new_empty(0) if one is None else one.contiguous() for one in found)
    return of_features, of_weight


def _output_shape(features: Sequence[int], weight: Sequence[int], window: Window) -> tuple[int, ...]:
    sizes = (window.size_out(size + 2 * window.padding) for size in features[2:])
    return features[0], weight[0] * window.basis.order, *sizes


@convolution_operator.register_fake
def _(features: Tensor, weight: Tensor, _bias: Tensor | None, _index: Tensor | None, window: Sequence[int]) -> Tensor:
    return features.new_empty(_output_shape(features.shape, weight.shape, _window(tuple(window))))


@backward_operator.register_fake
def _(
    _gradient: Tensor, features: Tensor, weight: Tensor, _index: Tensor | None, _window: Sequence[int],
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    of_features, of_weight = (
        one.new_empty(one.shape if want else 0) for one, want in zip((features, weight), wanted, strict=True)
    )
    return of_features, of_weight


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    features, weight, _, index, ctx.window = inputs
    ctx.save_for_backward(features, weight, index)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad
    of_bias = _window(tuple(ctx.window)).split(gradient).sum((0, 2, 3, 4)) if wanted[2] else None
    of_features = of_weight = None
    if wanted[0] or wanted[1]:
        found = backward_operator(gradient, *ctx.saved_tensors, ctx.window, list(wanted[:2]))
        of_features, of_weight = (one if want else None for one, want in zip(found, wanted, strict=False))
    return of_features, of_weight, of_bias, None, None


convolution_operator.register_autograd(_backward, setup_context=_setup)


def _macs(features: Sequence[int], weight: Sequence[int], window: Window) -> int:
    positions = math.prod(_output_shape(features, weight, window)) // window.basis.order // weight[0]
    return positions * window.products * weight[0] * weight[1]


@flop_formula(torch.ops.e4profile.irrep_convolution)
def _convolution_flop(
    features: Sequence[int], weight: Sequence[int], _bias: Any, _index: Any, window: Sequence[int], **_: Any
) -> int:
    return 2 * _macs(features, weight, _window(tuple(window)))


@flop_formula(torch.ops.e4profile.irrep_convolution_backward)
def _backward_flop(
    _gradient: Any, features: Sequence[int], weight: Sequence[int], _index: Any, window: Sequence[int],
    wanted: Sequence[bool], **_: Any,
) -> int:  # fmt: skip
    return 2 * sum(wanted) * _macs(features, weight, _window(tuple(window)))
