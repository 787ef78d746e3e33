"""What a forward pass does, operator by operator, from the closed form: MACs, bytes and calls of each kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from e4profile import conventions
from e4profile.layers import operators
from e4profile.layers.base import Shape, layer_cost
from e4profile.layers.containers import Step, Traced, trace
from e4profile.layers.filter_bank import FilterBankLayer
from e4profile.layers.terms import evaluate
from e4profile.symbols import B
from e4profile.witnesses.timing.operators import (
    ACTIVATION_TERM,
    AGGREGATION_TERM,
    ATTENTION_TERM,
    CONVOLUTION_TERM,
    EXPANSION_TERM,
    GENERATOR_TERM,
    LINEAR_TERM,
    NORM_TERM,
    OTHER_TERM,
    POOLING_TERM,
    TERMS,
)

TRANSFORM_TERM = "irrep transform"
"""The sums and differences on the way into the irrep basis and back, which a profiled pass has inside convolution."""

NAMED_TERMS = (*TERMS[:2], TRANSFORM_TERM, *TERMS[2:])
"""Every named term of a predicted time, in the order shown."""

_TERMS = {
    operators.PRODUCT: LINEAR_TERM,
    operators.GENERATOR: GENERATOR_TERM,
    operators.AGGREGATION: AGGREGATION_TERM,
    **dict.fromkeys((operators.ATTENTION, operators.GATE), ATTENTION_TERM),
    operators.TRANSFORMED: TRANSFORM_TERM,
    **dict.fromkeys((operators.BATCH_NORM, operators.GROUP_NORM), NORM_TERM),
    **dict.fromkeys((operators.RELU, operators.SMOOTH), ACTIVATION_TERM),
    **dict.fromkeys((operators.MAX_POOL, operators.REDUCTION), POOLING_TERM),
    operators.KEPT: EXPANSION_TERM,
    **dict.fromkeys((operators.VIEW, operators.BETWEEN), OTHER_TERM),
}
_OF_MACS = {
    conventions.LINEAR: operators.PRODUCT,
    conventions.AGGREGATION: operators.AGGREGATION,
    conventions.ATTENTION: operators.ATTENTION,
}
_OF_ELEMENTS = {
    conventions.BATCH_NORM: operators.BATCH_NORM,
    conventions.GROUP_NORM: operators.GROUP_NORM,
    conventions.TRANSFORM: operators.TRANSFORMED,
}
_TOUCHED = {operators.BATCH_NORM: 2, operators.GROUP_NORM: 2, operators.TRANSFORMED: 3}
"""Reads and writes per normalised element, and per sum or difference."""
_SMOOTH = (nn.ELU, nn.SiLU, nn.GELU)
_MAXIMA = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class Operation:
    """The work of one kind of operator in one call of a layer.

    Attributes:
        path: dotted module path; empty for what runs between the layers.
        kind: of ``e4profile.layers.operators``.
        macs: of the batch.
        bytes: read and written.
        calls: of operators that cost a fixed time each.
    """

    path: str
    kind: str
    macs: int
    bytes: int
    calls: int = 1

    @property
    def term(self) -> str:
        """The named term that its time belongs to, one of ``NAMED_TERMS``."""
        return _TERMS.get(self.kind, CONVOLUTION_TERM)


def forward_operations(model: nn.Module, input_shape: Shape, bytes_per_element: int = 4) -> list[Operation]:
    """The operations of a forward pass in evaluation mode, in order; nothing runs.

    Filters are expanded once and kept, so expanding them is no part of the pass.

    Raises:
        SettingError: for a part without a closed form.
    """
    return [one for layer in layers_of(model, input_shape, bytes_per_element) for one in layer[1]]


def layers_of(
    model: nn.Module, input_shape: Shape, bytes_per_element: int = 4
) -> list[tuple[Step | None, list[Operation]]]:
    """Every call of a layer with its operations; last, for None, what runs between the layers.

    Raises:
        SettingError: for a part without a closed form.
    """
    _, steps = trace(model, input_shape)
    # a container that a published tool charges is a step too, but it does nothing itself
    run = [step for step in steps if not isinstance(step.module, Traced)]
    found: list[tuple[Step | None, list[Operation]]] = []
    for step in run:
        found.append((step, list(_operations(step, bytes_per_element))))
    handed = bytes_per_element * sum(math.prod(step.input_shape) for step in run)
    return [*found, (None, [Operation("", operators.BETWEEN, 0, handed, len(run))])]


def _operations(step: Step, bytes_per_element: int) -> Iterator[Operation]:
    form, shape = step.form, step.input_shape
    values = form.dimensions(shape)
    cost = layer_cost(form, shape)
    moved, of_one = (evaluate(getattr(form, "moved", {}), {**values, B: images}) for images in (shape[0], 1))
    calls = evaluate(getattr(form, "calls", {}), values)
    through = math.prod(shape) + math.prod(form.output_shape(shape))

    def operation(kind: str, macs: int, elements: int, calls: int = 1) -> Operation:
        return Operation(step.path, kind, macs, elements * bytes_per_element, calls)

    once: frozenset[str] = getattr(form, "per_forward", frozenset())
    worked = False
    for name, macs in cost.macs.items():
        if macs:
            worked = True
            kind = _kind(step, name, cost.kinds[name])
            filters = _filter_elements(step, cost.total_params)
            if kind in operators.BY_IMAGE:
                elements = shape[0] * of_one.get(name, filters) + (0 if name in of_one else through)
                yield operation(kind, macs, elements, shape[0])
            else:
                yield operation(kind, macs, moved.get(name, through + filters), calls.get(name, 1))
    for name, elements in cost.elements.items():
        kind = _OF_ELEMENTS.get(cost.kinds[name], "")
        # the transform of a weight is kept, as its filters are
        if kind and elements and not (kind == operators.TRANSFORMED and name in once):
            worked = True
            yield operation(kind, 0, _TOUCHED[kind] * elements, calls.get(name, 1))
    banks = sum(isinstance(part, FilterBankLayer) for part in step.module.modules())
    if banks:
        yield operation(operators.KEPT, 0, 2 * cost.total_params, banks)
    if moved.get("pooling"):
        yield operation(operators.MAX_POOL, 0, moved["pooling"])
    if not worked:
        kind = _kind_without_work(step)
        yield operation(kind, 0, 0 if kind == operators.VIEW else through)


def _filter_elements(step: Step, params: int) -> int:
    """Elements of the filters that a layer's convolutions read, or of its weights."""
    constant = getattr(step.form, "saved_constant", {})
    filters = {name: term for name, term in constant.items() if name.endswith("filters")}
    return max(params, sum(evaluate(filters, step.dimensions).values()))


def _kind(step: Step, name: str, kind: str) -> str:
    """The kind of operator of a term of ``macs``."""
    declared: Mapping[str, str] = getattr(step.form, "runs_as", {})
    found = declared.get(name) or _OF_MACS.get(kind)
    if found not in (None, operators.POINTWISE):
        return found
    sizes = {str(symbol): size for symbol, size in step.dimensions.items()}
    taps = 1 if found else sizes.get("k_h", sizes.get("k", 1)) * sizes.get("k_w", sizes.get("k", 1))
    # a stride that a max-pool realises is not the convolution's
    stride = getattr(step.module, "_conv_stride", getattr(step.module, "stride", 1))
    return operators.convolution_kind(
        taps=taps,
        groups=sizes.get("n_groups", 1),
        alone=sizes.get("n_groups", 1) == sizes.get("c_in"),
        strided=not found and stride not in (1, (1, 1)),
        input_elements=math.prod(step.input_shape),
    )


def _kind_without_work(step: Step) -> str:
    """The kind of a layer that multiplies and normalises nothing."""
    module = step.module
    if isinstance(module, nn.ReLU):
        return operators.RELU
    if isinstance(module, _SMOOTH):
        return operators.SMOOTH
    if isinstance(module, _MAXIMA):
        return operators.MAX_POOL
    if isinstance(module, nn.Dropout | nn.Dropout2d) or getattr(step.form, "hands_on_input", False):
        return operators.VIEW
    return operators.REDUCTION
