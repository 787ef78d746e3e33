"""What an executed operator costs: counted by a formula, free in every convention of this package, or unknown.

Free means that an operator moves, makes, compares or sums elements, or maps them one by one. The list is explicit so
that an operator that is on none is unknown, never zero.
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


_FAMILIES: dict[str, str] = {
    "views": """
        _conj _neg_view _reshape_alias _reshape_copy _unsafe_view alias as_strided detach diagonal expand flatten imag
        lift_fresh movedim narrow permute real reshape select slice split split_with_sizes squeeze swapaxes t transpose
        unbind unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as_complex
        view_as_real""",
    "copies and creation": """
        _pin_memory _to_copy arange cat channel_shuffle clone col2im complex constant_pad_nd contiguous copy
        diag_embed embedding empty empty_like empty_permuted empty_strided eye fill flip full full_like gather im2col
        index index_copy index_fill index_put index_select lift linspace logspace masked_fill masked_scatter
        masked_select native_channel_shuffle new_empty new_empty_strided new_full new_ones new_zeros nonzero ones
        ones_like pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat
        repeat_interleave replication_pad1d replication_pad2d replication_pad3d resize roll rot90 scalar_tensor scatter
        select_scatter slice_scatter stack take tril tril_indices triu triu_indices where zero zeros zeros_like""",
    "random numbers": """
        bernoulli exponential native_dropout normal rand rand_like randint randint_like randn randn_like randperm
        uniform""",
    "element by element": """
        _prelu_kernel abs acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and bitwise_not
        bitwise_or bitwise_xor ceil celu clamp clamp_max clamp_min copysign cos cosh deg2rad digamma div elu eq erf
        erfc erfinv exp exp2 expm1 floor floor_divide fmod frac ge gelu glu gt hardshrink hardsigmoid hardswish
        hardtanh heaviside hypot isfinite isinf isnan le leaky_relu lerp lgamma log log10 log1p log2
        log_sigmoid_forward logaddexp logical_and logical_not logical_or logical_xor logit lt maximum minimum mish mul
        nan_to_num ne neg polar pow prelu rad2deg reciprocal relu remainder round rrelu_with_noise rsqrt rsub sgn
        sigmoid sign silu sin sinc sinh softplus softshrink sqrt square sub tan tanh threshold true_divide trunc
        xlogy""",
    "reductions and orderings": """
        _embedding_bag _embedding_bag_forward_only _weight_norm_interface all amax amin aminmax any argmax argmin
        argsort bincount bucketize count_nonzero cummax cummin cumprod cumsum histc index_add kthvalue
        linalg_vector_norm logcumsumexp logsumexp max median min mode nanmedian nansum native_norm norm prod renorm
        scatter_add scatter_reduce searchsorted segment_reduce sort std std_mean sum topk var var_mean
        torchvision::nms""",
    "losses": """
        _ctc_loss binary_cross_entropy binary_cross_entropy_with_logits huber_loss kl_div mse_loss multi_margin_loss
        multilabel_margin_loss_forward nll_loss nll_loss2d_forward nll_loss_forward smooth_l1_loss soft_margin_loss""",
    "softmax": "_log_softmax _softmax _safe_softmax",
    "pooling and resampling": """
        _adaptive_avg_pool2d _adaptive_avg_pool3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa
        _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d adaptive_avg_pool2d
        adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d avg_pool2d avg_pool3d fractional_max_pool2d
        fractional_max_pool3d grid_sampler_2d grid_sampler_3d max_pool2d max_pool2d_with_indices
        max_pool3d_with_indices max_unpool2d max_unpool3d mean upsample_bicubic2d upsample_bilinear2d upsample_linear1d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d torchvision::ps_roi_align
        torchvision::ps_roi_pool torchvision::roi_align torchvision::roi_pool""",
    "bookkeeping": "_assert_async _assert_scalar _local_scalar_dense equal is_same_size item sym_numel sym_size",
}

FREE: dict[str, str] = {
    form: family for family, names in _FAMILIES.items() for name in names.split() for form in (name, f"{name}_")
}
"""Free operators by name, ATen's without their namespace, with their family; each stands for its in-place form too."""


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
    if name in FORMULAS:
        formula = FORMULAS[name]
        return lambda arguments, keywords, out, _: formula(*arguments, **keywords, out=out)
    default = ATTENTION if "attention" in name else LINEAR
    if name in _PRODUCTS:
        return _products(_PRODUCTS[name], default)
    if packet in flop_registry:
        return _half_the_flops(flop_registry[packet], _KINDS.get(name), default)
    short = name.removeprefix("aten::")
    if short in ("mul", "mul_"):
        return _elementwise_product
    return _free if short in FREE else None


def _products(macs: Callable[..., int], default: str) -> Price:
    def price(arguments: tuple[Any, ...], keywords: Mapping[str, Any], out: Any, scope: Any) -> Mapping[str, int]:
        amount = macs(*arguments, **keywords, out=out)
        return {getattr(scope, "operation_kind", None) or default: amount} if amount else {}

    return price


def _half_the_flops(formula: Callable[..., Any], kind: str | None, default: str) -> Price:
    def price(
        arguments: tuple[Any, ...], keywords: Mapping[str, Any], out: Any, scope: Any
    ) -> Mapping[str, int] | None:
        macs, rest = divmod(int(formula(*arguments, **keywords, out_val=out)), 2)
        return None if rest else {kind or getattr(scope, "operation_kind", None) or default: macs}

    return price


def _elementwise_product(_: Any, __: Any, out: Any, scope: Any) -> Mapping[str, int]:
    if not getattr(scope, "counts_products", False):
        return {}
    return {getattr(scope, "operation_kind", None) or AGGREGATION: math.prod(out.shape)}
