"""The group self-attention network of Romero & Cordonnier 2021 (p4_SA of He et al. 2021, Table 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, GroupMaxPool, PointwiseConv2d, Residual
from e4profile.layers.norm import FieldLayerNorm
from e4profile.layers.self_attention import GroupSelfAttention2d, LiftingSelfAttention2d, RelativeIndex
from e4profile.layers.space import SpatialCrop, SpatialSum
from e4profile.networks.blocks import network


@network
def p4_sa(
    *,
    group: GroupLike = "p4",
    width: int = 20,
    heads: int = 9,
    head_channels: int = 10,
    kernel: int = 5,
    hidden: int = 10,
    position_hidden: int = 16,
    crops: Sequence[int] = (2, 0, 2, 1, 1),
    pool_after: int = 2,
    relative_index: RelativeIndex = "equivariant",
    channels: int = 1,
    classes: int = 10,
) -> Chain:
    """Lifting attention, then blocks of attention and a pointwise network, each cropping its maps.

    A 2x2 max-pool follows block ``pool_after`` (0: none). The logits are a pointwise map, summed over space
    and maximised over the group. Orders such as C16 are built too: only positions turn, never a patch or a
    map. ``relative_index="published"`` is the released network: not invariant (see ``GroupSelfAttention2d``).
    Shapes: (B, channels, h, w) -> (B, classes).

    Raises:
        SettingError: for arguments that the layers refuse, or a pool after a block that does not exist.
    """
    group = as_group(group)
    positive(width=width, hidden=hidden, channels=channels, classes=classes)
    if not 0 <= pool_after <= len(crops):
        raise SettingError(f"pool_after (={pool_after}) must be in 0..{len(crops)}, the blocks there are")
    sizes = {"heads": heads, "head_channels": head_channels, "position_hidden": position_hidden}

    def block(crop: int, pool: bool) -> Chain:
        attention = Chain(
            norm1=FieldLayerNorm(width, group=group),
            swish1=nn.SiLU(),
            attention=GroupSelfAttention2d(width, width, kernel, group=group, relative_index=relative_index, **sizes),
            norm2=FieldLayerNorm(width, group=group),
            swish2=nn.SiLU(),
            crop=SpatialCrop(width, crop, group=group),
        )
        pointwise = Chain(
            squeeze=PointwiseConv2d(width, hidden, group=group),
            norm1=FieldLayerNorm(hidden, group=group),
            swish=nn.SiLU(),
            expand=PointwiseConv2d(hidden, width, group=group),
            norm2=FieldLayerNorm(width, group=group),
        )
        return Chain(
            attention=Residual(attention, SpatialCrop(width, crop, group=group)),
            pointwise=Residual(pointwise),
            pool=nn.MaxPool2d(2) if pool else None,
        )

    built = Chain(
        lifting=Chain(
            attention=LiftingSelfAttention2d(channels, width, kernel, group=group, **sizes),
            norm=FieldLayerNorm(width, group=group),
            swish=nn.SiLU(),
        ),
        **{f"block{i}": block(crop, pool=i == pool_after) for i, crop in enumerate(crops, 1)},
        classifier=PointwiseConv2d(width, classes, group=group, bias=False),
        sum=SpatialSum(classes, group=group),
        group_pool=GroupMaxPool(classes, group=group),
        flatten=nn.Flatten(),
    )
    _initialise(built)
    return built


def _initialise(model: nn.Module) -> None:
    """Linear maps start at N(0, 2 / fan-in) without bias, as released."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | PointwiseConv2d) and not module.weight.is_meta:
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
