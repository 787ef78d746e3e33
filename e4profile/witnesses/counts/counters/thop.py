"""thop: it hooks the leaf modules that it knows by their class and runs the network once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import Count, CounterSpec, LayerCount

if TYPE_CHECKING:
    from torch import nn


def count_thop(model: nn.Module, inputs: Sequence[Any]) -> Count:
    """Count with ``thop.profile``.

    Each layer's operations are listed under its class name, because thop has no finer account. Its parameters
    are its own too: it adds up the leaf modules that it knows.

    Raises:
        ImportError: when thop (or ``distutils``, which it needs) is not installed.
        Whatever the model or thop raises.
    """
    from thop import profile

    _, _, account = profile(model, inputs=tuple(inputs), verbose=False, ret_layer_info=True)
    layers: list[LayerCount] = []

    def leaves(parts: dict[str, Any], module: nn.Module, path: str) -> None:
        for name, (operations, params, inner) in parts.items():
            below = f"{path}.{name}" if path else name
            child = module.get_submodule(name)
            if inner:
                leaves(inner, child, below)
            elif operations or params:
                kind = type(child).__name__
                amounts = {kind: int(operations)} if operations else {}
                layers.append(LayerCount(below, kind, int(params), amounts))

    leaves(account, model, "")
    notes = ("parameters are thop's own: only leaf modules that it knows",)
    return Count(COUNTER.name, COUNTER.version or "", tuple(layers), raw=True, notes=notes)


COUNTER = CounterSpec("thop", "thop", count_thop, by_default=True)
