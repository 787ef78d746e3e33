"""fvcore: it traces one real forward pass, and reports one MAC per "flop", except for norms, charged per element."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import ROUNDED, Count, CounterSpec, layer_counts

if TYPE_CHECKING:
    from torch import nn


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
    """What fvcore charges an einsum, apart from what numpy's print of it rounded."""
    from fvcore.nn.jit_handles import einsum_flop_jit, get_shape

    charged = int(einsum_flop_jit(inputs, outputs))
    equation = str(inputs[0].toIValue()).replace(" ", "")
    cost = _contraction_cost(equation, [get_shape(value) for value in inputs[1].node().inputs()])
    rounded = cost is not None and float(f"{cost:.3e}") // 2 == charged
    exact = cost // 2 if cost is not None and rounded else charged
    return Counter({"einsum": exact, ROUNDED: charged - exact})


def _contraction_cost(equation: str, shapes: Sequence[Sequence[int]]) -> int | None:
    """The operations that numpy counts along its best path; None for an equation that leaves something to it."""
    import numpy as np

    terms, _, result = equation.partition("->")
    if "->" not in equation or "." in equation:
        return None
    left = [set(term) for term in terms.split(",")]
    sizes = {
        name: size
        for term, shape in zip(terms.split(","), shapes, strict=True)
        for name, size in zip(term, shape, strict=True)
    }
    cost = 0
    for together in np.einsum_path(equation, *map(np.empty, shapes), optimize="optimal")[0][1:]:
        taken = [left.pop(place) for place in sorted(together, reverse=True)]
        there, kept = set().union(*taken), set(result).union(*left)
        cost += math.prod(sizes[name] for name in there) * (max(1, len(taken) - 1) + bool(there - kept))
        left.append(there & kept)
    return cost


COUNTER = CounterSpec("fvcore", "fvcore", count_fvcore, by_default=True)
