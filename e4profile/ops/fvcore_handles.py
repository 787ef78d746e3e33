"""Handles with which fvcore counts the operators; fvcore itself is not imported.

`FlopCountAnalysis(model, inputs).set_op_handle(**FVCORE_HANDLES)`. fvcore counts one fused multiply-add as one
FLOP, so these are MACs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any


def _shape(value: Any) -> list[int]:
    """The sizes of a traced tensor (a torch._C.Value)."""
    sizes: list[int] = value.type().sizes()
    return sizes


def fvcore_aggregate_handle(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """MACs of `e4profile::aggregate`: k² per output element."""
    return math.prod(_shape(outputs[0])) * _shape(inputs[0])[3]


def fvcore_generate_aggregate_handle(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    """MACs of `e4profile::generate_aggregate`, its two parts apart: "generator" and "aggregation"."""
    hidden, weight, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    rows, slices = weight[1], out[1]
    return Counter({"generator": math.prod(hidden) * rows, "aggregation": math.prod(out) * (rows // slices)})


FVCORE_HANDLES: dict[str, Callable[[Sequence[Any], Sequence[Any]], int | Counter[str]]] = {
    "e4profile::aggregate": fvcore_aggregate_handle,
    "e4profile::generate_aggregate": fvcore_generate_aggregate_handle,
}
