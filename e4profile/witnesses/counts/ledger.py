"""What an executed operator costs: counted by a formula, free in every convention of this package, or unknown.

An operator without a formula that is not known to be free (``e4profile.witnesses.counts.free``) is unknown, never zero.
A product of complex numbers is charged as the four products of real numbers that it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from e4profile.conventions import (
    AGGREGATION,
    ATTENTION,
    BATCH_NORM,
    CONVOLUTION,
    FILTER_KINDS,
    GROUP_NORM,
    LINEAR,
    MAC_KINDS,
    NORM_KINDS,
)
from e4profile.errors import SettingError, one_of
from e4profile.witnesses.counts.contractions import ATTENTIONS, CONVOLUTIONS, MATRIX_PRODUCTS
from e4profile.witnesses.counts.free import FREE, family_of

__all__ = ["FORMULAS", "FREE", "KINDS", "Price", "price_of", "register_free", "register_operator"]

KINDS = (*MAC_KINDS, *NORM_KINDS, *FILTER_KINDS)
"""What a registered operator may report."""

Formula = Callable[..., Mapping[str, int]]


def _elements(kind: str) -> Formula:
    def formula(features: torch.Tensor, *_: Any, **__: Any) -> Mapping[str, int]:
        return {kind: features.numel()}

    return formula


def _generate_aggregate(
    hidden: torch.Tensor, weight: torch.Tensor, _: torch.Tensor, values: torch.Tensor, *__: Any, **___: Any
) -> Mapping[str, int]:
    """The fused operator's two parts, from the shapes that it was given.

    hidden (B, A, c_mid, h_out, w_out), weight (A, s k^2, c_mid), values (B, s, c, A, h, w).
    """
    rows = weight.shape[1]
    slices, per_slice = values.shape[1:3]
    positions = math.prod(hidden.shape) // hidden.shape[2]
    return {CONVOLUTION: math.prod(hidden.shape) * rows, AGGREGATION: positions * per_slice * rows if slices else 0}


FORMULAS: dict[str, Formula] = {
    "e4profile::generate_aggregate": _generate_aggregate,
    **{
        f"aten::{name}": _elements(BATCH_NORM)
        for name in (
            "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
            "_batch_norm_with_update", "_batch_norm_with_update_functional",
            "_native_batch_norm_legit_functional", "_batch_norm_no_update", "cudnn_batch_norm", "miopen_batch_norm",
            "batch_norm",
        )
    },
    **{f"aten::{name}": _elements(GROUP_NORM) for name in ("native_group_norm", "native_layer_norm", "group_norm")},
}  # fmt: skip
"""Operations by kind from an operator's arguments and output, for operators whose kind needs saying.

Add one line here, or call ``register_operator``, to count a new operator.
"""


def register_operator(name: str, formula: Formula) -> None:
    """Say what an operator costs.

    Args:
        name: the operator's qualified name, for example ``"mylib::my_op"``.
        formula: called with the operator's arguments and ``out=``; returns operations by kind.

    Raises:
        SettingError: for a name without a namespace. When the operator runs, UnknownNameError for a kind that no
            convention knows, SettingError for an amount that is not a whole number.
    """
    _check_name(name)

    def checked(*arguments: Any, **keywords: Any) -> Mapping[str, int]:
        amounts = formula(*arguments, **keywords)
        for kind, amount in amounts.items():
            one_of(f"kind of operation for {name}", kind, KINDS)
            if type(amount) is not int or amount < 0:
                raise SettingError(f"{name}: {kind} (={amount!r}) must be a whole number, not negative")
        return amounts

    FORMULAS[name] = checked


def register_free(name: str, family: str = "registered") -> None:
    """Say that an operator costs nothing, for example ``register_free("mylib::shuffle")``.

    Raises:
        SettingError: for a name without a namespace.
    """
    _check_name(name)
    FREE[name.removeprefix("aten::")] = family


def _check_name(name: str) -> None:
    if "::" not in name:
        raise SettingError(f"operator (={name!r}) must be a qualified name such as 'mylib::my_op'")


Price = Callable[[tuple[Any, ...], Mapping[str, Any], Any, Any], "Mapping[str, int] | None"]
"""Operations by kind of one call: of its arguments, its keyword arguments, what it returned, and the innermost module
that says how its products count, or None. None for a call that cannot be counted after all."""


def _free(*_: Any) -> Mapping[str, int]:
    return {}


def price_of(func: Any) -> Price | None:
    """The price of an operator overload, which gives {} for a free one; None for an unknown one.

    The module of a call may name the kind of its matrix products (``operation_kind``), or make each element of an
    element-by-element product a MAC (``counts_products``).
    """
    packet = func._overloadpacket
    name: str = packet._qualified_op_name
    # tensors that an operator is given to write to are what it returns
    returned = frozenset(argument.name for argument in func._schema.arguments if argument.is_out)
    # what an operator does in place costs what it costs otherwise
    plain = name.removesuffix("_") if func._schema.is_mutable else name
    short = plain.removeprefix("aten::")
    if name in FORMULAS or plain in FORMULAS:
        formula = FORMULAS.get(name) or FORMULAS[plain]
        return lambda arguments, keywords, out, _: formula(*arguments, **_without(keywords, returned), out=out)
    default = ATTENTION if "attention" in name else LINEAR
    kind = AGGREGATION if name == "e4profile::aggregate" else CONVOLUTION if "conv" in name else None
    for products in (MATRIX_PRODUCTS, CONVOLUTIONS, ATTENTIONS):
        if short in products:
            return _products(products[short], kind, default, returned)
    if packet in flop_registry:
        return _half_the_flops(flop_registry[packet], kind, default, returned)
    if short == "mul":
        return _elementwise_product
    return _free if family_of(func) else None


def _without(keywords: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    return {name: value for name, value in keywords.items() if name not in names} if names else keywords


def _real_products(*values: Any) -> int:
    """How many real products one product is that has these arguments and results."""
    return 4 if any(isinstance(value, torch.Tensor) and value.is_complex() for value in values) else 1


def _products(macs: Callable[..., int], kind: str | None, default: str, returned: frozenset[str]) -> Price:
    def price(arguments: tuple[Any, ...], keywords: Mapping[str, Any], out: Any, scope: Any) -> Mapping[str, int]:
        amount = macs(*arguments, **_without(keywords, returned), out=out) * _real_products(*arguments, out)
        return {kind or getattr(scope, "operation_kind", None) or default: amount} if amount else {}

    return price


def _half_the_flops(formula: Callable[..., Any], kind: str | None, default: str, returned: frozenset[str]) -> Price:
    def price(
        arguments: tuple[Any, ...], keywords: Mapping[str, Any], out: Any, scope: Any
    ) -> Mapping[str, int] | None:
        flops = int(formula(*arguments, **_without(keywords, returned), out_val=out))
        macs, rest = divmod(flops * _real_products(*arguments, out), 2)
        return None if rest else {kind or getattr(scope, "operation_kind", None) or default: macs}

    return price


def _elementwise_product(arguments: Any, _: Any, out: Any, scope: Any) -> Mapping[str, int]:
    if not getattr(scope, "counts_products", False):
        return {}
    amount = math.prod(out.shape) * _real_products(*arguments, out)
    return {getattr(scope, "operation_kind", None) or AGGREGATION: amount}
