"""fvcore: it traces one real forward pass, and reports one MAC per "flop", except for norms, charged per element."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import REORDERED, ROUNDED, Count, CounterSpec, layer_counts

if TYPE_CHECKING:
    from torch import nn


_A_PAIR = 2


def count_fvcore(model: nn.Module, inputs: Sequence[Any]) -> Count:
    """Count with ``fvcore.nn.FlopCountAnalysis``.

    Raises:
        ImportError: when fvcore is not installed.
        Whatever the model or fvcore raises.
    """
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, tuple(inputs))
    analysis.set_op_handle("aten::einsum", _einsum)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    cumulative = analysis.by_module_and_operator()
    unsupported = dict(sorted(analysis.unsupported_ops().items()))
    by_path: dict[str, Counter[str]] = {}
    for path, module in model.named_modules():
        own = Counter({name: int(amount) for name, amount in cumulative.get(path, {}).items()})
        for child, part in module.named_children():
            inner = cumulative.get(f"{path}.{child}" if path else child, {})
            own.subtract({name: int(amount) for name, amount in inner.items() if part is not module})
        by_path[path] = Counter(dict(sorted(own.items())))
    return Count(COUNTER.name, COUNTER.version or "", layer_counts(model, by_path), raw=True, uncounted=unsupported)


def _einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """What fvcore charges an einsum, apart from numpy's own order of its operands and what numpy's print rounded."""
    from fvcore.nn.jit_handles import einsum_flop_jit, get_shape

    charged = int(einsum_flop_jit(inputs, outputs))
    equation = str(inputs[0].toIValue()).replace(" ", "")
    shapes = [get_shape(value) for value in inputs[1].node().inputs()]
    cost = _contraction_cost(equation, shapes)
    rounded = cost is not None and float(f"{cost:.3e}") // 2 == charged
    exact = cost // 2 if cost is not None and rounded else charged
    ran = exact
    if cost is not None and len(shapes) > _A_PAIR:
        ran = _macs_in_order(equation, shapes, inputs[2].toIValue() if len(inputs) > 2 else None)
    return Counter({"einsum": ran, REORDERED: exact - ran, ROUNDED: charged - exact})


def _contraction_cost(equation: str, shapes: Sequence[Sequence[int]]) -> int | None:
    """The operations that numpy counts along its best path; None for an equation that leaves something to it."""
    import numpy as np

    terms, _, result = equation.partition("->")
    if "->" not in equation or "." in equation:
        return None
    left = [set(term) for term in terms.split(",")]
    sizes = _sizes(terms, shapes)
    cost = 0
    for together in np.einsum_path(equation, *map(np.empty, shapes), optimize="optimal")[0][1:]:
        taken = [left.pop(place) for place in sorted(together, reverse=True)]
        there, kept = set().union(*taken), set(result).union(*left)
        cost += math.prod(sizes[name] for name in there) * (max(1, len(taken) - 1) + bool(there - kept))
        left.append(there & kept)
    return cost


def _sizes(terms: str, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, shape in zip(terms.split(","), shapes, strict=True):
        for name, size in zip(term, shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    return sizes


def _macs_in_order(equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] | None) -> int:
    """The products that are summed where operands meet as PyTorch lets them: from left to right, or by its path."""
    terms, _, result = equation.partition("->")
    left = [set(term) for term in terms.split(",")]
    sizes = _sizes(terms, shapes)
    steps, macs = iter(path or ()), 0
    while len(left) > 1:
        first, second = sorted((next(steps, 0), next(steps, 1)))
        taken = left.pop(second), left.pop(first)
        outside = set(result).union(*left)
        # what one operand alone has is summed before, without products
        summed = (taken[0] & taken[1]) - outside
        kept = (taken[0] | taken[1]) & outside
        macs += math.prod(sizes[name] for name in kept | summed) if summed else 0
        left.insert(len(left) if path else 0, kept)
    return macs


COUNTER = CounterSpec("fvcore", "fvcore", count_fvcore, by_default=True)
