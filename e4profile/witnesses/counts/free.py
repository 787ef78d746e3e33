"""Operators that cost nothing in any convention: what PyTorch's registry says is one, and a list of the rest.

Free means that an operator moves, makes, compares or sums elements, or maps them one by one. PyTorch tags operators
that map elements one by one, reduce them, or copy a view, and its schemas say which ones look at memory or take no
tensor. An operator that is made from a free one (in place, over a list, as its gradient) is free too. The others are
listed, so that an operator that is on no list is unknown, never zero.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

_FAMILIES: dict[str, str] = {
    "views": """
        _conj _neg_view _reshape_alias _reshape_copy _unsafe_view alias as_strided detach diagonal expand flatten imag
        lift_fresh movedim narrow permute real reshape select slice split split_with_sizes squeeze swapaxes t transpose
        unbind unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as_complex
        view_as_real""",
    "copies and creation": """
        _chunk_cat _copy_from _copy_from_and_resize _cudnn_rnn_flatten_weight _efficientzerotensor
        _index_put_impl _lazy_clone _mkldnn_reshape _mkldnn_transpose _new_zeros_with_same_feature_meta
        _pack_padded_sequence _pin_memory _resize_output _stack _to_copy _unsafe_index _unsafe_index_put
        _unsafe_masked_index _unsafe_masked_index_put_accumulate arange as_strided_scatter bartlett_window
        blackman_window block_diag cat channel_shuffle clone col2im complex constant_pad_nd contiguous copy
        diag_embed diagonal_scatter embedding empty empty_like empty_permuted empty_strided expand_copy eye
        fft_fftfreq fft_rfftfreq fill flip from_file full full_like gather hamming_window hann_window im2col
        index index_copy index_fill index_put index_select kaiser_window lift lift_fresh_copy linspace
        logspace masked_fill masked_scatter masked_scatter_backward masked_select mkldnn_reorder_conv2d_weight
        mkldnn_reorder_conv3d_weight native_channel_shuffle new_empty new_empty_strided new_full new_ones
        new_zeros nonzero nonzero_static ones ones_like pixel_shuffle pixel_unshuffle put range record_stream
        reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d
        replication_pad2d replication_pad3d resize resize_as roll rot90 scalar_tensor scatter select_scatter
        set slice_inverse slice_scatter stack take to_mkldnn lu_unpack tril tril_indices triu triu_indices where zero
        zeros zeros_like""",
    "random numbers": """
        _dirichlet_grad _fused_dropout _philox_key_fold_in _philox_key_split _philox_normal _philox_uniform
        _sample_dirichlet _standard_gamma _standard_gamma_grad bernoulli binomial cauchy exponential geometric
        log_normal multinomial native_dropout normal normal_functional poisson rand rand_like randint
        randint_like randn randn_like random randperm uniform""",
    "element by element": """
        __and__ __iand__ __ilshift__ __ior__ __irshift__ __ixor__ __lshift__ __or__ __rshift__ __xor__
        _add_relu _amp_foreach_non_finite_check_and_unscale _amp_update_scale _conj_physical _fused_adagrad
        _fused_adam _fused_adamw _fused_sgd _masked_scale _prelu_kernel _thnn_fused_gru_cell
        _thnn_fused_gru_cell_backward _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl
        _transform_bias_rescale_qkv abs acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh
        batch_norm_backward_elemt batch_norm_update_stats bitwise_and bitwise_left_shift bitwise_not
        bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp clamp_max clamp_min conj_physical copysign
        cos cosh deg2rad digamma div elu eq erf erfc erfinv exp exp2 expm1 floor floor_divide fmax fmin fmod
        frac frexp gcd ge gelu glu glu_backward_jvp glu_jvp gt hardshrink hardsigmoid hardswish hardtanh
        heaviside hypot i0 igamma igammac isfinite isin isinf isnan lcm ldexp le leaky_relu lerp lgamma log
        log10 log1p log2 log_sigmoid_forward logaddexp logaddexp2 logical_and logical_not logical_or
        logical_xor logit lt maximum minimum mish mul mvlgamma nan_to_num ne neg nextafter polar polygamma pow
        prelu rad2deg reciprocal relu remainder round rrelu_with_noise rrelu_with_noise_functional rsqrt rsub
        sgn sigmoid sign signbit silu sin sinc sinh softplus softshrink sqrt square sub tan tanh threshold
        true_divide trunc xlogy""",
    "reductions and orderings": """
        _aminmax _cummax_helper _cummin_helper _foreach_powsum _histogramdd_bin_edges
        _histogramdd_from_bin_cts _histogramdd_from_bin_tensors _is_all_true _is_any_true _logcumsumexp
        _segment_reduce_backward _unique _unique2 _weight_norm_interface all allclose amax amin aminmax any
        argmax argmin argsort batch_norm_backward_reduce batch_norm_gather_stats
        batch_norm_gather_stats_with_counts batch_norm_stats bincount bucketize count_nonzero cummax cummin
        cumprod cumsum dist embedding_renorm hash_tensor histc histogram index_add index_reduce kthvalue
        linalg__powsum linalg_vector_norm logcumsumexp logsumexp max median min mode nanmedian nansum
        native_norm norm prod renorm scatter_add scatter_reduce searchsorted segment_reduce sort std std_mean
        sum topk torchvision::nms trace unique_consecutive unique_dim unique_dim_consecutive var var_mean""",
    "losses": """
        _ctc_loss _cudnn_ctc_loss binary_cross_entropy binary_cross_entropy_with_logits huber_loss kl_div
        miopen_ctc_loss mse_loss multi_margin_loss multilabel_margin_loss multilabel_margin_loss_forward
        nll_loss nll_loss2d nll_loss2d_forward nll_loss_forward smooth_l1_loss soft_margin_loss""",
    "softmax": """
        _log_softmax _log_softmax_backward_data log_softmax softmax _masked_softmax _masked_softmax_backward
        _nested_tensor_softmax_with_shape _safe_softmax _softmax _softmax_backward_data _sparse_log_softmax
        _sparse_log_softmax_backward_data _sparse_softmax _sparse_softmax_backward_data""",
    "pooling and resampling": """
        _adaptive_avg_pool2d _adaptive_avg_pool3d _grid_sampler_2d_cpu_fallback _upsample_bicubic2d_aa
        _upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
        _upsample_nearest_exact3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d cudnn_grid_sampler
        fractional_max_pool2d fractional_max_pool3d grid_sampler_2d grid_sampler_3d max_pool2d
        max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d mean
        mkldnn_adaptive_avg_pool2d mkldnn_max_pool2d mkldnn_max_pool3d quantized_max_pool1d
        quantized_max_pool2d quantized_max_pool3d torchvision::ps_roi_align torchvision::ps_roi_pool
        torchvision::roi_align torchvision::roi_pool upsample_bicubic2d upsample_bilinear2d upsample_linear1d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d""",
    "sparse and nested layouts": """
        _coalesce _coalesced _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo _indices_copy
        _jagged_to_padded_dense_forward _nested_compute_contiguous_strides_offsets _nested_from_padded
        _nested_from_padded_and_nested_example _nested_from_padded_tensor _nested_get_jagged_dummy
        _nested_get_lengths _nested_get_max_seqlen _nested_get_min_seqlen _nested_get_offsets
        _nested_get_ragged_idx _nested_get_values _nested_select_backward _nested_sum_backward
        _nested_tensor_from_mask _nested_tensor_from_tensor_list _nested_tensor_size
        _nested_tensor_storage_offsets _nested_tensor_strides _padded_dense_to_jagged_forward
        _sparse_broadcast_to _sparse_compressed_tensor_with_dims _sparse_coo_tensor_with_dims
        _sparse_coo_tensor_with_dims_and_tensors _sparse_csr_prod _sparse_csr_sum _sparse_mask_projection
        _sparse_sum _sparse_sum_backward _spdiags _to_dense _to_sparse _to_sparse_bsc _to_sparse_bsr
        _to_sparse_csc _to_sparse_csr _to_sparse_semi_structured _values_copy copy_sparse_to_sparse
        resize_as_sparse sparse_compressed_tensor sparse_coo_tensor sparse_mask sparse_resize
        sparse_resize_and_clear to_padded_tensor""",
    "quantization": """
        _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu _dyn_quant_pack_4bit_weight
        _empty_affine_quantized _empty_per_channel_affine_quantized
        _fake_quantize_learnable_per_channel_affine _fake_quantize_learnable_per_channel_affine_backward
        _fake_quantize_learnable_per_tensor_affine _fake_quantize_learnable_per_tensor_affine_backward
        _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fused_moving_avg_obs_fq_helper
        _fused_moving_avg_obs_fq_helper_functional _make_per_channel_quantized_tensor
        _make_per_tensor_quantized_tensor dequantize empty_quantized
        fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask int_repr
        q_per_channel_scales q_per_channel_zero_points quantize_per_channel quantize_per_tensor
        quantize_per_tensor_dynamic quantized::add quantized::add_relu quantized::add_scalar
        quantized::add_scalar_relu quantized::cat quantized::cat_relu quantized::celu quantized::clamp
        quantized::conv1d_prepack quantized::conv1d_unpack quantized::conv2d_prepack quantized::conv2d_unpack
        quantized::conv3d_prepack quantized::conv3d_unpack quantized::dropout quantized::elu
        quantized::embedding_4bit quantized::embedding_byte quantized::hardswish quantized::leaky_relu
        quantized::linear_prepack quantized::linear_prepack_fp16 quantized::linear_unpack
        quantized::max_pool1d quantized::max_pool2d quantized::mul quantized::mul_relu quantized::mul_scalar
        quantized::mul_scalar_relu quantized::prelu quantized::relu6 quantized::sigmoid quantized::softmax
        quantized::threshold""",
    "bookkeeping": """
        _assert_async _assert_scalar _functional_assert_async _functional_assert_scalar
        _functional_sym_constrain_range _functional_sym_constrain_range_for_size _local_scalar_dense
        _make_dep_token equal is_same_size item sym_numel sym_size""",
}

FREE: dict[str, str] = {
    form: family for family, names in _FAMILIES.items() for name in names.split() for form in (name, f"{name}_")
}
"""Free operators by name, ATen's without their namespace, with their family; each stands for its in-place form too."""


_BY_TAG = {
    "pointwise": "element by element",
    "reduction": "reductions and orderings",
    "view_copy": "views",
    "inplace_view": "views",
}

_BY_NAMESPACE = {
    "profiler": "bookkeeping",
    "c10d": "communication",
    "_c10d_functional": "communication",
    "_c10d_functional_autograd": "communication",
}

_NORMS = ("native_batch_norm", "native_layer_norm", "native_group_norm", "batch_norm", "cudnn_batch_norm",
          "miopen_batch_norm", "_fused_rms_norm")  # fmt: skip


@functools.cache
def _by_registry(func: Any) -> str | None:
    """The family of an overload by PyTorch's registry; None where it does not show that it is free."""
    namespace, _, name = func._schema.name.partition("::")
    if namespace not in ("aten", "prims"):
        return _BY_NAMESPACE.get(namespace)
    tags = {str(tag).rpartition(".")[2] for tag in func.tags}
    by_tag = next((family for tag, family in _BY_TAG.items() if tag in tags), None)
    found = by_tag or _by_schema(func._schema, seeded="nondeterministic_seeded" in tags) or _by_origin(name)
    if found is None and any(argument.is_out for argument in func._schema.arguments):
        # the overloads that return a tensor of their own have the tags
        packet = func._overloadpacket
        own = (getattr(packet, name) for name in packet.overloads())
        made = (one for one in own if not any(argument.is_out for argument in one._schema.arguments))
        return next(filter(None, map(_by_registry, made)), None)
    return found


def _by_schema(schema: Any, *, seeded: bool) -> str | None:
    given = [argument for argument in schema.arguments if "Tensor" in str(argument.type) and not argument.is_out]
    if any(one.alias_info is not None and not one.alias_info.is_write for one in schema.returns):
        return "views"
    if not given:
        return "copies and creation"
    if seeded and len(given) == 1:
        return "random numbers"
    looks = not schema.is_mutable and not any("Tensor" in str(one.type) for one in schema.returns)
    return "bookkeeping" if looks else None


def _by_origin(name: str) -> str | None:
    """The family of the free operator that one is made from; None where there is none."""
    for origin in (
        name.removesuffix("_"), name.removeprefix("_foreach_"), name.removesuffix("_copy"),
        name.removesuffix("_functional"), name.removesuffix("_scatter"),
    ):  # fmt: skip
        if origin != name and (family := _family_of_name(origin)):
            return family
    origin = name.removesuffix("_backward").removesuffix("_dense")
    if origin != name:
        if origin in _NORMS:
            return "element by element"
        return _family_of_name(origin) or _family_of_name(f"{origin}_forward")
    return None


def _family_of_name(name: str) -> str | None:
    packet = getattr(torch.ops.aten, name, None)
    return FREE.get(name) or (None if packet is None else _by_registry(getattr(packet, packet.overloads()[0])))


def family_of(func: Any) -> str | None:
    """The family of a free operator overload; None for one that is not known to be free."""
    name = func._schema.name
    short = name.removeprefix("aten::").removeprefix("prims::")
    return FREE.get(short) or _by_registry(func)
