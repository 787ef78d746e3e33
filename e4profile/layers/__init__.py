"""Layers of group-equivariant networks, each with its named cost terms beside it.

Feature maps are (B, c * A, h, w) with channel index = field * A + group element.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from e4profile.layers.attentive import AttentiveGroupConv2d, AttentiveLiftingConv2d
from e4profile.layers.base import LAYERS, Cost, Costed, EquivariantLayer, Sample, layer_cost
from e4profile.layers.containers import Chain, Residual, Step, trace
from e4profile.layers.e4 import E4Conv2d
from e4profile.layers.execution import set_execution
from e4profile.layers.group_conv import GroupConv2d, LiftingConv2d
from e4profile.layers.norm import FieldBatchNorm2d, FieldGroupNorm, FieldLayerNorm
from e4profile.layers.pointwise import PointwiseConv2d
from e4profile.layers.pooling import GroupMaxPool, GroupMeanPool
from e4profile.layers.restriction import Restriction
from e4profile.layers.self_attention import GroupSelfAttention2d, LiftingSelfAttention2d
from e4profile.layers.separable import SeparableConv2d, SeparableGroupConv2d
from e4profile.layers.space import SpatialCrop, SpatialSum
from e4profile.layers.steerable import SteerableConv2d

# a layer is one file: finding the files here means that no list needs an entry for a new one
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "LAYERS",
    "AttentiveGroupConv2d",
    "AttentiveLiftingConv2d",
    "Chain",
    "Cost",
    "Costed",
    "E4Conv2d",
    "EquivariantLayer",
    "FieldBatchNorm2d",
    "FieldGroupNorm",
    "FieldLayerNorm",
    "GroupConv2d",
    "GroupMaxPool",
    "GroupMeanPool",
    "GroupSelfAttention2d",
    "LiftingConv2d",
    "LiftingSelfAttention2d",
    "PointwiseConv2d",
    "Residual",
    "Restriction",
    "Sample",
    "SeparableConv2d",
    "SeparableGroupConv2d",
    "SpatialCrop",
    "SpatialSum",
    "SteerableConv2d",
    "Step",
    "layer_cost",
    "set_execution",
    "trace",
]
