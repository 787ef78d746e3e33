"""The storages of a separable group convolution, factored or multiplied out into one filter bank."""

from __future__ import annotations

from e4profile.layers.peak import (
    BIAS_ROWS,
    Step,
    Timeline,
    bias_gradient,
    bias_sum,
    expanded_bias,
    gathered,
    several,
)
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
_OVER_TAPS = is_dense * several(k)
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
        Step(
            "act on pointwise weight",
            {
                "pointwise filters": (_FACTORED - _POINTWISE_COPY) * _POINTWISE,
                "pointwise rows": _POINTWISE_COPY * _POINTWISE,
            },
        ),
        Step(
            "permute pointwise rows", {"pointwise filters": _POINTWISE_COPY * _POINTWISE}, ("pointwise rows",)
        ),
        Step(
            "map",
            {"mapped": (_FACTORED - _MAPPED_COPY) * _MAPPED, "mapped by input field": _MAPPED_COPY * _MAPPED},
        ),
        Step("permute mapped", {"mapped": _MAPPED_COPY * _MAPPED}),
        Step(
            "act on stencils",
            {
                "spatial filters": (_FACTORED - _SPATIAL_COPY) * _SPATIAL,
                "spatial rows": _SPATIAL_COPY * _SPATIAL,
            },
        ),
        Step("permute spatial rows", {"spatial filters": _SPATIAL_COPY * _SPATIAL}, ("spatial rows",)),
        Step("multiply factors", {"products": is_dense * _PRODUCTS}),
        Step(
            "act on products",
            {"dense filters": (is_dense - _DENSE_COPY) * _DENSE, "dense rows": _DENSE_COPY * _DENSE},
        ),
        Step("permute dense rows", {"dense filters": _DENSE_COPY * _DENSE}, ("products", "dense rows")),
        Step("convolve", {"output": B * c_out * A * h_out * w_out}),
        Step("return", frees=(BIAS_ROWS, "mapped by input field")),
    ),
    backward=(
        Step(
            "convolve, backward",
            {
                "gradient of input": is_dense * B * c_in * A * h * w,
                "gradient of mapped": (_FACTORED - _MAPPED_COPY) * _MAPPED,
                "gradient of permuted": _MAPPED_COPY * _MAPPED,
                "gradient of spatial filters": _SPATIAL_COPY_BACK * _SPATIAL,
                "gradient of spatial rows": (_FACTORED - _SPATIAL_COPY_BACK) * _SPATIAL,
                "gradient of dense filters": _DENSE_COPY * _DENSE,
                "gradient of dense rows": (is_dense - _DENSE_COPY) * _DENSE,
                **bias_gradient(has_bias, c_out, A),
            },
            ("mapped", "spatial filters", "dense filters"),
        ),
        Step(
            "permute spatial rows, backward",
            {"gradient of spatial rows": _SPATIAL_COPY_BACK * _SPATIAL},
            ("gradient of spatial filters",),
        ),
        *gathered("spatial weight", _FACTORED * c_spatial * c_out * k**2, "gradient of spatial rows"),
        Step(
            "permute mapped, backward",
            {"gradient of mapped": _MAPPED_COPY * _MAPPED},
            ("gradient of permuted",),
        ),
        Step(
            "map, backward",
            {
                "gradient of input": _FACTORED * B * c_in * A * h * w,
                "gradient of pointwise filters": _POINTWISE_COPY_BACK * _POINTWISE,
                "gradient of pointwise rows": (_FACTORED - _POINTWISE_COPY_BACK) * _POINTWISE,
            },
            ("gradient of mapped", "pointwise filters"),
        ),
        Step(
            "permute pointwise rows, backward",
            {"gradient of pointwise rows": _POINTWISE_COPY_BACK * _POINTWISE},
            ("gradient of pointwise filters",),
        ),
        *gathered("pointwise weight", _FACTORED * c_in * c_out * A, "gradient of pointwise rows"),
        Step(
            "permute dense rows, backward",
            {"gradient of dense rows": _DENSE_COPY * _DENSE},
            ("gradient of dense filters",),
        ),
        *gathered("products", is_dense * _PRODUCTS, "gradient of dense rows"),
        Step(
            "multiply factors, backward: spatial",
            {
                "gradient of stencils": _OVER_ELEMENTS * _PRODUCTS,
                "gradient of spatial weight": (is_dense - _OVER_ELEMENTS) * _PRODUCTS,
            },
        ),
        Step(
            "multiply factors, backward: pointwise",
            {
                "gradient of taps": _OVER_TAPS * _PRODUCTS,
                "gradient of pointwise weight": (is_dense - _OVER_TAPS) * _PRODUCTS,
            },
        ),
        Step(
            "sum over taps",
            {"gradient of pointwise weight": _OVER_TAPS * c_in * c_out * A},
            ("gradient of taps",),
        ),
        Step(
            "sum over elements",
            {"gradient of spatial weight": _OVER_ELEMENTS * c_spatial * c_out * k**2},
            ("gradient of stencils", "gradient of products"),
        ),
        bias_sum(has_bias, c_out, A),
    ),
)
