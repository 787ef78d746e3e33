"""The storages of a separable group convolution, factored or multiplied out into one filter bank."""

from __future__ import annotations

from e4profile.layers.peak import BIAS_ROWS, Step, Timeline, bias_gradient, bias_sum, expanded_bias, gathered, several
from e4profile.symbols import A, B, c_in, c_out, c_spatial, h, h_out, has_bias, is_dense, k, w, w_out

_FACTORED = 1 - is_dense
# a separate stencil per input field: with one input field both kinds are one
_BY_INPUT = several(c_spatial)

# where a permutation moves more than one element past more than one, PyTorch copies
_POINTWISE_COPY = _FACTORED * (_BY_INPUT * several(c_out) + (1 - _BY_INPUT) * several(c_in) * several(A))
_POINTWISE_COPY_BACK = _FACTORED * (1 - _BY_INPUT) * several(c_in) * several(A)
_SPATIAL_COPY = _FACTORED * _BY_INPUT * several(A) * several(c_out)
_SPATIAL_COPY_BACK = _FACTORED * _BY_INPUT * several(A)
_MAPPED_COPY = _FACTORED * _BY_INPUT * several(c_out * A)
_DENSE_COPY = is_dense * several(c_in) * several(A)
# the stencil's gradient is a sum over what the products have and the stencil has not
_OVER_ELEMENTS = is_dense * (1 - (1 - several(A)) * (1 - (1 - _BY_INPUT) * several(c_in)))

_POINTWISE = c_in * c_out * A**2
_SPATIAL = c_spatial * c_out * A * k**2
_MAPPED = B * c_spatial * c_out * A * h * w
_DENSE = c_in * c_out * A**2 * k**2
_PRODUCTS = c_in * c_out * A * k**2

SEPARABLE = Timeline(
    forward=(
        expanded_bias(has_bias, c_out, A),
        Step("act on pointwise weight", {"pointwise rows": _POINTWISE}, when=_FACTORED),
        Step("permute pointwise rows", {"pointwise filters": _POINTWISE}, ("pointwise rows",), when=_POINTWISE_COPY),
        Step("map", {"mapped": _MAPPED}, when=_FACTORED),
        Step("permute mapped", {"mapped, permuted": _MAPPED}, when=_MAPPED_COPY),
        Step("act on stencils", {"spatial rows": _SPATIAL}, when=_FACTORED),
        Step("permute spatial rows", {"spatial filters": _SPATIAL}, ("spatial rows",), when=_SPATIAL_COPY),
        Step("multiply factors", {"products": _PRODUCTS}, when=is_dense),
        Step("act on products", {"dense rows": _DENSE}, when=is_dense),
        Step("permute dense rows", {"dense filters": _DENSE}, ("dense rows",), when=_DENSE_COPY),
        Step("filters are made", frees=("products",), when=is_dense),
        Step("convolve", {"output": B * c_out * A * h_out * w_out}),
        Step("return", frees=("mapped",), when=_MAPPED_COPY),
        Step("return", frees=(BIAS_ROWS,)),
    ),
    backward=(
        Step(
            "convolve, backward: factored",
            {
                "gradient of mapped, permuted": _MAPPED,
                "gradient of spatial filters": _SPATIAL,
                **bias_gradient(has_bias, c_out, A),
            },
            ("mapped, permuted", "mapped", "spatial filters", "spatial rows"),
            when=_FACTORED,
        ),
        Step(
            "permute spatial rows, backward",
            {"gradient of spatial rows": _SPATIAL},
            ("gradient of spatial filters",),
            when=_SPATIAL_COPY_BACK,
        ),
        *gathered(
            "spatial weight",
            c_spatial * c_out * k**2,
            ("gradient of spatial rows", "gradient of spatial filters"),
            _FACTORED,
        ),
        Step(
            "permute mapped, backward",
            {"gradient of mapped": _MAPPED},
            ("gradient of mapped, permuted",),
            when=_MAPPED_COPY,
        ),
        Step(
            "map, backward",
            {"gradient of input": B * c_in * A * h * w, "gradient of pointwise filters": _POINTWISE},
            ("gradient of mapped", "gradient of mapped, permuted", "pointwise filters", "pointwise rows"),
            when=_FACTORED,
        ),
        Step(
            "permute pointwise rows, backward",
            {"gradient of pointwise rows": _POINTWISE},
            ("gradient of pointwise filters",),
            when=_POINTWISE_COPY_BACK,
        ),
        *gathered(
            "pointwise weight",
            c_in * c_out * A,
            ("gradient of pointwise rows", "gradient of pointwise filters"),
            _FACTORED,
        ),
        Step(
            "convolve, backward: dense",
            {
                "gradient of input": B * c_in * A * h * w,
                "gradient of dense filters": _DENSE,
                **bias_gradient(has_bias, c_out, A),
            },
            ("dense filters", "dense rows"),
            when=is_dense,
        ),
        Step(
            "permute dense rows, backward",
            {"gradient of dense rows": _DENSE},
            ("gradient of dense filters",),
            when=_DENSE_COPY,
        ),
        *gathered("products", _PRODUCTS, ("gradient of dense rows", "gradient of dense filters"), is_dense),
        Step("multiply factors, backward: spatial", {"gradient of stencils": _PRODUCTS}, when=is_dense),
        Step("multiply factors, backward: pointwise", {"gradient of taps": _PRODUCTS}, when=is_dense),
        Step(
            "sum over taps",
            {"gradient of pointwise weight": c_in * c_out * A},
            ("gradient of taps",),
            when=is_dense * several(k),
        ),
        Step(
            "sum over elements",
            {"gradient of spatial weight": c_spatial * c_out * k**2},
            ("gradient of stencils",),
            when=_OVER_ELEMENTS,
        ),
        Step("factors are differentiated", frees=("gradient of products",), when=is_dense),
        bias_sum(has_bias, c_out, A),
    ),
)
