"""The rot-MNIST stacks: layers one after another, pooled over the group at the end.

The p4 stack of Cohen & Welling 2016, section 8.1, and its attentive form of Romero et al. 2020 (p4_CNN and
alpha_p4_CNN of He et al. 2021, Table 1); the stack of He et al. 2021, section 5.1, with E4 layers or group
convolutions; the separable stack of Lengyel & van Gemert 2021.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import AttentiveGroupConv2d, AttentiveLiftingConv2d, Chain, FieldBatchNorm2d
from e4profile.layers.e4 import Concatenate
from e4profile.layers.separable import Execution, SeparableConv2d, SeparableGroupConv2d
from e4profile.layers.summary_tool import CountedNorms
from e4profile.networks.blocks import MixingLayer, Parts, network


def _stage(conv: nn.Module, norm: nn.Module, *, pool: bool = False, dropout: float | None = None) -> Chain:
    """A layer, its norm and ReLU, then a 2x2 max-pool or dropout."""
    after = {"pool": nn.MaxPool2d(2)} if pool else {"dropout": None if dropout is None else nn.Dropout(dropout)}
    return Chain(conv=conv, norm=norm, relu=nn.ReLU(), **after)


@network
def p4_cnn(*, group: GroupLike = "p4", width: int, dropout: float = 0.3, channels: int = 1, classes: int = 10) -> Chain:
    """Six unpadded 3x3 convolutions and a 4x4 one to the classes, without biases; the first one lifts.

    Batch norm and ReLU follow the first six, a 2x2 max-pool the second, dropout the others; the logits are
    the maximum over the group. A 28x28 image gives maps of 26, 24 (pooled: 12), 10, 8, 6, 4 and 1 pixels.
    Shapes: (B, channels, 28, 28) -> (B, classes).

    Raises:
        SettingError: for arguments that the layers refuse.
    """
    parts = Parts(as_group(group))
    positive(width=width, channels=channels, classes=classes)

    def stage(conv: nn.Module, pool: bool = False) -> Chain:
        return _stage(conv, parts.norm(width), pool=pool, dropout=dropout)

    return Chain(
        layer1=stage(parts.lifting(channels, width, 3)),
        **{f"layer{i}": stage(parts.convolution(width, width, 3), pool=i == 2) for i in range(2, 7)},
        layer7=parts.convolution(width, classes, 4),
        group_pool=parts.group_pool(classes),
        flatten=nn.Flatten(),
    )


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
        return _stage(conv, FieldBatchNorm2d(width, group=group, eps=2e-5), pool=pool, dropout=dropout)

    def attentive(c_out: int, kernel: int) -> nn.Module:
        return AttentiveGroupConv2d(width, c_out, kernel, group=group, reduction=reduction, gate_kernel=gate_kernel)

    return Chain(
        layer1=stage(AttentiveLiftingConv2d(channels, width, 3, group=group, gate_kernel=gate_kernel)),
        **{f"layer{i}": stage(attentive(width, 3), pool=i == 2) for i in range(2, 7)},
        layer7=attentive(classes, 4),
        group_pool=Parts(group).group_pool(classes),
        flatten=nn.Flatten(),
    )


@network
def rot_mnist(
    *,
    group: GroupLike,
    width: int,
    kernel: int = 5,
    layer: MixingLayer = "e4",
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
    parts = Parts(as_group(group))
    positive(width=width, kernel=kernel, channels=channels, classes=classes)
    e4: dict[str, Any] = {
        "reduction": reduction, "slices": slices, "channels_per_slice": channels_per_slice,
        "concatenate": concatenate, "encoder_norm": encoder_norm, "squeeze_affine": squeeze_affine,
    }  # fmt: skip
    mixing = {
        f"layer{i}": _stage(parts.mixing(layer, width, kernel, **e4), parts.norm(width), pool=i in (2, 4))
        for i in range(2, 8)
    }
    return Chain(
        layer1=_stage(parts.lifting(channels, width, 3, padding=1), parts.norm(width)),
        **mixing,
        dropout=nn.Dropout(dropout),
        group_pool=parts.group_pool(width),
        global_pool=nn.AdaptiveMaxPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(width, classes),
    )


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
    parts = Parts(group)
    positive(width=width, channels=channels, classes=classes)
    if kind == "c" and group.order > 1:
        raise SettingError(f"kind (='c') separates plain convolutions; group (={group}) needs 'g' or 'gc'")

    def hidden(kernel: int) -> nn.Module:
        if kind == "full":
            return parts.convolution(width, width, kernel, bias=True)
        if kind == "c":
            return SeparableConv2d(width, width, kernel, bias=True)
        return SeparableGroupConv2d(width, width, kernel, group=group, kind=kind, bias=True, execution=execution)

    return CountedNorms(
        layer1=_stage(parts.lifting(channels, width, 3, bias=True), parts.norm(width)),
        **{f"layer{i}": _stage(hidden(4 if i == 7 else 3), parts.norm(width), pool=i == 2) for i in range(2, 8)},
        group_pool=parts.group_pool(width),
        flatten=nn.Flatten(),
        classifier=nn.Linear(width, classes),
    )
