"""The kinds of operators that layers run as: one kind is what one rate of a device describes.

Operators of one kind take a time that grows with their MACs, their bytes and their calls in the same way. Convolutions
fall into several kinds by their shapes, because PyTorch runs them by different programs: of small maps the windows are
written out for a matrix product, larger ones go to a library's direct convolution.
"""

from __future__ import annotations

DENSE, STRIDED, SMALL = "k x k convolution", "strided convolution", "small convolution"
POINTWISE, SMALL_POINTWISE = "1x1 convolution", "small 1x1 convolution"
GROUPED, DEPTHWISE = "grouped convolution", "depthwise convolution"
PRODUCT = "matrix product"
GENERATOR, AGGREGATION = "generator", "aggregation"
ATTENTION, GATE = "attention", "gate"
IRREP, TRANSFORMED = "irrep products", "irrep transform"
BATCH_NORM, GROUP_NORM = "batch norm", "group norm"
RELU, SMOOTH = "ReLU", "smooth activation"
MAX_POOL, REDUCTION = "max-pool", "reduction"
KEPT, VIEW, BETWEEN = "kept filters", "view", "between layers"

OPERATORS = (
    DENSE, STRIDED, SMALL, POINTWISE, SMALL_POINTWISE, GROUPED, DEPTHWISE, PRODUCT, GENERATOR, AGGREGATION,
    ATTENTION, GATE, IRREP, TRANSFORMED, BATCH_NORM, GROUP_NORM, RELU, SMOOTH, MAX_POOL, REDUCTION, KEPT, VIEW, BETWEEN,
)  # fmt: skip
"""Every kind there is. Kept filters are looked at before they are used again: whether the weights are still those that
they were made of. What runs between the layers are the sums of residual blocks and Python."""

BY_IMAGE = frozenset({SMALL, SMALL_POINTWISE})
"""Kinds that PyTorch runs image by image: every image reads the filters and is a call of its own."""

_SMALL_ELEMENTS = 20_480
_SMALL_TAPS = 9


def convolution_kind(*, taps: int, groups: int, alone: bool, strided: bool, input_elements: int) -> str:
    """The kind of a convolution.

    PyTorch gives an unstrided one of at most 3x3 taps to a matrix product where the whole batch has at most 20,480
    elements (``ConvParams::use_mkldnn``), on one thread of a CPU.

    Args:
        taps: of the kernel.
        groups: that it is split into.
        alone: whether each of them has one input channel.
        strided: whether it skips positions.
        input_elements: of the whole batch.
    """
    if groups > 1:
        return DEPTHWISE if alone else GROUPED
    small = not strided and taps <= _SMALL_TAPS and input_elements <= _SMALL_ELEMENTS
    if taps == 1:
        return SMALL_POINTWISE if small else POINTWISE
    return SMALL if small else STRIDED if strided else DENSE
