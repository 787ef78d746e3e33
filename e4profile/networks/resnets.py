"""Residual networks: the CIFAR ResNet-18 family, the steerable ImageNet ResNets and the separable ResNet-44.

He et al. 2021, Table 4 (``basic_resnet``); He et al. 2016 and Weiler & Cesa 2019 (``steerable_resnet``); Lengyel &
van Gemert 2021 (``separable_cifar``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from e4profile.errors import SettingError, UnknownNameError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, Residual, SeparableGroupConv2d, SteerableConv2d
from e4profile.layers.separable import Execution
from e4profile.layers.steerable import FieldName
from e4profile.layers.summary_tool import BelowDepth, CountedAgain, CountedNorms
from e4profile.networks.blocks import MixingLayer, Parts, StrideBy, network, residual_stages

_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_BOTTLENECK_EXPANSION = 4


@network
def basic_resnet(
    *,
    group: GroupLike,
    width: int,
    layer: MixingLayer = "group",
    kernel: int = 3,
    reduction: int = 1,
    slices: int | None = None,
    channels_per_slice: int | None = None,
    encoder_norm: bool = False,
    squeeze_affine: Literal["field", "channel"] = "field",
    stride_by: StrideBy = "max_pool",
    blocks: Sequence[int] = (2, 2, 2, 2),
    dropout: float = 0.2,
    channels: int = 3,
    classes: int = 10,
) -> Chain:
    """Stem 3x3 without max-pool, four stages of basic blocks of widths w, 2w, 4w, 8w.

    With ``layer="e4"`` the second 3x3 of every block is an E4 layer of size ``kernel``; with ``"group"`` it
    is a group convolution of that size. ``stride_by="max_pool"`` is how the released group networks stride;
    the plain network (trivial group) has true strides.
    Shapes: (B, channels, h, w) -> (B, classes).

    Raises:
        SettingError: for arguments that the layers refuse.
    """
    parts = Parts(as_group(group))
    positive(width=width, kernel=kernel, channels=channels, classes=classes)
    e4: dict[str, Any] = {
        "reduction": reduction, "slices": slices, "channels_per_slice": channels_per_slice,
        "encoder_norm": encoder_norm, "squeeze_affine": squeeze_affine,
    }  # fmt: skip

    def block(c_in: int, c_out: int, stride: int) -> Chain:
        body = Chain(
            conv1=parts.convolution(c_in, c_out, 3, stride=stride, padding=1, stride_by=stride_by),
            dropout=nn.Dropout(dropout),
            norm1=parts.norm(c_out),
            relu=nn.ReLU(),
            conv2=parts.mixing(layer, c_out, kernel, **e4),
            norm2=parts.norm(c_out),
        )
        shortcut = None
        if stride != 1 or c_in != c_out:
            shortcut = Chain(
                conv=parts.convolution(c_in, c_out, 1, stride=stride, stride_by=stride_by), norm=parts.norm(c_out)
            )
        return Chain(residual=Residual(body, shortcut), relu=nn.ReLU())

    stages, fields = residual_stages(width, [(width * 2**i, depth) for i, depth in enumerate(blocks)], block)
    return Chain(
        stem=Chain(conv=parts.lifting(channels, width, 3, padding=1), norm=parts.norm(width), relu=nn.ReLU()),
        **stages,
        group_pool=parts.group_pool(fields),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(fields, classes),
    )


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
    parts = Parts(group)
    positive(width=width, channels=channels, classes=classes)
    if depth not in _BLOCKS:
        raise UnknownNameError("depth", str(depth), map(str, _BLOCKS))
    expansion = 1 if depth == 18 else _BOTTLENECK_EXPANSION

    def convolution(c_in: int, c_out: int, kernel: int, stride: int = 1, field_in: FieldName = "regular") -> nn.Module:
        padding = kernel // 2
        if group.order == 1:
            return parts.convolution(c_in, c_out, kernel, stride=stride, padding=padding)
        return SteerableConv2d(c_in, c_out, kernel, group=group, stride=stride, padding=padding, field_in=field_in)

    def body(*sizes: tuple[int, int, int, int]) -> Chain:
        """Convolutions (fields in, fields out, kernel, stride), each with its norm, ReLUs between them."""
        found: dict[str, nn.Module] = {}
        for i, (c_in, c_out, kernel, stride) in enumerate(sizes, 1):
            found[f"conv{i}"] = convolution(c_in, c_out, kernel, stride)
            found[f"norm{i}"] = parts.norm(c_out)
            if i < len(sizes):
                found[f"relu{i}"] = nn.ReLU()
        return Chain(**found)

    def block(c_in: int, c_out: int, stride: int) -> Chain:
        inner = c_out // expansion
        basic = ((c_in, c_out, 3, stride), (c_out, c_out, 3, 1))
        bottleneck = ((c_in, inner, 1, 1), (inner, inner, 3, stride), (inner, c_out, 1, 1))
        inside = body(*(basic if expansion == 1 else bottleneck))
        shortcut = None
        if stride != 1 or c_in != c_out:
            shortcut = Chain(conv=convolution(c_in, c_out, 1, stride), norm=parts.norm(c_out))
        return Chain(residual=Residual(inside, shortcut), relu=nn.ReLU())

    widths = [(width * 2**i * expansion, repeats) for i, repeats in enumerate(_BLOCKS[depth])]
    stages, fields = residual_stages(width, widths, block)
    return Chain(
        stem=Chain(
            conv=convolution(channels, width, 7, 2, field_in="trivial"),
            norm=parts.norm(width),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(3, 2, 1),
        ),
        **stages,
        pool=nn.AdaptiveAvgPool2d(1),
        group_pool=parts.group_pool(fields),
        flatten=nn.Flatten(),
        classifier=nn.Linear(fields, classes),
    )


@network
def separable_cifar(
    *,
    group: GroupLike,
    widths: Sequence[int],
    kind: Literal["full", "g", "gc"] = "full",
    execution: Execution = "factored",
    depth: int = 7,
    channels: int = 3,
    classes: int = 10,
) -> Chain:
    """A 3x3 (lifting) convolution, per width a stage of ``depth`` blocks, a final norm, mean over positions.

    A block is BN - ReLU - 3x3 - BN - ReLU - 3x3 plus the identity, or plus a full 1x1 convolution with BN
    where a later stage begins with stride 2. No convolution has a bias. The classifier reads every group
    element of the last fields: nothing is pooled over the group, so the logits are not invariant.
    ``kind`` says how the 3x3 convolutions of the blocks are factored.
    Shapes: (B, channels, h, w) -> (B, classes).

    Raises:
        SettingError: without widths, or for arguments that the layers refuse.
    """
    group = as_group(group)
    parts = Parts(group)
    positive(depth=depth, channels=channels, classes=classes)
    if not widths:
        raise SettingError("widths (=[]) must name at least one stage")

    def conv3x3(c_in: int, c_out: int, stride: int) -> nn.Module:
        if kind == "full":
            return parts.convolution(c_in, c_out, 3, stride=stride, padding=1)
        return SeparableGroupConv2d(
            c_in, c_out, 3, group=group, kind=kind, stride=stride, padding=1, execution=execution
        )

    def block(c_in: int, c_out: int, stride: int) -> Chain:
        body = parts.pre_activation(c_in, c_out, stride, conv3x3)
        shortcut = None
        if stride != 1 or c_in != c_out:
            shortcut = BelowDepth(conv=parts.convolution(c_in, c_out, 1, stride=stride), norm=parts.norm(c_out))
        return CountedAgain(residual=Residual(body, shortcut))

    stages, fields = residual_stages(widths[0], [(fields, depth) for fields in widths], block, CountedAgain)
    return CountedNorms(
        stem=parts.lifting(channels, widths[0], 3, padding=1),
        **stages,
        norm=parts.norm(fields),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(fields * group.order, classes),
    )
