"""What an executed operator costs: counted by a formula, free by the list of ``counters.free``, or unknown."""

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
from e4profile.errors import SettingError, UnknownNameError
from e4profile.witnesses.counts.free import FREE

__all__ = ["FORMULAS", "FREE", "KINDS", "is_known", "operations", "register_free", "register_operator"]

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


def _deformable(_: torch.Tensor, weight: torch.Tensor, *__: Any, out: torch.Tensor, **___: Any) -> Mapping[str, int]:
    # weight (c_out, c_in / groups, k, k); reading between pixels is resampling, which is free
    return {CONVOLUTION: out.numel() * weight[0].numel()}


def _recurrent(features: torch.Tensor, *weights: Any, **_: Any) -> Mapping[str, int]:
    # features (time, B, c_in); weights of the input and of the state before, once per step and image
    return {LINEAR: features.numel() // features.shape[-1] * (weights[0].numel() + weights[1].numel())}


FORMULAS: dict[str, Formula] = {
    "e4profile::generate_aggregate": _generate_aggregate,
    "torchvision::deform_conv2d": _deformable,
    "aten::mkldnn_rnn_layer": _recurrent,
    **{
        f"aten::{name}": _elements(BATCH_NORM)
        for name in (
            "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
            "_batch_norm_with_update", "_batch_norm_no_update", "cudnn_batch_norm", "miopen_batch_norm",
            "batch_norm",
        )
    },
    **{f"aten::{name}": _elements(GROUP_NORM) for name in ("native_group_norm", "native_layer_norm", "group_norm")},
}  # fmt: skip
"""Operations by kind from an operator's arguments and output, for operators whose kind needs saying.

Add one line here, or call ``register_operator``, to count a new operator.
"""

_KINDS: dict[str, str] = {
    **dict.fromkeys(
        (
            "aten::convolution", "aten::_convolution", "aten::cudnn_convolution", "aten::mkldnn_convolution",
            "aten::convolution_overrideable", "aten::_slow_conv2d_forward",
        ),
        CONVOLUTION,
    ),
    "e4profile::aggregate": AGGREGATION,
}  # fmt: skip


def _attention_macs(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    # query (.., q, e), key (.., n, e), value (.., n, v)
    return math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _trilinear(first: torch.Tensor, weight: torch.Tensor, second: torch.Tensor, *expanded: Any, **_: Any) -> int:
    """Terms of the contraction of three tensors: every position of all dimensions, of ``expanded`` size 1 dropped.

    ``nn.Bilinear`` contracts weight (c_out, i, j) with the outer product of its inputs, which is made element by
    element: B * c_out * i * j.
    """
    shapes = []
    for tensor, dims in zip((first, weight, second), expanded, strict=False):
        sizes = list(tensor.shape)
        for dim in sorted(dims):
            sizes.insert(dim, 1)
        shapes.append(sizes)
    return math.prod(max(sizes) for sizes in zip(*shapes, strict=True))


def _distances(first: torch.Tensor, _: torch.Tensor, p: float, *__: Any, out: torch.Tensor, **___: Any) -> int:
    # a square of a difference is accumulated per coordinate; of other exponents nothing is a product
    return int(out.numel()) * int(first.shape[-1]) if p == 2 else 0


_PRODUCTS: dict[str, Callable[..., int]] = {
    "aten::dot": lambda first, *_, **__: int(first.numel()),
    "aten::vdot": lambda first, *_, **__: int(first.numel()),
    "aten::mv": lambda matrix, *_, **__: int(matrix.numel()),
    "aten::addmv": lambda _, matrix, *__, **___: int(matrix.numel()),
    "aten::addr": lambda *_, out, **__: int(out.numel()),
    "aten::_trilinear": _trilinear,
    "aten::_cdist_forward": _distances,
    # by a matrix product of points with two more coordinates, the squared norm and 1
    "aten::_euclidean_dist": lambda first, *_, out, **__: int(out.numel()) * (int(first.shape[-1]) + 2),
    "aten::_pdist_forward": lambda points, p=2, *_, out, **__: _distances(points, points, p, out=out),
    "aten::affine_grid_generator": lambda theta, *_, out, **__: int(out.numel()) * int(theta.shape[-1]),
    # each component is a difference of two products
    "aten::linalg_cross": lambda *_, out, **__: 2 * int(out.numel()),
    "aten::addbmm": lambda _, first, second, **__: int(first.numel()) * int(second.shape[-1]),
    "aten::_scaled_dot_product_flash_attention_for_cpu": lambda q, k, v, *_, **__: _attention_macs(q, k, v),
    "aten::_scaled_dot_product_fused_attention_overrideable": lambda q, k, v, *_, **__: _attention_macs(q, k, v),
}
"""MACs of products that PyTorch's own registry of flops does not have."""


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
            if kind not in KINDS:
                raise UnknownNameError(f"kind of operation for {name}", kind, KINDS)
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


def is_known(func: Any) -> bool:
    """Whether ``operations`` knows what an operator costs, or that it costs nothing."""
    packet = func._overloadpacket
    name: str = packet._qualified_op_name
    known = name in FORMULAS or name in _PRODUCTS or packet in flop_registry
    return known or name.removeprefix("aten::") in (*FREE, "mul", "mul_")


def operations(
    func: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any], out: Any, scope: Any
) -> Mapping[str, int] | None:
    """What one executed operator costs.

    Args:
        func: the operator overload that ran.
        arguments: its positional arguments.
        keywords: its keyword arguments.
        out: what it returned.
        scope: the innermost module that says how its products count, or None. ``scope.operation_kind``
            names the kind of its matrix products; ``scope.counts_products`` makes each element of an
            element-by-element product a MAC.

    Returns:
        Operations by kind; an empty mapping for a free operator; None for an unknown one.
    """
    packet = func._overloadpacket
    name: str = packet._qualified_op_name
    kind = getattr(scope, "operation_kind", None)
    if name in FORMULAS:
        return FORMULAS[name](*arguments, **keywords, out=out)
    default = ATTENTION if "attention" in name else LINEAR
    if name in _PRODUCTS:
        products = _PRODUCTS[name](*arguments, **keywords, out=out)
        return {kind or default: products} if products else {}
    if packet in flop_registry:
        flops = flop_registry[packet](*arguments, **keywords, out_val=out)
        macs, rest = divmod(int(flops), 2)
        return None if rest else {_KINDS.get(name) or kind or default: macs}
    short = name.removeprefix("aten::")
    if short in ("mul", "mul_") and getattr(scope, "counts_products", False):
        return {kind or AGGREGATION: math.prod(out.shape)}
    return {} if short in FREE else None
