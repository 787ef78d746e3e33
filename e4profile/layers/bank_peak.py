"""The storages of a convolution by a filter bank that is gathered from weights: group, lifting and steerable."""

from __future__ import annotations

from e4profile.layers.peak import BIAS_ROWS, Step, Timeline, bias_gradient, bias_sum, expanded_bias, folded, gathered
from e4profile.layers.saved import CONVERTED, INDEX
from e4profile.layers.terms import Term
from e4profile.symbols import (
    A_in,
    A_out,
    A_rel,
    B,
    c_in,
    c_out,
    h,
    h_conv,
    h_out,
    has_bias,
    k,
    n_grids,
    n_k,
    w,
    w_conv,
    w_out,
)


def bank_timeline(order_in: Term, order_out: Term, *, pooled: Term = 0, large: Term = 0) -> Timeline:
    """Gather the filters, convolve, and pool where ``pooled`` is 1.

    Args:
        order_in: channels of an input field: 1 for an image.
        order_out: channels of an output field.
        pooled: 1 where a max-pool realises the stride.
        large: 1 where gather and convolution are one step of autograd (see ``ops.filter_bank``).
    """
    output = c_out * order_out * h_out * w_out
    convolved = pooled * c_out * order_out * h_conv * w_conv
    filters = c_in * order_in * c_out * order_out * k**2
    weight = c_in * c_out * order_in * k**2
    gradients = {"gradient of input": B * c_in * order_in * h * w, "gradient of filters": filters}
    return Timeline(
        forward=(
            expanded_bias(has_bias, c_out, order_out),
            Step("expand filters", {"filters": filters}),
            Step("convolve", {"convolved": B * convolved, "output": (1 - pooled) * B * output}, (BIAS_ROWS,)),
            Step("pool", {"output": pooled * B * output, "pool indices": pooled * B * output}),
        ),
        backward=(
            Step("pool, backward", {"gradient of convolved": B * convolved}, ("convolved", "pool indices")),
            Step("add up bias over images", bias_gradient(has_bias, c_out, order_out), when=large),
            Step(
                "convolve, backward",
                {**gradients, **bias_gradient(has_bias, c_out, order_out)},
                ("gradient of convolved", "filters"),
                when=1 - large,
            ),
            *gathered("weight", weight, ("gradient of filters",), 1 - large),
            Step("convolve, backward", gradients, when=large),
            folded("weight", weight, ("gradient of convolved", "gradient of filters", "filters"), large),
            bias_sum(has_bias, c_out, order_out),
        ),
        units={"pool indices": INDEX},
    )


_SAMPLES = c_in * c_out * A_rel * n_grids * k**2
_FILTERS = c_in * A_in * c_out * A_out * k**2

STEERABLE = Timeline(
    forward=(
        expanded_bias(has_bias, c_out, A_out),
        Step("convert basis", {"sampled basis": n_k * n_grids * k**2}),
        Step("sample kernels", {"sampled kernels": _SAMPLES}),
        Step("place samples", {"filters": _FILTERS}, ("sampled kernels",)),
        Step("convolve", {"output": B * c_out * A_out * h_out * w_out}, (BIAS_ROWS,)),
    ),
    backward=(
        Step(
            "convolve, backward",
            {
                "gradient of input": B * c_in * A_in * h * w,
                "gradient of filters": _FILTERS,
                **bias_gradient(has_bias, c_out, A_out),
            },
            ("filters",),
        ),
        *gathered("sampled kernels", _SAMPLES, ("gradient of filters",)),
        Step(
            "sample kernels, backward",
            {"gradient of weight": c_in * c_out * A_rel * n_k},
            ("gradient of sampled kernels", "sampled basis"),
        ),
        bias_sum(has_bias, c_out, A_out),
    ),
    units={"sampled basis": CONVERTED},
)
