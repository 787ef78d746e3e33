"""The closed form of layers inside somebody else's forward: terms evaluated at shapes recorded from the run.

Weaker than ``count_closed_form``: the sizes come from the run that the form is compared with, so a wrong padding in
the forward goes unnoticed. Every count says so (``SHAPES_RECORDED``). Parts that pass shapes on themselves are
still followed by their topology, from the shape at their door.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from e4profile.errors import SettingError
from e4profile.layers.base import Costed, Shape, layer_cost
from e4profile.layers.containers import Step, Traced, trace
from e4profile.layers.stock import as_costed
from e4profile.witnesses.counts.base import Count
from e4profile.witnesses.counts.closed_form import layer_counts

SHAPES_RECORDED = "closed form: shapes recorded from the run, not implied by the topology"

_PROTOCOL = ("params", "macs", "elements", "kinds", "printed", "dimensions", "output_shape")
_OWN_TERMS = ("macs", "elements", "dimensions", "printed")


@dataclass
class Recording:
    """What was seen while a model ran.

    Attributes:
        steps: each costed layer that ran, outermost only, with the shape that it received.
        reasons: why a layer that looks costed has no closed form, by path.
    """

    steps: list[Step] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


@contextmanager
def recording(model: nn.Module) -> Iterator[Recording]:
    """Record the shapes at the door of every costed layer while the body runs the model."""
    recorder = _Recorder(model)
    handles = [
        register_module_forward_pre_hook(recorder.enter),
        register_module_forward_hook(recorder.leave, always_call=True),
    ]
    try:
        yield recorder.found
    finally:
        for handle in handles:
            handle.remove()


class _Recorder:
    def __init__(self, model: nn.Module) -> None:
        self.paths = {module: path for path, module in model.named_modules()}
        self.found = Recording()
        # the modules that are running, each with whether it is inside a layer that is already costed
        self.stack: list[tuple[nn.Module, bool]] = []

    def enter(self, module: nn.Module, inputs: Sequence[Any]) -> None:
        if module not in self.paths:
            return
        inside = self.stack[-1][1] if self.stack else False
        self.stack.append((module, inside or self._cost(module, inputs)))

    def leave(self, module: nn.Module, _: Any, __: Any) -> None:
        if module in self.paths and self.stack:
            self.stack.pop()

    def _cost(self, module: nn.Module, inputs: Sequence[Any]) -> bool:
        path = self.paths[module]
        form = as_costed(module)
        if form is None and not isinstance(module, Traced):
            if missing := _missing(module):
                self.found.reasons[path] = missing
            return False
        shape = _shape(module, inputs)
        if shape is None:
            self.found.reasons[path] = f"{type(module).__name__}: its first input is not a tensor"
            return False
        scope = next((outer for outer, _ in reversed(self.stack) if hasattr(outer, "operation_kind")), None)
        if scope is not None and type(module) is nn.Linear:
            kind = scope.operation_kind
            self.found.reasons[path] = f"Linear: {self.paths[scope]} says that its products are {kind}"
            return False
        try:
            if isinstance(module, Traced):
                _, steps = trace(module, shape, path)
                for step in steps:
                    layer_cost(step.form, step.input_shape)
            else:
                layer_cost(_costed(form), shape)
                steps = [Step(path, module, _costed(form), shape)]
        except SettingError as error:
            # the parts of a container are costed one by one
            if not isinstance(module, Traced):
                self.found.reasons[path] = str(error)
            return False
        self.found.steps += steps
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
    if not inputs or not isinstance(inputs[0], Tensor):
        return None
    shape = tuple(inputs[0].shape)
    if type(module) is nn.Linear and len(shape) != 2:
        # a linear map over the last axis, once per leading position
        return (math.prod(shape[:-1]), shape[-1])
    return shape


def count_recorded(model: nn.Module, found: Recording) -> Count:
    """The closed form of the layers that ran, at the recorded shapes.

    Args:
        model: the model that ran.
        found: what ``recording`` saw.

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
    costly = tuple(layer for layer in layer_counts(model, steps) if layer.params or layer.operations)
    return Count("closed form", version("e4profile"), costly, notes=(SHAPES_RECORDED,) if costly else ())


def _owners(model: nn.Module) -> dict[int, str]:
    owners: dict[int, str] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), path)
    return owners


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}." if outer else "")
