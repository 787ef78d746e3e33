"""What an executed operator costs: counted by a formula, free by this list, or unknown.

Free means that no convention of this package charges it: it moves, makes, compares or sums elements, or maps
them one by one. The list is explicit so that an operator nobody thought of is unknown, never zero.
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
from e4profile.errors import SettingError, UnknownNameError

KINDS = (*MAC_KINDS, *NORM_KINDS, *FILTER_KINDS)
"""What a registered operator may report."""

Formula = Callable[..., Mapping[str, int]]

_FREE: dict[str, str] = {
    "views": """
        alias as_strided detach diagonal expand flatten lift_fresh movedim narrow permute real select slice
        split split_with_sizes squeeze swapaxes t transpose unbind unflatten unfold unsafe_chunk unsafe_split
        unsafe_split_with_sizes unsqueeze view view_as_real
        _unsafe_view _reshape_alias _reshape_copy reshape view_as_complex""",
    "copies and creation": """
        _pin_memory _to_copy arange cat clone constant_pad_nd contiguous copy copy_ embedding empty empty_like
        empty_permuted empty_strided eye fill fill_ flip full full_like gather index index_put index_put_
        index_select lift linspace masked_fill masked_fill_ new_empty new_empty_strided new_full new_ones
        new_zeros ones ones_like pixel_shuffle pixel_unshuffle reflection_pad2d repeat repeat_interleave
        replication_pad2d roll rot90 scalar_tensor scatter slice_scatter select_scatter stack tril triu where
        zero_ zeros zeros_like im2col col2im""",
    "random numbers": "bernoulli bernoulli_ native_dropout normal_ rand rand_like randn randn_like uniform_",
    "element by element": """
        abs add add_ bitwise_and bitwise_not bitwise_or ceil clamp clamp_ clamp_max clamp_min cos div div_ elu eq
        erf exp floor floor_divide ge gelu gt hardsigmoid hardswish hardswish_ hardtanh hardtanh_ isfinite isnan
        le leaky_relu leaky_relu_ log log1p logical_and logical_not logical_or lt maximum minimum mish mul mul_
        ne neg pow prelu _prelu_kernel reciprocal relu relu_ remainder round rsqrt rsub sgn sigmoid sigmoid_ sign
        silu silu_ sin softplus sqrt square sub sub_ tanh tanh_ threshold true_divide""",
    "reductions and orderings": """
        all amax amin any argmax argmin argsort cumsum logsumexp max mean median min native_norm norm prod sort
        std std_mean sum topk var var_mean linalg_vector_norm""",
    "softmax": "_log_softmax _softmax _safe_softmax",
    "pooling and resampling": """
        _adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d max_pool2d
        max_pool2d_with_indices mean upsample_bilinear2d upsample_nearest2d grid_sampler_2d
        _upsample_bilinear2d_aa""",
    "bookkeeping": "_assert_async _local_scalar_dense equal is_same_size item sym_size",
}

FREE: dict[str, str] = {name: family for family, names in _FREE.items() for name in names.split()}
"""Free operators of ATen by name, with their family."""


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
    return {
        CONVOLUTION: math.prod(hidden.shape) * rows,
        AGGREGATION: positions * per_slice * rows if slices else 0,
    }


FORMULAS: dict[str, Formula] = {
    "e4profile::generate_aggregate": _generate_aggregate,
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
    if packet in flop_registry:
        flops = flop_registry[packet](*arguments, **keywords, out_val=out)
        macs, rest = divmod(int(flops), 2)
        if rest:
            return None
        default = ATTENTION if "attention" in name else LINEAR
        return {_KINDS.get(name) or kind or default: macs}
    short = name.removeprefix("aten::")
    if short in ("mul", "mul_") and getattr(scope, "counts_products", False):
        return {kind or AGGREGATION: math.prod(out.shape)}
    return {} if short in FREE else None
