"""The aggregation operator: reference, CPU, GPU."""

from e4profile.ops.aggregation import IMPLEMENTATIONS, aggregate
from e4profile.ops.reference import aggregate_reference
from e4profile.ops.shapes import aggregation_macs

__all__ = ["IMPLEMENTATIONS", "aggregate", "aggregate_reference", "aggregation_macs"]
