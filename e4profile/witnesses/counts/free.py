"""Operators that cost nothing in any convention of this package, by family.

Free means that an operator moves, makes, compares or sums elements, or maps them one by one. The list is explicit so
that an operator nobody thought of is unknown, never zero. A name stands for its in-place form too.
"""

from __future__ import annotations

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
"""Free operators by name, ATen's without their namespace, with their family."""
