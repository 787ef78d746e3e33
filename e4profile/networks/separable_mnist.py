"""The rot-MNIST stack of seven valid convolutions, full or separable. Lengyel & van Gemert 2021."""

from __future__ import annotations

from typing import Literal

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, GroupMaxPool
from e4profile.layers.separable import Execution, SeparableConv2d, SeparableGroupConv2d
from e4profile.layers.summary_tool import CountedNorms
from e4profile.networks.blocks import batch_norm, convolution, lifting, network


@network
def separable_mnist(
    *,
    group: GroupLike,
    width: int,
    kind: Literal["full", "c", "g", "gc"] = "full",
    execution: Execution = "factored",
    channels: int = 1,
    classes: int = 10,
) -> Chain:
    """Six 3x3 convolutions and a 4x4, unpadded with bias, each with batch norm and ReLU.

    A 2x2 max-pool follows layer 2, so a 28x28 image gives maps of 26, 24 (pooled to 12), 10, 8, 6, 4 and 1
    pixels. Layer 1 is a full (lifting) convolution; ``kind`` says how layers 2 to 7 are factored: ``"full"``
    not at all, ``"c"`` over channels (trivial group only), ``"g"`` over the group, ``"gc"`` over both.
    Shapes: (B, channels, 28, 28) -> (B, classes).

    Raises:
        SettingError: for an unknown kind, ``"c"`` with a group, or arguments that the layers refuse.
    """
    group = as_group(group)
    positive(width=width, channels=channels, classes=classes)
    if kind == "c" and group.order > 1:
        raise SettingError(f"kind (='c') separates plain convolutions; group (={group}) needs 'g' or 'gc'")

    def hidden(kernel: int) -> nn.Module:
        if kind == "full":
            return convolution(width, width, kernel, group=group, bias=True)
        if kind == "c":
            return SeparableConv2d(width, width, kernel, bias=True)
        return SeparableGroupConv2d(width, width, kernel, group=group, kind=kind, bias=True, execution=execution)

    def stage(conv: nn.Module, pool: bool) -> Chain:
        return Chain(
            conv=conv, norm=batch_norm(width, group=group), relu=nn.ReLU(), pool=nn.MaxPool2d(2) if pool else None
        )

    hidden_layers = {f"layer{i}": stage(hidden(4 if i == 7 else 3), pool=i == 2) for i in range(2, 8)}
    return CountedNorms(
        layer1=stage(lifting(channels, width, 3, group=group, bias=True), pool=False),
        **hidden_layers,
        group_pool=GroupMaxPool(width, group=group) if group.order > 1 else None,
        flatten=nn.Flatten(),
        classifier=nn.Linear(width, classes),
    )
