"""Outputs on the meta device, and of stand-ins, of operators that PyTorch works out there step by step in Python.

A batch norm takes 13 operators of one reference implementation there, two to seven milliseconds, where its output has
the shape of its input. What is made here has the shape, the dtype, the strides and the device of what PyTorch makes;
everything unusual is left to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._mode_utils import no_dispatch

aten = torch.ops.aten


def _like(features: Any, *others: Any) -> Tensor | None:
    """An output like a usual input, contiguous and floating-point, where all others are like it or absent."""
    kind = type(features)
    if (
        (kind is not FakeTensor and (kind is not Tensor or not features.is_meta))
        or features.dtype not in (torch.float32, torch.float64)
        or not features.numel()
        or not features.is_contiguous()
        or any(one is not None and (one.dtype != features.dtype or one.device != features.device) for one in others)
    ):
        return None
    made = torch.empty_like(features)
    # axes of size 1 may have any stride, and PyTorch keeps it
    return made if made.stride() == features.stride() else None


def _batch_norm(features: Any, *others: Any) -> tuple[Tensor, ...] | None:
    """Weight, bias, mean and variance follow, then whether it trains, momentum and epsilon."""
    *vectors, training, _, _ = others
    out = _like(features, *vectors)
    if out is None or not 2 <= features.dim() <= 5 or (vectors[2] is None and not training):
        return None
    channels = features.shape[1]
    if not (training or features.is_meta):
        # what is kept for backward depends on the device
        return None
    alone = training and features.numel() == channels  # one value per channel has no variance, which PyTorch says
    if alone or any(one is not None and one.shape != (channels,) for one in vectors):
        return None
    return out, features.new_empty(channels), features.new_empty(channels)


def _group_norm(features: Any, *others: Any) -> tuple[Tensor, ...] | None:
    """Weight and bias follow, then images, channels, positions, groups and epsilon."""
    *vectors, images, channels, positions, groups, _ = others
    out = _like(features, *vectors)
    if out is None or features.shape[:2] != (images, channels) or features.numel() != images * channels * positions:
        return None
    if channels % groups or any(one is not None and one.shape != (channels,) for one in vectors):
        return None
    return out, features.new_empty(images, groups), features.new_empty(images, groups)


def _view(viewed: Any, shape: list[Any]) -> Tensor | None:
    """Of a stand-in, with the strides that PyTorch itself gives axes of size 1: a norm asks them for the format."""
    if type(viewed) is not FakeTensor or any(type(size) is not int for size in (*viewed.shape, *shape)):
        return None
    with no_dispatch():
        made = torch.empty_strided(viewed.shape, viewed.stride(), device="meta").view(shape)
    return viewed.as_strided(made.shape, made.stride(), viewed.storage_offset())


_OUTPUTS: Mapping[Any, Callable[..., Any]] = {
    aten.relu.default: _like,
    aten.native_batch_norm.default: _batch_norm,
    aten.native_group_norm.default: _group_norm,
    aten.view.default: _view,
    aten._unsafe_view.default: _view,
}


def run(func: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """What an operator returns, on whatever device its inputs are.

    Raises:
        Whatever the operator raises.
    """
    made = _OUTPUTS.get(func)
    out = None if made is None or keywords else made(*args)
    return func(*args, **keywords) if out is None else out
