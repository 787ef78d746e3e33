"""The plain rot-MNIST stack of He et al. 2021, section 5.1: lifting, six layers, invariant pooling."""

from __future__ import annotations

from typing import Literal

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, E4Conv2d, GroupMaxPool
from e4profile.layers.e4 import Concatenate
from e4profile.networks.blocks import batch_norm, convolution, lifting, network


@network
def rot_mnist(
    *,
    group: GroupLike,
    width: int,
    kernel: int = 5,
    layer: Literal["e4", "group"] = "e4",
    reduction: int = 1,
    slices: int | None = None,
    channels_per_slice: int | None = None,
    concatenate: Concatenate = "both",
    encoder_norm: bool = False,
    squeeze_affine: Literal["field", "channel"] = "field",
    dropout: float = 0.2,
    channels: int = 1,
    classes: int = 10,
) -> Chain:
    """Lifting 3x3, six E4 layers (or group convolutions), each with batch norm and ReLU.

    Two 2x2 max-pools follow the second and the fourth of the seven layers, so a 28x28 image gives maps of
    28, 14, 14, 7, 7 and 7 pixels to the six. Shapes: (B, channels, h, w) -> (B, classes).

    Raises:
        SettingError: for arguments that the layers refuse.
    """
    group = as_group(group)
    positive(width=width, kernel=kernel, channels=channels, classes=classes)
    if kernel % 2 == 0:
        raise SettingError(f"kernel (={kernel}) must be odd: the stack keeps its map sizes")

    def body_layer() -> nn.Module:
        if layer == "group":
            return convolution(width, width, kernel, group=group, padding=(kernel - 1) // 2)
        if layer == "e4":
            return E4Conv2d(
                width, width, kernel, group=group, reduction=reduction, slices=slices,
                channels_per_slice=channels_per_slice, concatenate=concatenate, encoder_norm=encoder_norm,
                squeeze_affine=squeeze_affine,
            )  # fmt: skip
        raise SettingError(f"layer (={layer!r}) must be 'e4' or 'group'")

    def stage(conv: nn.Module, pool: bool) -> Chain:
        return Chain(
            conv=conv, norm=batch_norm(width, group=group), relu=nn.ReLU(), pool=nn.MaxPool2d(2) if pool else None
        )

    stages = {f"layer{i}": stage(body_layer(), pool=i in (2, 4)) for i in range(2, 8)}
    return Chain(
        layer1=stage(lifting(channels, width, 3, group=group, padding=1), pool=False),
        **stages,
        dropout=nn.Dropout(dropout),
        group_pool=GroupMaxPool(width, group=group) if group.order > 1 else None,
        global_pool=nn.AdaptiveMaxPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(width, classes),
    )
