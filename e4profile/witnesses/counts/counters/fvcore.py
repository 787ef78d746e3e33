"""fvcore: it traces one real forward pass, and reports one MAC per "flop", except for norms, charged per element."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import Count, CounterSpec, layer_counts

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


COUNTER = CounterSpec("fvcore", "fvcore", count_fvcore, by_default=True)
