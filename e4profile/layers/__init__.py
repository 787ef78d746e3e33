"""Layers of group-equivariant networks, each with its named cost terms beside it.

Feature maps are (B, c * A, h, w) with channel index = field * A + group element.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from e4profile.layers.base import LAYERS, Cost, Costed, EquivariantLayer, Sample, layer_cost
from e4profile.layers.containers import Chain, Residual, Step, trace
from e4profile.layers.e4 import E4Conv2d
from e4profile.layers.group_conv import GroupConv2d
from e4profile.layers.lifting import LiftingConv2d
from e4profile.layers.norm import FieldBatchNorm2d, FieldGroupNorm
from e4profile.layers.pointwise import PointwiseConv2d
from e4profile.layers.pooling import GroupMaxPool
from e4profile.layers.steerable import SteerableConv2d

# a layer is one file: finding the files here means that no list needs an entry for a new one
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "LAYERS",
    "Chain",
    "Cost",
    "Costed",
    "E4Conv2d",
    "EquivariantLayer",
    "FieldBatchNorm2d",
    "FieldGroupNorm",
    "GroupConv2d",
    "GroupMaxPool",
    "LiftingConv2d",
    "PointwiseConv2d",
    "Residual",
    "Sample",
    "SteerableConv2d",
    "Step",
    "layer_cost",
    "trace",
]
