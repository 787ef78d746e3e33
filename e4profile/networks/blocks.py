"""Choices that every topology shares: plain torch layers for the trivial group, field layers otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from e4profile.groups import Group
from e4profile.layers import FieldBatchNorm2d, GroupConv2d, LiftingConv2d

StrideBy = Literal["conv", "max_pool"]


def convolution(
    c_in: int, c_out: int, kernel: int, *, group: Group, stride: int = 1, padding: int = 0, bias: bool = False,
    stride_by: StrideBy = "conv",
) -> nn.Module:  # fmt: skip
    """A convolution between feature maps.

    For the trivial group it is ``nn.Conv2d``, as the plain networks of the literature are written, so that
    stock counters see what they would see there.
    """
    if group.order == 1:
        return nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=bias)
    return GroupConv2d(c_in, c_out, kernel, group=group, stride=stride, padding=padding, bias=bias, stride_by=stride_by)


def lifting(
    c_in: int, c_out: int, kernel: int, *, group: Group, stride: int = 1, padding: int = 0, bias: bool = False
) -> nn.Module:
    """A convolution from an image to feature maps; ``nn.Conv2d`` for the trivial group."""
    if group.order == 1:
        return nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=bias)
    return LiftingConv2d(c_in, c_out, kernel, group=group, stride=stride, padding=padding, bias=bias)


def batch_norm(fields: int, *, group: Group, eps: float = 1e-5) -> nn.Module:
    """A batch norm with one affine pair per field; ``nn.BatchNorm2d`` for the trivial group."""
    return nn.BatchNorm2d(fields, eps=eps) if group.order == 1 else FieldBatchNorm2d(fields, group=group, eps=eps)


NETWORKS: dict[str, Callable[..., nn.Module]] = {}
"""Every topology by the name that a card gives in ``network``."""


def network(builder: Callable[..., Any]) -> Callable[..., Any]:
    """Register a builder under its function name."""
    NETWORKS[builder.__name__] = builder
    return builder
