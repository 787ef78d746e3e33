"""The pre-activation ResNet-44 for CIFAR, full or separable. Lengyel & van Gemert 2021."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, Residual
from e4profile.layers.separable import Execution, SeparableGroupConv2d
from e4profile.layers.summary_tool import BelowDepth, CountedAgain, CountedNorms
from e4profile.networks.blocks import batch_norm, convolution, lifting, network


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
    positive(depth=depth, channels=channels, classes=classes)
    if not widths:
        raise SettingError("widths (=[]) must name at least one stage")

    def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Module:
        if kind == "full":
            return convolution(c_in, c_out, 3, group=group, stride=stride, padding=1)
        return SeparableGroupConv2d(
            c_in, c_out, 3, group=group, kind=kind, stride=stride, padding=1, execution=execution
        )

    def block(c_in: int, c_out: int, stride: int) -> Chain:
        body = Chain(
            norm1=batch_norm(c_in, group=group),
            relu1=nn.ReLU(),
            conv1=conv3x3(c_in, c_out, stride),
            norm2=batch_norm(c_out, group=group),
            relu2=nn.ReLU(),
            conv2=conv3x3(c_out, c_out),
        )
        shortcut = None
        if stride != 1 or c_in != c_out:
            shortcut = BelowDepth(
                conv=convolution(c_in, c_out, 1, group=group, stride=stride), norm=batch_norm(c_out, group=group)
            )
        return CountedAgain(residual=Residual(body, shortcut))

    stages: dict[str, nn.Module] = {}
    c_in = widths[0]
    for stage, c_out in enumerate(widths):
        blocks: dict[str, nn.Module] = {}
        for index in range(depth):
            blocks[f"block{index + 1}"] = block(c_in, c_out, 2 if stage > 0 and index == 0 else 1)
            c_in = c_out
        stages[f"stage{stage + 1}"] = CountedAgain(**blocks)
    return CountedNorms(
        stem=lifting(channels, widths[0], 3, group=group, padding=1),
        **stages,
        norm=batch_norm(c_in, group=group),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(c_in * group.order, classes),
    )
