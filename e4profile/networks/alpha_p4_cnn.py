"""The attentive rot-MNIST stack of Romero et al. 2020 (alpha_p4_CNN of He et al. 2021, Table 1)."""

from __future__ import annotations

from torch import nn

from e4profile.errors import positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, GroupMaxPool
from e4profile.layers.attentive import AttentiveGroupConv2d, AttentiveLiftingConv2d
from e4profile.layers.norm import FieldBatchNorm2d
from e4profile.networks.blocks import network


@network
def alpha_p4_cnn(
    *,
    group: GroupLike = "p4",
    width: int,
    reduction: int = 2,
    gate_kernel: int = 7,
    dropout: float = 0.3,
    channels: int = 1,
    classes: int = 10,
) -> Chain:
    """The stack of ``p4_cnn`` with an attentive convolution in the place of every convolution.

    The lifting layer's channel gate does not reduce. Shapes: (B, channels, 28, 28) -> (B, classes).

    Raises:
        SettingError: for arguments that the layers refuse.
    """
    group = as_group(group)
    positive(width=width, channels=channels, classes=classes)

    def stage(conv: nn.Module, pool: bool = False) -> Chain:
        after = {"pool": nn.MaxPool2d(2)} if pool else {"dropout": nn.Dropout(dropout)}
        return Chain(conv=conv, norm=FieldBatchNorm2d(width, group=group, eps=2e-5), relu=nn.ReLU(), **after)

    def attentive(c_out: int, kernel: int) -> nn.Module:
        return AttentiveGroupConv2d(width, c_out, kernel, group=group, reduction=reduction, gate_kernel=gate_kernel)

    return Chain(
        layer1=stage(AttentiveLiftingConv2d(channels, width, 3, group=group, gate_kernel=gate_kernel)),
        **{f"layer{i}": stage(attentive(width, 3), pool=i == 2) for i in range(2, 7)},
        layer7=attentive(classes, 4),
        group_pool=GroupMaxPool(classes, group=group),
        flatten=nn.Flatten(),
    )
