"""What the layers of any network do in one forward pass, seen while it runs: for a network without a closed form.

A layer is a module that has a closed form of its own, or one inside which no other module ran. Its MACs are those of
the dispatch counter; its bytes are its inputs, outputs and weights once each, filters as expanded where its closed form
says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from e4profile.conventions import MAC_KINDS
from e4profile.layers.base import Shape
from e4profile.layers.stock import as_costed
from e4profile.subjects.as_found import attributes_kept, buffers_kept
from e4profile.subjects.inputs import Example
from e4profile.witnesses.counts.base import Count, LayerCount
from e4profile.witnesses.counts.measure import measure_module

DISPATCH = "dispatch"
CLOSED_FORM = "closed form"
"""Which witness gave the MACs."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer.

    Attributes:
        path: dotted module path.
        module: the layer.
        input_shape: of its first input, where that is a tensor.
        moved_bytes: of every tensor that goes in or comes out.
    """

    path: str
    module: nn.Module
    input_shape: Shape | None
    moved_bytes: int


@dataclass(frozen=True)
class RecordedWork:
    """One forward pass of a network.

    Attributes:
        calls: of the layers, in order of execution.
        macs: by the layer's path.
        count: what ran, by module and kind.
        notes: what a reader must know, a sentence each.
    """

    calls: tuple[LayerCall, ...]
    macs: dict[str, int]
    count: Count
    notes: tuple[str, ...]

    @property
    def total_macs(self) -> int:
        """Of the whole pass, between the layers too."""
        return sum(_macs(layer) for layer in self.count.layers)


def _macs(layer: LayerCount) -> int:
    return sum(amount for kind, amount in layer.operations.items() if kind in MAC_KINDS)


def counted_macs(network: nn.Module, example: Example) -> tuple[Count, tuple[str, ...]]:
    """What runs in one forward pass, by the dispatch counter, and what it leaves open.

    Raises:
        Whatever the network's forward raises.
    """
    found = measure_module(network, example, ())
    notes = [note for note in found.notes if note.startswith("run for real")]
    if found.dispatch.uncounted:
        names = ", ".join(found.dispatch.uncounted)
        notes.append(f"MACs of unknown operators are missing: {names} (see register_operator)")
    return found.dispatch, tuple(notes)


def recorded_work(network: nn.Module, example: Example) -> RecordedWork:
    """Run a network once and see what its layers do; it is left as it was found.

    Raises:
        Whatever the network's forward raises.
    """
    count, notes = counted_macs(network, example)
    recorder = _Recorder(network)
    inputs = example.fresh()
    with torch.no_grad(), attributes_kept(network), buffers_kept(network), recorder.watching():
        network(*inputs.positional, **inputs.keywords)
    calls = recorder.layers()
    paths = dict.fromkeys(call.path for call in calls)
    macs, outside = dict.fromkeys(paths, 0), dict[str, int]()
    for layer in count.layers:
        amount = _macs(layer)
        owner = next((path for path in paths if _inside(layer.path, path)), None)
        if owner is not None:
            macs[owner] += amount
        elif amount:
            outside[layer.path or "the network itself"] = amount
    if outside:
        where = ", ".join(outside)
        notes = (*notes, f"{sum(outside.values()):,} MACs run in functional code between the layers, in {where}")
    return RecordedWork(tuple(calls), macs, count, notes)


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}." if outer else "")


@dataclass
class _Call:
    path: str
    module: nn.Module
    outer: _Call | None
    input_shape: Shape | None
    moved_bytes: int
    encloses: bool = False
    is_layer: bool = False


class _Recorder:
    """Every call of a module, with what went in and came out."""

    def __init__(self, network: nn.Module) -> None:
        self.paths = {module: path for path, module in network.named_modules()}
        self.calls: list[_Call] = []
        self.running: list[_Call] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module not in self.paths:
            return
        outer = self.running[-1] if self.running else None
        if outer is not None:
            outer.encloses = True
        first = inputs[0] if inputs else None
        shape = tuple(first.shape) if isinstance(first, torch.Tensor) else None
        call = _Call(self.paths[module], module, outer, shape, _bytes(inputs))
        self.calls.append(call)
        self.running.append(call)

    def _leave(self, module: nn.Module, _: Any, output: Any) -> None:
        if module in self.paths and self.running:
            self.running.pop().moved_bytes += _bytes(output)

    def layers(self) -> list[LayerCall]:
        """The calls of the outermost layers, in order."""
        for call in self.calls:
            inside = call.outer is not None and _in_layer(call.outer)
            call.is_layer = not inside and (not call.encloses or as_costed(call.module) is not None)
        # a module that is a layer in one call and a part of a layer in another cannot be timed by itself
        mixed = {id(call.module) for call in self.calls if not call.is_layer}
        chosen = [call for call in self.calls if call.is_layer and id(call.module) not in mixed]
        return [LayerCall(call.path, call.module, call.input_shape, call.moved_bytes) for call in chosen]


def _in_layer(call: _Call | None) -> bool:
    while call is not None:
        if call.is_layer:
            return True
        call = call.outer
    return False


def _bytes(value: Any) -> int:
    tensors = {id(tensor): tensor for tensor in Example((value,)).tensors}
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors.values())
