"""What the operators cost to counters of others: formulas for PyTorch's, handles for fvcore, which is not imported.

PyTorch counts FLOPs, two to a MAC. fvcore counts one fused multiply-add as one FLOP, so its handles give MACs:
`FlopCountAnalysis(model, inputs).set_op_handle(**FVCORE_HANDLES)`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.flop_counter import flop_registry, register_flop_formula

from e4profile.errors import SettingError

Formula = Callable[..., int]


def macs_of(operator: str, flops: int) -> int:
    """The MACs of an operator whose FLOPs PyTorch's counter gives: half of them.

    Raises:
        SettingError: for an odd number, which a wrong formula gives.
    """
    macs, rest = divmod(flops, 2)
    if rest:
        raise SettingError(f"{operator}: {flops:,} FLOPs are odd, and a MAC is 2 FLOPs; correct its registered formula")
    return macs


def flop_formula(operator: Any) -> Callable[[Formula], Formula]:
    """Register a formula of the operator's shapes; `operator` is for example torch.ops.mylib.my_op."""

    def register(formula: Formula) -> Formula:
        register_flop_formula(operator)(formula)
        if operator not in flop_registry:
            # PyTorch 2.4 files the formula of an operator that is not its own under each overload, but looks
            # it up under the operator.
            flop_registry[operator] = flop_registry[operator.default]
        return formula

    return register


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
