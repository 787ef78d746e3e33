"""Every operator of this PyTorch is a product, free, or on a short list of unknown ones; no product is free."""

from __future__ import annotations

import re

import torch

from e4profile.witnesses.counts.contractions import ATTENTIONS, CONVOLUTIONS, MATRIX_PRODUCTS
from e4profile.witnesses.counts.free import family_of
from e4profile.witnesses.counts.ledger import price_of

PRODUCTS = re.compile(
    r"(^|_)mm(_|$)|addmm|bmm|gemm|matmul|addmv|^mv$|dot$|conv|linear|linalg|fft_[cr]2|attention|rnn|lstm|gru|cholesky|solve"
    r"|geqrf|ormqr|trilinear$|cdist|pdist|euclidean|affine_grid|matrix_exp|combination"
)
"""Names of operators that multiply and add along an axis."""

NAMED_LIKE_ONE = re.compile(
    r"^_?upsample|_linalg_check_errors|linalg_vector_norm|linalg__powsum|^_convert_|_search$|reorder_|_flatten_weight|_cell"
)
"""Names of operators that move, resample or map elements one by one, and multiply no tensors along an axis."""

UNKNOWN = set(
    """_cholesky_solve_helper _compute_linear_combination _cslt_compress _cslt_sparse_mm _cudnn_attention_backward
    _cudnn_attention_forward _cudnn_rnn_backward _flash_attention_forward_no_dropout_inplace _foobar _lstm_mps
    _mps_convolution _mps_convolution_transpose _native_multi_head_attention _scaled_dot_product_attention_math_for_mps
    _slow_conv2d_backward _sparse_mm_reduce_impl_backward _sparse_semi_structured_addmm _sparse_semi_structured_apply
    _sparse_semi_structured_apply_dense _sparse_semi_structured_linear _sparse_semi_structured_mm
    _sparse_semi_structured_tile _spsolve _transformer_encoder_layer_fwd _triton_multi_head_attention
    _triton_scaled_dot_attention batch_norm_elemt convolution_backward_overrideable cudnn_affine_grid_generator
    cudnn_affine_grid_generator_backward linalg_matrix_exp lstm_mps_backward miopen_rnn_backward
    mkldnn_linear_backward mkldnn_linear_backward_input mkldnn_linear_backward_weights mps_convolution_backward
    mps_convolution_transpose_backward quantized_batch_norm""".split()  # noqa: SIM905
)
"""Inner operators of other devices, tests, and products whose size their arguments do not say."""


def operators() -> dict[str, list[torch._ops.OpOverload]]:
    """The overloads that reach the dispatcher whole, of every operator of ATen, by name."""
    names = {
        name.split(".")[0].removeprefix("aten::") for name in torch._C._dispatch_get_all_op_names() if "aten::" in name
    }
    found: dict[str, list[torch._ops.OpOverload]] = {}
    for name in sorted(names):
        packet = getattr(torch.ops.aten, name)
        for overload in (getattr(packet, one) for one in packet.overloads()):
            schema = str(overload._schema)
            if (
                torch._C._dispatch_has_kernel(overload.name())
                and not overload._can_decompose()
                and "Dimname" not in schema
            ):
                found.setdefault(name, []).append(overload)
    return found


def test_what_is_unknown_is_a_short_list() -> None:
    every = operators()
    unknown = sorted(name for name, overloads in every.items() if any(price_of(one) is None for one in overloads))
    print(f"PyTorch {torch.__version__}: {len(unknown)} of {len(every)} operators are unknown: {', '.join(unknown)}")  # noqa: T201
    assert len(every) > 900
    assert [name for name in unknown if name not in UNKNOWN and not name.startswith("_test_")] == []


def test_no_product_is_free() -> None:
    every = operators()
    products = {name for name in every if PRODUCTS.search(name.removesuffix("_")) and not NAMED_LIKE_ONE.search(name)}
    assert len(products) > 90
    assert sorted({name for name in products for one in every[name] if family_of(one) if name not in _known()}) == []


def _known() -> set[str]:
    return {form for name in (*MATRIX_PRODUCTS, *CONVOLUTIONS, *ATTENTIONS) for form in (name, f"{name}_")}
