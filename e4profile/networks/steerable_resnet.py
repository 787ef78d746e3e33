"""Steerable ResNet-18, -50 and -101 for ImageNet, and the plain ones. He et al. 2016; Weiler & Cesa 2019."""

from __future__ import annotations

from typing import Literal

from torch import nn

from e4profile.errors import UnknownNameError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, GroupMaxPool, Residual
from e4profile.layers.steerable import FieldName, SteerableConv2d
from e4profile.networks.blocks import batch_norm, network

_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_BASIC = (18,)
_BOTTLENECK_EXPANSION = 4


@network
def steerable_resnet(
    *, group: GroupLike, width: int, depth: Literal[18, 50, 101] = 18, channels: int = 3, classes: int = 1000
) -> Chain:
    """Stem 7x7 stride 2 and max-pool, four stages of widths w, 2w, 4w, 8w, average pool, group max-pool.

    ``width`` counts regular fields: a map has width * A channels. Depth 18 has basic blocks; 50 and 101 have
    bottlenecks that widen four times and stride at the 3x3. For the trivial group every layer is the stock
    one, which is the plain ResNet. Shapes: (B, channels, h, w) -> (B, classes).

    Raises:
        UnknownNameError: for another depth.
        SettingError: for sizes that are not positive.
    """
    group = as_group(group)
    positive(width=width, channels=channels, classes=classes)
    if depth not in _BLOCKS:
        raise UnknownNameError("depth", str(depth), map(str, _BLOCKS))

    def convolution(c_in: int, c_out: int, kernel: int, stride: int = 1, field_in: FieldName = "regular") -> nn.Module:
        padding = kernel // 2
        if group.order == 1:
            return nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        return SteerableConv2d(c_in, c_out, kernel, group=group, stride=stride, padding=padding, field_in=field_in)

    def basic(c_in: int, c_out: int, stride: int) -> Chain:
        return Chain(
            conv1=convolution(c_in, c_out, 3, stride),
            norm1=batch_norm(c_out, group=group),
            relu1=nn.ReLU(),
            conv2=convolution(c_out, c_out, 3),
            norm2=batch_norm(c_out, group=group),
        )

    def bottleneck(c_in: int, c_out: int, stride: int) -> Chain:
        inner = c_out // _BOTTLENECK_EXPANSION
        return Chain(
            conv1=convolution(c_in, inner, 1),
            norm1=batch_norm(inner, group=group),
            relu1=nn.ReLU(),
            conv2=convolution(inner, inner, 3, stride),
            norm2=batch_norm(inner, group=group),
            relu2=nn.ReLU(),
            conv3=convolution(inner, c_out, 1),
            norm3=batch_norm(c_out, group=group),
        )

    body, expansion = (basic, 1) if depth in _BASIC else (bottleneck, _BOTTLENECK_EXPANSION)

    def block(c_in: int, c_out: int, stride: int) -> Chain:
        shortcut = None
        if stride != 1 or c_in != c_out:
            shortcut = Chain(conv=convolution(c_in, c_out, 1, stride), norm=batch_norm(c_out, group=group))
        return Chain(residual=Residual(body(c_in, c_out, stride), shortcut), relu=nn.ReLU())

    stages: dict[str, nn.Module] = {}
    c_in = width
    for stage, repeats in enumerate(_BLOCKS[depth]):
        c_out = width * 2**stage * expansion
        parts: dict[str, nn.Module] = {}
        for index in range(repeats):
            parts[f"block{index + 1}"] = block(c_in, c_out, 2 if stage > 0 and index == 0 else 1)
            c_in = c_out
        stages[f"stage{stage + 1}"] = Chain(**parts)
    return Chain(
        stem=Chain(
            conv=convolution(channels, width, 7, 2, field_in="trivial"),
            norm=batch_norm(width, group=group),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(3, 2, 1),
        ),
        **stages,
        pool=nn.AdaptiveAvgPool2d(1),
        group_pool=GroupMaxPool(c_in, group=group) if group.order > 1 else None,
        flatten=nn.Flatten(),
        classifier=nn.Linear(c_in, classes),
    )
