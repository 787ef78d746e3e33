"""The layers inside somebody else's forward, seen while it runs: their closed forms, and the work that they do.

A closed form at recorded shapes is weaker than ``count_closed_form``: the sizes come from the run that the form is
compared with, so a wrong padding in the forward goes unnoticed. Every count says so (``SHAPES_RECORDED``). Parts that
pass shapes on themselves are still followed by their topology, from the shape at their door.

For the clock, a layer is a module that has a closed form of its own, or one inside which no other module ran. Its MACs
are those of the dispatch counter; its bytes are its inputs, outputs and weights once each, filters as expanded where
its closed form says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from e4profile.conventions import MAC_KINDS
from e4profile.errors import SettingError
from e4profile.layers.base import Costed, Shape, layer_cost
from e4profile.layers.containers import Step, Traced, trace
from e4profile.layers.stock import as_costed
from e4profile.subjects.as_found import as_found, copied_tensor
from e4profile.subjects.copies import materialised
from e4profile.subjects.inputs import Example
from e4profile.witnesses.counts.base import Count, LayerCount, owner
from e4profile.witnesses.counts.closed_form import formed_layers
from e4profile.witnesses.counts.dispatch import count_run
from e4profile.witnesses.environment import own_version
from e4profile.witnesses.walk import Call, Watcher, following

SHAPES_RECORDED = "closed form: shapes recorded from the run, not implied by the topology"

DISPATCH = "dispatch"
CLOSED_FORM = "closed form"
"""Which witness gave the MACs."""

_PROTOCOL = ("params", "macs", "elements", "kinds", "printed", "dimensions", "output_shape")
_OWN_TERMS = ("macs", "elements", "dimensions", "printed")


class RecordedShapes(Watcher):
    """Records the shape at the door of every costed layer while a model runs.

    Attributes:
        steps: each costed layer that ran, outermost only, with the shape that it received.
        reasons: why a layer that looks costed has no closed form, by path.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.reasons: dict[str, str] = {}
        # the calls of layers that are costed, and all inside them
        self._costed: set[Call] = set()

    def enter(self, call: Call) -> None:
        """Record a layer, unless it is inside of one."""
        if call.outer in self._costed or self._cost(call):
            self._costed.add(call)

    def _cost(self, call: Call) -> bool:
        path, module = call.path, call.module
        form = as_costed(module)
        if form is None and not isinstance(module, Traced):
            if missing := _missing(module):
                self.reasons[path] = missing
            return False
        if forward_ad._current_level >= 0:
            self.reasons[path] = (
                f"{type(module).__name__}: it runs in forward-mode differentiation, with tangents beside"
            )
            return False
        shape = _shape(module, call.inputs)
        if shape is None:
            self.reasons[path] = f"{type(module).__name__}: its first input is not a tensor of one shape"
            return False
        if type(module) is nn.Linear:
            scope = next((outer for outer in call if hasattr(outer.module, "operation_kind")), None)
            if scope is not None:
                kind = scope.module.operation_kind
                self.reasons[path] = f"Linear: {scope.path} says that its products are {kind}"
                return False
        try:
            if isinstance(module, Traced):
                _, steps = trace(module, shape, path)
                for step in steps:
                    step.cost  # noqa: B018
            else:
                layer_cost(_costed(form), shape)
                steps = [Step(path, module, _costed(form), shape)]
        except SettingError as error:
            # the parts of a container are costed one by one
            if not isinstance(module, Traced):
                self.reasons[path] = str(error)
            return False
        self.steps += steps
        return True


def _costed(form: Costed | None) -> Costed:
    if form is None:
        raise SettingError("no closed form")
    return form


def _missing(module: nn.Module) -> str:
    given = [name for name in _PROTOCOL if hasattr(module, name)]
    # any one word may be a coincidence
    if len([name for name in given if name in _OWN_TERMS]) < 2:
        return ""
    lacking = ", ".join(name for name in _PROTOCOL if name not in given)
    return f"{type(module).__name__} has {', '.join(given)} but lacks {lacking} of the closed form's protocol"


def _shape(module: nn.Module, inputs: Sequence[Any]) -> Shape | None:
    if not inputs or not isinstance(inputs[0], Tensor) or inputs[0].is_nested:
        return None
    shape, runs = tuple(inputs[0].shape), _mapped_over(inputs[0], *module.parameters(recurse=False))
    if shape:
        shape = (runs * shape[0], *shape[1:])
    if type(module) is nn.Linear and len(shape) != 2:
        # a linear map over the last axis, once per leading position
        rows = math.prod(shape[:-1]) if len(shape) > 1 else runs
        return (rows, inputs[0].shape[-1])
    return shape


def _mapped_over(*tensors: Tensor) -> int:
    """How often a call runs whose inputs or parameters ``torch.vmap`` maps over: once for each of what it maps."""
    sizes: dict[int, int] = {}
    for tensor in tensors:
        inner = tensor
        while torch._C._functorch.is_batchedtensor(inner):
            level, dim = torch._C._functorch.maybe_get_level(inner), torch._C._functorch.maybe_get_bdim(inner)
            inner = torch._C._functorch.get_unwrapped(inner)
            sizes[level] = inner.shape[dim]
    return math.prod(sizes.values())


def count_recorded(model: nn.Module, found: RecordedShapes) -> Count:
    """The closed form of the layers that ran, at the recorded shapes.

    Args:
        model: the model that ran.
        found: what was seen.

    Returns:
        A count of the costed layers alone; ``notes`` holds ``SHAPES_RECORDED`` when there is any.
    """
    owners, paths = _owners(model), {module: path for path, module in model.named_modules()}
    steps: list[Step] = []
    for step in found.steps:
        path = paths[step.module]
        shared = [owners[id(p)] for p in step.module.parameters() if not _inside(owners[id(p)], path)]
        if shared:
            found.reasons[path] = f"{type(step.module).__name__} shares parameters with {shared[0]}"
        else:
            steps.append(step)
    costly = tuple(layer for layer in formed_layers(model, steps) if layer.params or layer.operations)
    return Count("closed form", own_version(), costly, notes=(SHAPES_RECORDED,) if costly else ())


def _owners(model: nn.Module) -> dict[int, str]:
    owners: dict[int, str] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), path)
    return owners


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}." if outer else "")


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
    count, _, notes = count_run(network, example, Watcher)
    if count.uncounted:
        names = ", ".join(count.uncounted)
        notes = (*notes, f"MACs of unknown operators are missing: {names} (see register_operator)")
    return count, notes


def recorded_work(network: nn.Module, example: Example) -> RecordedWork:
    """Run a network and see what its layers do; it is left as it was found.

    The calls are those of a real run, which the clock repeats: fused operators and values may choose other modules
    than the run that counts.

    Raises:
        Whatever the network's forward raises.
    """
    network = materialised(network, example)
    count, notes = counted_macs(network, example)
    seen = _Calls()
    inputs = example.copied()
    with torch.no_grad(), as_found(network, copied_tensor), following(network, seen, only=network.modules()):
        network(*inputs.positional, **inputs.keywords)
    calls = seen.layers()
    paths = dict.fromkeys(call.path for call in calls)
    macs, outside = dict.fromkeys(paths, 0), dict[str, int]()
    for layer in count.layers:
        amount = _macs(layer)
        path = owner(layer.path, paths)
        if path in macs:
            macs[path] += amount
        elif amount:
            outside[layer.path or "the network itself"] = amount
    if outside:
        where = ", ".join(outside)
        notes = (*notes, f"{sum(outside.values()):,} MACs run in functional code between the layers, in {where}")
    return RecordedWork(tuple(calls), macs, count, notes)


@dataclass
class _Seen:
    call: Call
    input_shape: Shape | None
    moved_bytes: int
    encloses: bool = False


class _Calls(Watcher):
    """Every call of a module, with what went in and came out."""

    def __init__(self) -> None:
        self.seen: dict[Call, _Seen] = {}

    def enter(self, call: Call) -> None:
        if call.outer is not None:
            self.seen[call.outer].encloses = True
        first = call.inputs[0] if call.inputs else None
        shape = tuple(first.shape) if isinstance(first, Tensor) else None
        self.seen[call] = _Seen(call, shape, _bytes((*call.inputs, *call.keywords.values())))

    def leave(self, call: Call) -> None:
        self.seen[call].moved_bytes += _bytes(call.output)

    def layers(self) -> list[LayerCall]:
        """The calls of the outermost layers, in order."""
        layers: dict[Call, _Seen] = {}
        inside: set[Call] = set()
        for call, seen in self.seen.items():
            if call.outer in layers or call.outer in inside:
                inside.add(call)
            elif not seen.encloses or as_costed(call.module) is not None:
                layers[call] = seen
        # a module that is a layer in one call and a part of a layer in another cannot be timed by itself
        mixed = {call.module for call in self.seen if call not in layers}
        return [
            LayerCall(call.path, call.module, seen.input_shape, seen.moved_bytes)
            for call, seen in layers.items()
            if call.module not in mixed
        ]


def _bytes(value: Any) -> int:
    tensors = {id(tensor): tensor for tensor in Example((value,)).tensors}
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors.values())
