"""The CIFAR ResNet-18 family of He et al. 2021, Table 4: plain, group-convolutional and with E4 layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, E4Conv2d, GroupMaxPool, Residual
from e4profile.networks.blocks import StrideBy, batch_norm, convolution, lifting, network


@network
def basic_resnet(
    *,
    group: GroupLike,
    width: int,
    layer: Literal["e4", "group"] = "group",
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
    group = as_group(group)
    positive(width=width, kernel=kernel, channels=channels, classes=classes)
    if kernel % 2 == 0:
        raise SettingError(f"kernel (={kernel}) must be odd: the blocks keep their map sizes")

    def second(fields: int) -> nn.Module:
        if layer == "group":
            return convolution(fields, fields, kernel, group=group, padding=(kernel - 1) // 2)
        if layer == "e4":
            return E4Conv2d(
                fields, fields, kernel, group=group, reduction=reduction, slices=slices,
                channels_per_slice=channels_per_slice, encoder_norm=encoder_norm, squeeze_affine=squeeze_affine,
            )  # fmt: skip
        raise SettingError(f"layer (={layer!r}) must be 'e4' or 'group'")

    def block(c_in: int, c_out: int, stride: int) -> Chain:
        body = Chain(
            conv1=convolution(c_in, c_out, 3, group=group, stride=stride, padding=1, stride_by=stride_by),
            dropout=nn.Dropout(dropout),
            norm1=batch_norm(c_out, group=group),
            relu=nn.ReLU(),
            conv2=second(c_out),
            norm2=batch_norm(c_out, group=group),
        )
        shortcut = None
        if stride != 1 or c_in != c_out:
            shortcut = Chain(
                conv=convolution(c_in, c_out, 1, group=group, stride=stride, stride_by=stride_by),
                norm=batch_norm(c_out, group=group),
            )
        return Chain(residual=Residual(body, shortcut), relu=nn.ReLU())

    stages: dict[str, nn.Module] = {}
    c_in = width
    for stage, depth in enumerate(blocks):
        c_out = width * 2**stage
        parts: dict[str, nn.Module] = {}
        for index in range(depth):
            parts[f"block{index + 1}"] = block(c_in, c_out, 2 if stage > 0 and index == 0 else 1)
            c_in = c_out
        stages[f"stage{stage + 1}"] = Chain(**parts)
    return Chain(
        stem=Chain(
            conv=lifting(channels, width, 3, group=group, padding=1),
            norm=batch_norm(width, group=group),
            relu=nn.ReLU(),
        ),
        **stages,
        group_pool=GroupMaxPool(c_in, group=group) if group.order > 1 else None,
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(c_in, classes),
    )
