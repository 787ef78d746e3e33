"""FLOPs as PyTorch's counter has them: an operator's formula for every version of it, and the MACs in a figure."""

from __future__ import annotations

from collections.abc import Callable
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
