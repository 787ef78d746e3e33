"""Registration of an operator's FLOP formula with PyTorch's counter, for every version of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import flop_registry, register_flop_formula

Formula = Callable[..., int]


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
