"""The rot-MNIST stack of Cohen & Welling 2016, section 8.1 (p4_CNN of He et al. 2021, Table 1)."""

from __future__ import annotations

from torch import nn

from e4profile.errors import positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, GroupMaxPool
from e4profile.networks.blocks import batch_norm, convolution, lifting, network


@network
def p4_cnn(*, group: GroupLike = "p4", width: int, dropout: float = 0.3, channels: int = 1, classes: int = 10) -> Chain:
    """Six unpadded 3x3 convolutions and a 4x4 one to the classes, without biases; the first one lifts.

    Batch norm and ReLU follow the first six, a 2x2 max-pool the second, dropout the others; the logits are
    the maximum over the group. A 28x28 image gives maps of 26, 24 (pooled: 12), 10, 8, 6, 4 and 1 pixels.
    Shapes: (B, channels, 28, 28) -> (B, classes).

    Raises:
        SettingError: for arguments that the layers refuse.
    """
    group = as_group(group)
    positive(width=width, channels=channels, classes=classes)

    def stage(conv: nn.Module, pool: bool = False) -> Chain:
        after = {"pool": nn.MaxPool2d(2)} if pool else {"dropout": nn.Dropout(dropout)}
        return Chain(conv=conv, norm=batch_norm(width, group=group), relu=nn.ReLU(), **after)

    stages = {f"layer{i}": stage(convolution(width, width, 3, group=group), pool=i == 2) for i in range(2, 7)}
    return Chain(
        layer1=stage(lifting(channels, width, 3, group=group)),
        **stages,
        layer7=convolution(width, classes, 4, group=group),
        group_pool=GroupMaxPool(classes, group=group) if group.order > 1 else None,
        flatten=nn.Flatten(),
    )
