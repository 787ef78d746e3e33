"""The aggregation operator: reference, CPU, GPU."""

from e4profile.ops.aggregation import aggregate
from e4profile.ops.choice import IMPLEMENTATIONS, triton_reason
from e4profile.ops.flops import FVCORE_HANDLES, fvcore_aggregate_handle, fvcore_generate_aggregate_handle
from e4profile.ops.fused import generate_and_aggregate, generate_stencils
from e4profile.ops.reference import aggregate_reference
from e4profile.ops.shapes import aggregation_macs, generate_aggregate_backward_macs, generate_aggregate_macs

__all__ = [
    "FVCORE_HANDLES",
    "IMPLEMENTATIONS",
    "aggregate",
    "aggregate_reference",
    "aggregation_macs",
    "fvcore_aggregate_handle",
    "fvcore_generate_aggregate_handle",
    "generate_aggregate_backward_macs",
    "generate_aggregate_macs",
    "generate_and_aggregate",
    "generate_stencils",
    "triton_reason",
]
