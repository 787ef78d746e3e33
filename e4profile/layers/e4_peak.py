"""The storages of an E4 layer and of its pointwise branch.

The generator and the aggregation run as one operator, or as unfold, multiply and sum (the reference). What the
operator holds inside itself, block by block, is its workspace and stands in no step. The reference copies the halves
to float32 and sums those.
"""

from __future__ import annotations

from e4profile.layers.storages import ACCUMULATE, STATISTICS, Step, Timeline, folded, gathered, several
from e4profile.layers.terms import Term
from e4profile.symbols import (
    A,
    B,
    affine_pairs,
    c_in,
    c_out,
    h,
    h_out,
    has_bias,
    has_encoder_bias,
    has_encoder_norm,
    has_squeeze_bias,
    is_expanded,
    is_large_encoder,
    is_large_squeeze,
    is_reference,
    is_regrouped,
    is_roomy,
    is_sampled,
    is_sliced,
    k,
    r,
    s,
    w,
    w_out,
)

_INPUT = B * c_in * A * h * w
_SAMPLED = B * c_in * A * h_out * w_out
_OUTPUT = B * c_out * A * h_out * w_out


def _unsliced(gradient: str) -> tuple[Step, Step]:
    """The backward of slicing columns out of sampled rows, then of slicing the rows."""
    rows = {"gradient of rows": B * c_in * A * h_out * w}
    return (
        Step("slice columns, backward", rows, ("gradient of sampled",), when=is_sliced),
        Step("slice rows, backward", {gradient: _INPUT}, ("gradient of rows",), when=is_sliced),
    )


POINTWISE = Timeline(
    forward=(Step("sample", {"sampled": _SAMPLED}, when=is_sampled), Step("convolve", {"output": _OUTPUT})),
    backward=(
        Step(
            "convolve, backward",
            {
                "gradient of input": (1 - is_sliced) * _INPUT,
                "gradient of sampled": is_sliced * _SAMPLED,
                "gradient of weight": c_in * c_out,
                "gradient of bias": has_bias * c_out,
            },
            ("sampled",),
        ),
        *_unsliced("gradient of input"),
    ),
)

_FUSED = 1 - is_reference
_VALUES = B * c_out * A * h * w
_C_MID = c_in / r
_HIDDEN = B * _C_MID * A * h_out * w_out
_ROWS = A * s * k**2
_STENCILS = B * _ROWS * h_out * w_out
_COLUMNS = _OUTPUT * k**2
# unfold and fold start from a storage of their input's size and let it grow
_UNFOLDED = is_roomy * _VALUES + (1 - is_roomy) * _COLUMNS
# a branch that concatenates gathers filters from its weights, the other uses its weights as they are
_BANK_V, _BANK_K = 1 - has_encoder_bias, 1 - has_squeeze_bias
_ENCODER, _SQUEEZE = c_in * c_out, c_in * _C_MID


def _rows_gathered(when: Term) -> tuple[Step, ...]:
    """The gradients of the generator's rows, added up over group elements."""
    taps = s * k**2
    return (
        *gathered("generator bias", taps, ("gradient of generator bias rows",), when),
        *gathered("generator weight", taps * _C_MID, ("gradient of generator filters",), when),
    )


_FORWARD = (
    Step("expand encoder filters", {"encoder filters": _ENCODER * A**2}, when=_BANK_V),
    Step("encode", {"encoded": has_encoder_norm * _VALUES, "values": (1 - has_encoder_norm) * _VALUES}),
    Step(
        "encoder norm",
        {"values": _VALUES, "encoder norm means": c_out, "encoder norm deviations": c_out},
        when=has_encoder_norm,
    ),
    Step("act on generator", {"generator filters": _ROWS * _C_MID, "generator bias rows": _ROWS}, when=_FUSED),
    Step("sample", {"sampled": _SAMPLED}, when=is_sampled),
    Step("expand squeeze filters", {"squeeze filters": _SQUEEZE * A**2}, when=_BANK_K),
    Step("squeeze", {"squeezed": _HIDDEN}),
    Step(
        "expand affine pairs", {"squeeze norm weights": _C_MID * A, "squeeze norm biases": _C_MID * A}, when=is_expanded
    ),
    Step(
        "squeeze norm",
        {"normalised": _HIDDEN, "squeeze norm means": B * _C_MID, "squeeze norm deviations": B * _C_MID},
        ("squeeze norm biases",),
    ),
    Step("relu", {"hidden": _HIDDEN}, ("normalised",)),
    Step("generate and aggregate", {"output": _OUTPUT}, when=_FUSED),
)

_REFERENCE_FORWARD = (
    Step("act on generator", {"generator filters": _ROWS * _C_MID, "generator bias rows": _ROWS}, when=is_reference),
    Step("regroup hidden", {"hidden by element": _HIDDEN}, when=is_reference * is_regrouped),
    Step("generate", {"stencils": _STENCILS}, ("generator bias rows",), when=is_reference),
    Step("widen stencils", {"wide stencils": _STENCILS}, when=is_reference, halves=True),
    Step("widen values", {"wide values": _VALUES}, when=is_reference, halves=True),
    Step("unfold", {"columns": _UNFOLDED}, when=is_reference),
    Step("multiply", {"products": _COLUMNS}, when=is_reference),
    Step("sum over taps", {"output": _OUTPUT}, ("products",), when=is_reference, halves=False),
    Step("sum over taps", {"wide output": _OUTPUT}, ("products",), when=is_reference, halves=True),
    Step("narrow output", {"output": _OUTPUT}, ("wide output",), when=is_reference, halves=True),
    Step("return", {}, ("wide values", "stencils"), when=is_reference, halves=True),
    Step("return", {}, ("values",), when=is_reference),
)

_REFERENCE_BACKWARD = (
    Step("widen gradient", {"wide gradient": _OUTPUT}, when=is_reference, halves=True),
    Step("multiply, backward: columns", {"gradient of columns": _COLUMNS}, when=is_reference),
    Step("multiply, backward: stencils", {"gradient of products": _COLUMNS}, when=is_reference),
    Step(
        "sum over channels",
        {"wide gradient of stencils": _STENCILS},
        ("gradient of products",),
        when=is_reference * several(c_out / s),
    ),
    Step("multiplied", frees=("wide gradient", "columns", "stencils", "wide stencils"), when=is_reference),
    Step("fold", {"wide gradient of values": _UNFOLDED}, ("gradient of columns",), when=is_reference),
    Step(
        "narrow gradient of values",
        {"gradient of values": _VALUES},
        ("wide gradient of values",),
        when=is_reference,
        halves=True,
    ),
    Step(
        "narrow gradient of stencils",
        {"gradient of stencils": _STENCILS},
        ("wide gradient of stencils", "gradient of products"),
        when=is_reference,
        halves=True,
    ),
    Step(
        "regroup stencils, backward",
        {"gradient of stencils by element": _STENCILS},
        ("wide gradient of stencils", "gradient of products", "gradient of stencils"),
        when=is_reference * several(A) * several(s),
    ),
    Step(
        "generate, backward",
        {
            "gradient of hidden by element": is_regrouped * _HIDDEN,
            "gradient of hidden": (1 - is_regrouped) * _HIDDEN,
            "gradient of generator filters": _ROWS * _C_MID,
            "gradient of generator bias rows": _ROWS,
        },
        (
            "gradient of stencils by element",
            "gradient of stencils",
            "wide gradient of stencils",
            "gradient of products",
            "hidden by element",
            "generator filters",
        ),
        when=is_reference,
    ),
    *_rows_gathered(is_reference),
)

_BACKWARD = (
    Step(
        "generate and aggregate, backward",
        {
            "gradient of hidden by element": is_regrouped * _HIDDEN,
            "gradient of hidden": (1 - is_regrouped) * _HIDDEN,
            "gradient of generator filters": _ROWS * _C_MID,
            "gradient of generator bias rows": _ROWS,
            "gradient of values": _VALUES,
        },
        ("generator filters", "generator bias rows", "values"),
        when=_FUSED,
    ),
    Step(
        "regroup hidden, backward",
        {"gradient of hidden": _HIDDEN},
        ("gradient of hidden by element",),
        when=is_regrouped,
    ),
    Step("relu, backward", {"gradient of normalised": _HIDDEN}, ("gradient of hidden", "hidden")),
    Step(
        "squeeze norm, backward",
        {
            "gradient of squeezed": _HIDDEN,
            "gradient of squeeze norm weights": is_expanded * _C_MID * A,
            "gradient of squeeze norm biases": is_expanded * _C_MID * A,
            "gradient of squeeze norm weight": (1 - is_expanded) * _C_MID * affine_pairs,
            "gradient of squeeze norm bias": (1 - is_expanded) * _C_MID * affine_pairs,
        },
        ("gradient of normalised", "squeezed", "squeeze norm weights", "squeeze norm means", "squeeze norm deviations"),
    ),
    Step(
        "add up squeeze norm bias",
        {"gradient of squeeze norm bias": _C_MID},
        ("gradient of squeeze norm biases",),
        when=is_expanded,
    ),
    Step(
        "add up squeeze norm weight",
        {"gradient of squeeze norm weight": _C_MID},
        ("gradient of squeeze norm weights",),
        when=is_expanded,
    ),
    Step(
        "squeeze, backward",
        {
            "gradient of input by squeeze": (1 - is_sliced) * _INPUT,
            "gradient of sampled": is_sliced * _SAMPLED,
            "gradient of squeeze filters": _BANK_K * _SQUEEZE * A**2,
            "gradient of squeeze weight": has_squeeze_bias * _SQUEEZE,
            "gradient of squeeze bias": has_squeeze_bias * _C_MID,
        },
    ),
    folded("squeeze weight", _SQUEEZE * A, ("gradient of squeeze filters",), when=is_large_squeeze),
    Step("squeeze, backward", frees=("gradient of squeezed", "squeeze filters", "sampled")),
    *_unsliced("gradient of input by squeeze"),
    *gathered("squeeze weight", _SQUEEZE * A, ("gradient of squeeze filters",), _BANK_K - is_large_squeeze),
    *_rows_gathered(_FUSED),
    Step(
        "encoder norm, backward",
        {
            "gradient of encoded": _VALUES,
            "gradient of encoder norm weight": c_out,
            "gradient of encoder norm bias": c_out,
        },
        ("gradient of values", "wide gradient of values", "encoded", "encoder norm means", "encoder norm deviations"),
        when=has_encoder_norm,
    ),
    Step(
        "encode, backward",
        {
            "gradient of input by encoder": _INPUT,
            "gradient of encoder filters": _BANK_V * _ENCODER * A**2,
            "gradient of encoder weight": has_encoder_bias * _ENCODER,
            "gradient of encoder bias": has_encoder_bias * c_out,
        },
    ),
    folded("encoder weight", _ENCODER * A, ("gradient of encoder filters",), when=is_large_encoder),
    Step(
        "encode, backward",
        frees=("gradient of encoded", "gradient of values", "wide gradient of values", "encoder filters"),
    ),
    Step(
        "add up gradients of input",
        {"gradient of input": _INPUT},
        ("gradient of input by squeeze", "gradient of input by encoder"),
    ),
    *gathered("encoder weight", _ENCODER * A, ("gradient of encoder filters",), _BANK_V - is_large_encoder),
)

E4 = Timeline(
    forward=_FORWARD + _REFERENCE_FORWARD,
    backward=_REFERENCE_BACKWARD + _BACKWARD,
    units={
        "encoder norm means": STATISTICS,
        "encoder norm deviations": STATISTICS,
        **dict.fromkeys(
            (
                "wide stencils",
                "wide values",
                "columns",
                "products",
                "wide output",
                "wide gradient",
                "gradient of columns",
                "gradient of products",
                "wide gradient of stencils",
                "wide gradient of values",
            ),
            ACCUMULATE,
        ),
    },
)
