"""The MACs of PyTorch's products: matrix products, convolutions, attention, transforms and factorisations.

A product of sparse tensors costs its non-zeros, one of nested tensors the sum of its parts. Amounts are of the numbers
that the tensors hold; ``e4profile.witnesses.counts.ledger`` charges four times as much where they are complex.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Macs = Callable[..., int]
"""MACs of one call: of the operator's arguments, and ``out=``, what it returned."""


def _is_sparse(tensor: Tensor) -> bool:
    return tensor.layout is not torch.strided and not tensor.is_nested


def _non_zeros(tensor: Tensor) -> int:
    """The stored values of a sparse tensor, with the zeros of its blocks."""
    values = tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()
    return int(values.numel())


def _shapes(tensor: Tensor, count: int) -> list[Sequence[int]]:
    """The shapes of a nested tensor's parts; for a plain tensor, that of one of its ``count`` matrices."""
    if tensor.is_nested:
        return [tuple(part.shape) for part in tensor.unbind()]
    return [tuple(tensor.shape[-2:])] * count


def matrix_product(first: Tensor, second: Tensor, out: Any) -> int:
    """MACs of ``first @ second``, of any layout."""
    if first.is_nested or second.is_nested:
        parts = len((first if first.is_nested else second).unbind())
        pairs = zip(_shapes(first, parts), _shapes(second, parts), strict=True)
        return sum(math.prod(left) * right[-1] for left, right in pairs)
    if _is_sparse(first) and _is_sparse(second):
        # a non-zero in column k meets those in row k
        columns, rows = (
            torch.bincount(factor.to_sparse_coo().coalesce().indices()[axis], minlength=second.shape[0])
            for factor, axis in ((first, 1), (second, 0))
        )
        return int((columns * rows).sum())
    if _is_sparse(first):
        return _non_zeros(first) * (second.shape[-1] if second.dim() > 1 else 1)
    if _is_sparse(second):
        return _non_zeros(second) * (first.shape[-2] if first.dim() > 1 else 1)
    return int(out.numel()) * int(first.shape[-1])


def _matrices(position: int) -> Macs:
    """A product of the arguments at this position and the next."""
    return lambda *arguments, out, **_: matrix_product(arguments[position], arguments[position + 1], out)


def _grouped(first: Tensor, second: Tensor, *_: Any, **__: Any) -> int:
    # (t, k) @ (g, k, n) in groups of rows, (m, t) @ (t, n) of what is summed, (g, m, k) @ (k, t) of columns
    matrix = first[0] if first.dim() > second.dim() else first
    return matrix.numel() * second.shape[-1]


def _linear(features: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    # weight (c_out, c_in); features may be nested
    if _is_sparse(weight):
        return _non_zeros(weight) * (features.numel() // features.shape[-1])
    return features.numel() * weight.shape[0]


def _packed_linear(features: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    return out.numel() * features.shape[-1]


def _packed_convolution(_: Tensor, packed: Any, *__: Any, out: Tensor, **___: Any) -> int:
    return out.numel() * int(packed.unpack()[0][0].numel())


def _convolution(_: Tensor, weight: Tensor, *__: Any, out: Tensor, **___: Any) -> int:
    # weight (c_out, c_in / groups, ...)
    return out.numel() * math.prod(weight.shape[1:])


def _transposed_convolution(features: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    # weight (c_in, c_out / groups, ...)
    return features.numel() * math.prod(weight.shape[1:])


def _convolution_backward(gradient: Tensor, features: Tensor, weight: Tensor, *rest: Any, **_: Any) -> int:
    transposed, wanted = rest[4], rest[-1]
    # every element of the side with fewer positions meets the weights of its group once
    positions = features if transposed else gradient
    forward = positions.numel() * math.prod(weight.shape[1:])
    return forward * (bool(wanted[0]) + bool(wanted[1]))


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    # query (.., q, e), key (.., n, e), value (.., n, v)
    return math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _attention_backward(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> int:
    # the scores again, then the gradients of query and key over e, of value and probabilities over v
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return pairs * (3 * query.shape[-1] + 2 * value.shape[-1])


def _trilinear(first: Tensor, weight: Tensor, second: Tensor, *expanded: Any, **_: Any) -> int:
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


def _distances(first: Tensor, _: Tensor, p: float, *__: Any, out: Tensor, **___: Any) -> int:
    # a square of a difference is accumulated per coordinate; of other exponents nothing is a product
    return int(out.numel()) * int(first.shape[-1]) if p == 2 else 0


def _bags(weight: Tensor, indices: Tensor, *rest: Any, per_sample_weights: Any = None, **_: Any) -> int:
    # rows are summed for nothing; times a weight each, they are accumulated products
    weights = rest[4] if len(rest) > 4 else per_sample_weights
    return 0 if weights is None else indices.numel() * weight.shape[-1]


def _transform(features: Tensor, dims: Sequence[int], *_: Any, out: Tensor, **__: Any) -> int:
    """Complex MACs: N log2 N for N points that are transformed together, half of them from or to real numbers."""
    whole = features if features.numel() >= out.numel() else out
    points = math.prod(whole.shape[dim] for dim in dims)
    if not points:
        return 0
    # between real and complex numbers, half the points are independent
    each = 1 if features.is_complex() and out.is_complex() else 2
    return whole.numel() // points * math.ceil(points * math.log2(points) / each)


def _factored(cost: Callable[[int, int, int], float]) -> Macs:
    """MACs of a factorisation by its leading terms: of rows, columns, and columns of a right side.

    Half the operations of Golub and Van Loan, Matrix Computations, 4th edition, rounded up.
    """

    def macs(matrix: Tensor, *rest: Any, **_: Any) -> int:
        *batch, rows, columns = matrix.shape
        right = next((value for value in rest if isinstance(value, Tensor) and value.is_floating_point()), None)
        sides = 1 if right is None or right.dim() < matrix.dim() else right.shape[-1]
        return math.prod(batch) * math.ceil(cost(rows, columns, sides))

    return macs


def _of_factors(cost: Callable[[int, int], float]) -> Macs:
    """MACs of a solution by factors: of their rows, and the elements of the right side in all."""

    def macs(*arguments: Any, out: Any, **_: Any) -> int:
        solution = out[0] if isinstance(out, tuple) else out
        sizes = [value.shape[-1] for value in arguments if isinstance(value, Tensor) and value.is_floating_point()]
        order = max(size for size in sizes if size in solution.shape[-2:])
        return math.ceil(cost(order, solution.numel()))

    return macs


def _lu(rows: int, columns: int, _: int) -> float:
    less = min(rows, columns)
    return less * less * (max(rows, columns) - less / 3) / 2


def _householder(rows: int, columns: int, _: int) -> float:
    less = min(rows, columns)
    return less * less * (max(rows, columns) - less / 3)


def _singular_values(rows: int, columns: int, _: int) -> float:
    less, more = sorted((rows, columns))
    return 2 * more * more * less + 4 * more * less * less + 9 * less**3 / 2


def _recurrent(features: Tensor, *weights: Any, **_: Any) -> int:
    # features (time, B, c_in); weights of the input and of the state before, once per step and image
    return features.numel() // features.shape[-1] * int(weights[0].numel() + weights[1].numel())


def _recurrent_layers(features: Tensor, weights: Sequence[Tensor], *_: Any, **__: Any) -> int:
    matrices = sum(weight.numel() for weight in weights if weight.dim() == 2)
    return features.numel() // features.shape[-1] * matrices


def _packed_recurrent(gates: int) -> Macs:
    def macs(features: Tensor, *rest: Any, **_: Any) -> int:
        # (batch_sizes,) state, packed weights, has_biases, layers, dropout, train, bidirectional; state (.., hidden)
        at = next(place for place, value in enumerate(rest) if isinstance(value, bool))
        state, layers, directions = rest[at - 2], rest[at + 1], 1 + rest[at + 4]
        hidden, channels = _hidden(state), int(features.shape[-1])
        further = (layers - 1) * directions * (directions * hidden + hidden)
        matrices = gates * hidden * (directions * (channels + hidden) + further)
        return int(features.numel() // channels * matrices)

    return macs


def _packed_cell(gates: int) -> Macs:
    def macs(features: Tensor, state: Any, *_: Any, **__: Any) -> int:
        return int(features.shape[0]) * gates * _hidden(state) * (int(features.shape[-1]) + _hidden(state))

    return macs


def _hidden(state: Tensor | Sequence[Tensor]) -> int:
    return int((state if isinstance(state, Tensor) else state[0]).shape[-1])


def _each(names: str, macs: Macs) -> dict[str, Macs]:
    return dict.fromkeys(names.split(), macs)


def _reflected(reflectors: Tensor, tau: Tensor, other: Tensor, *_: Any, **__: Any) -> int:
    """A Householder reflection for each of k columns, which multiplies and adds twice."""
    m, k = reflectors.shape[-2], tau.shape[-1]
    return int(other.numel() // m * k * (2 * m - k))


MATRIX_PRODUCTS: dict[str, Macs] = {
    **_each(
        """mm bmm mv dot vdot matmul _int_mm _scaled_mm _scaled_mm_v2 _sparse_sparse_matmul _sparse_mm_reduce_impl
        hspmm""",
        _matrices(0),
    ),
    **_each("addmm baddbmm addmv _addmm_activation _sparse_addmm sspaddmm", _matrices(1)),
    **_each("_grouped_mm _scaled_grouped_mm _scaled_grouped_mm_v2", _grouped),
    **_each(
        """_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu _weight_int4pack_mm_with_scales_and_zeros
        _dyn_quant_matmul_4bit _mixed_dtypes_linear mkldnn_linear mkl::_mkl_linear mkldnn::_linear_pointwise
        quantized::linear quantized::linear_relu quantized::linear_dynamic quantized::linear_relu_dynamic
        quantized::linear_dynamic_fp16 quantized::linear_relu_dynamic_fp16 quantized::linear_leaky_relu
        quantized::linear_tanh quantized::linear_dynamic_fp16_unpacked_weight""",
        _packed_linear,
    ),
    "linear": _linear,
    "linear_backward": lambda _, gradient, weight, wanted, **__: (
        gradient.numel() * weight.shape[1] * (bool(wanted[0]) + bool(wanted[1]))
    ),
    "matmul_backward": lambda gradient, first, second, wanted, **_: (
        matrix_product(first, second, gradient) * (bool(wanted[0]) + bool(wanted[1]))
    ),
    "quantized::matmul": _matrices(0),
    "_foreach_mm": lambda firsts, seconds, out, **_: sum(map(matrix_product, firsts, seconds, out)),
    "addbmm": lambda _, first, second, **__: int(first.numel()) * int(second.shape[-1]),
    "addr": lambda *_, out, **__: int(out.numel()),
    "sparse_sampled_addmm": lambda kept, first, *_, **__: _non_zeros(kept) * int(first.shape[-1]),
    "_trilinear": _trilinear,
    "_cdist_forward": _distances,
    "_cdist_backward": lambda gradient, first, _, p, *__, **___: _distances(first, first, p, out=gradient),
    # by a matrix product of points with two more coordinates, the squared norm and 1
    "_euclidean_dist": lambda first, *_, out, **__: int(out.numel()) * (int(first.shape[-1]) + 2),
    "_pdist_forward": lambda points, p=2, *_, out, **__: _distances(points, points, p, out=out),
    "_pdist_backward": lambda gradient, points, p, *_, **__: _distances(points, points, p, out=gradient),
    "affine_grid_generator": lambda theta, *_, out, **__: int(out.numel()) * int(theta.shape[-1]),
    # each component is a difference of two products
    "linalg_cross": lambda *_, out, **__: 2 * int(out.numel()),
    **_each("_embedding_bag _embedding_bag_forward_only", _bags),
    "_embedding_bag_backward": lambda gradient, indices, *rest, **_: _bags(gradient, indices, *rest[4:]),
    "_embedding_bag_dense_backward": lambda gradient, indices, *rest, **_: _bags(gradient, indices, *rest[2:]),
    "_embedding_bag_per_sample_weights_backward": lambda gradient, _, indices, *__, **___: (
        int(indices.numel()) * int(gradient.shape[-1])
    ),
    **_each("_fft_c2c _fft_r2c _fft_c2r", _transform),
    "mkldnn_rnn_layer": _recurrent,
    "mkldnn_rnn_layer_backward": lambda *arguments, **_: 2 * _recurrent(*arguments),
    "_cudnn_rnn": _recurrent_layers,
    "miopen_rnn": _recurrent_layers,
    "quantized_lstm": _packed_recurrent(4),
    "quantized_gru": _packed_recurrent(3),
    "quantized::quantized_lstm_cell_dynamic": _packed_cell(4),
    "quantized::quantized_gru_cell_dynamic": _packed_cell(3),
    **_each("quantized::quantized_rnn_relu_cell_dynamic quantized::quantized_rnn_tanh_cell_dynamic", _packed_cell(1)),
    "linalg_cholesky_ex": _factored(lambda n, *_: n**3 / 6),
    "cholesky": _factored(lambda n, *_: n**3 / 6),
    "cholesky_inverse": _factored(lambda n, *_: n**3 / 3),
    "linalg_ldl_factor_ex": _factored(lambda n, *_: n**3 / 6),
    **_each("linalg_lu linalg_lu_factor_ex _linalg_det _linalg_slogdet", _factored(_lu)),
    "linalg_inv_ex": _factored(lambda n, *_: n**3),
    "_linalg_solve_ex": _factored(lambda n, _, k: n**3 / 3 + n * n * k),
    "linalg_qr": _factored(lambda m, n, _: 2 * _householder(m, n, 0)),
    "geqrf": _factored(_householder),
    "linalg_householder_product": _factored(_householder),
    "ormqr": _reflected,
    "linalg_lstsq": _factored(lambda m, n, k: _householder(m, n, k) + (2 * m * n - n * n / 2) * k),
    # iterations: as many as Golub and Van Loan find usual
    "_linalg_eigh": _factored(lambda n, *_: 9 * n**3 / 2),
    **_each("_linalg_eigvals linalg_eigvals", _factored(lambda n, *_: 5 * n**3)),
    "linalg_eig": _factored(lambda n, *_: 25 * n**3 / 2),
    "_linalg_svd": _factored(_singular_values),
    "linalg_pinv": _factored(lambda m, n, k: _singular_values(m, n, k) + m * n * min(m, n)),
    **_each("linalg_solve_triangular triangular_solve", _of_factors(lambda n, size: n * size / 2)),
    **_each("linalg_lu_solve cholesky_solve linalg_ldl_solve", _of_factors(lambda n, size: n * size)),
}
"""Products that are linear maps or are charged as such, by name, ATen's without their namespace."""

_ONE_ATTENTION = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_fused_attention_overrideable")

ATTENTIONS: dict[str, Macs] = {
    **dict.fromkeys(_ONE_ATTENTION, _attention),
    **{f"{name}_backward": _attention_backward for name in _ONE_ATTENTION},
}
"""Attention as one operator, in the same form."""

CONVOLUTIONS: dict[str, Macs] = {
    **_each(
        """mkldnn_convolution cudnn_convolution cudnn_convolution_relu cudnn_convolution_add_relu miopen_convolution
        miopen_convolution_relu miopen_convolution_add_relu miopen_depthwise_convolution _conv_depthwise2d
        conv_depthwise3d slow_conv_dilated2d slow_conv_dilated3d _slow_conv2d_forward slow_conv3d_forward
        _nnpack_spatial_convolution mkldnn::_convolution_pointwise mkldnn::_convolution_pointwise_
        torchvision::deform_conv2d""",
        _convolution,
    ),
    **_each(
        """slow_conv_transpose2d slow_conv_transpose3d cudnn_convolution_transpose miopen_convolution_transpose""",
        _transposed_convolution,
    ),
    **_each(
        """quantized::conv1d quantized::conv1d_relu quantized::conv2d quantized::conv2d_relu quantized::conv2d_add
        quantized::conv2d_add_relu quantized::conv3d quantized::conv3d_relu quantized::conv1d_dynamic
        quantized::conv2d_dynamic quantized::conv3d_dynamic""",
        _packed_convolution,
    ),
    # weight (k, c_in, c_out)
    "conv_tbc": lambda _, weight, *__, out, **___: int(out.numel()) * math.prod(weight.shape[:2]),
    "convolution_backward": _convolution_backward,
}
"""Convolutions that PyTorch's own registry of FLOPs does not have, or has wrong, in the same form."""
