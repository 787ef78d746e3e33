"""The errors of one network in one state: of its output, and of each layer on what it receives in the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.groups import Group
from e4profile.subjects.as_found import random_state_kept, refuse_unrun
from e4profile.subjects.inputs import Example
from e4profile.witnesses.walk import Call, Watcher, following

Errors: TypeAlias = "tuple[float | None, ...]"
"""Relative errors by element; None for an element that was not compared."""

FIELDS = ("regular", "trivial", "invariant")
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class Fields(NamedTuple):
    """Field types and group of a layer that can be compared by itself; no group where any will do."""

    into: str
    out: str
    group: Group | None


def group_of(module: nn.Module) -> Group | None:
    """The group that a layer says is its own."""
    group = getattr(module, "group", None)
    return group if isinstance(group, Group) else None


def same_motion(group: Group, acting: Group, element: int) -> int | None:
    """The element of ``group`` that is the same motion, or None."""
    rotation, mirror = acting.split(element)
    turned, rest = divmod(rotation * group.rotations, acting.rotations)
    if rest or (mirror and not group.mirrors):
        return None
    return turned + (group.rotations if mirror else 0)


def _move(features: Tensor, acting: Group, element: int, field: str, own: Group | None) -> Tensor | None:
    """Act on features; None where a regular field's group lacks the element."""
    if field == "invariant" or features.dim() != 4:
        return features
    if field == "regular":
        own = own or acting
        inner = same_motion(own, acting, element)
        if inner is None:
            return None
        if features.shape[1] % own.order:
            raise SettingError(f"group order (={own.order}) must divide the channels (={features.shape[1]})")
        fields = features.unflatten(1, (-1, own.order))[:, :, list(own.regular_permutation(inner))]
        return acting.act_on_grid(fields, element).flatten(1, 2)
    return acting.act_on_grid(features, element)


class Probe(Watcher):
    """One network in one state: the errors of its layers and of its output."""

    def __init__(self, network: nn.Module, acting: Group, field_in: str, field_out: str | None) -> None:
        self.network, self.acting = network, acting
        self.field_in, self.field_out = field_in, field_out
        self.errors: dict[str, list[float | None]] = {}
        self.reasons: dict[str, str | None] = {}
        self.kinds: dict[str, str] = {}
        self.groups: set[Group] = set()
        self.constant = False
        self._made: dict[int, tuple[Tensor, str, Group | None]] = {}
        self._busy = False
        modules = dict(network.named_modules())
        self._compared = {module: fields for module in modules.values() if (fields := _fields(module)) is not None}
        compared = [path for path, module in modules.items() if module in self._compared]
        self.not_compared = tuple(
            f"{path or '(network)'} ({type(module).__name__})"
            for path, module in modules.items()
            if next(module.parameters(recurse=False), None) is not None
            and not any(path == one or path.startswith(f"{one}.") for one in compared)
        )

    def run(self, inputs: Example) -> Errors:
        """The output's errors by element; the layers' are in ``errors`` afterwards."""
        with torch.no_grad(), random_state_kept():
            with following(self.network, self, only=self._compared):
                output = self._call(inputs)
            found = [self._output_error(inputs, output, element) for element in self.acting.elements]
            generator = torch.Generator().manual_seed(1)
            other = self._call(inputs.map(lambda tensor: noise_like(tensor, generator)))
        self.constant = all(
            torch.equal(first, second)
            for first, second in zip(outputs_of(output), outputs_of(other), strict=True)
            if first.shape == second.shape
        )
        self._made.clear()
        return tuple(found)

    def _call(self, inputs: Example) -> Any:
        copied = inputs.map(torch.clone)
        output = self.network(*copied.positional, **copied.keywords)
        refuse_unrun(output)
        if not outputs_of(output):
            raise SettingError(f"forward returned no tensor ({type(output).__name__}), so there is nothing to compare")
        return output

    def _output_error(self, inputs: Example, output: Any, element: int) -> float | None:
        moved = inputs.map(lambda tensor: _moved_input(tensor, self.acting, element, self.field_in))
        errors = []
        for before, after in zip(outputs_of(self._call(moved)), outputs_of(output), strict=True):
            _, field, own = self._made.get(id(after), (after, "trivial", None))
            expected = _move(after, self.acting, element, self.field_out or field, own)
            if expected is not None:
                errors.append(_relative(before, expected))
        return worst_of(errors)

    def leave(self, call: Call) -> None:
        """Compare a layer on what it received."""
        inputs, output = call.inputs, call.output
        if self._busy or not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return
        features, module, fields = inputs[0], call.module, self._compared[call.module]
        if fields.group is not None:
            self.groups.add(fields.group)
            self._made[id(output)] = (output, fields.out, fields.group)
        self._busy = True
        try:
            found = [
                self._layer_error(lambda moved: module(moved, *inputs[1:]), features, output, element, fields)
                for element in self.acting.elements
            ]
        finally:
            self._busy = False
        before = self.errors.get(call.path, [None] * len(found))
        self.errors[call.path] = [worst_of(pair) for pair in zip(before, found, strict=True)]
        self.kinds[call.path] = type(module).__name__
        inexact_on = getattr(module, "inexact_on", None)
        self.reasons[call.path] = inexact_on(tuple(features.shape)) if callable(inexact_on) else None

    def _layer_error(
        self, layer: Callable[[Tensor], Any], features: Tensor, output: Tensor, element: int, fields: Fields
    ) -> float | None:  # fmt: skip
        own = fields.group
        if own is not None and same_motion(own, self.acting, element) is None:
            return None
        moved = _move(features, self.acting, element, fields.into, own)
        expected = _move(output, self.acting, element, fields.out, own)
        # a copy: a layer may write to its input
        return None if moved is None or expected is None else _relative(layer(moved.clone()), expected)


def _fields(module: nn.Module) -> Fields | None:
    if isinstance(module, _POOLS):
        # one map at a time: whatever the field, the group axis only rearranges equal maps
        return Fields("trivial", "trivial", None)
    into, out = getattr(module, "field_in", None), getattr(module, "field_out", None)
    group = group_of(module)
    if group is None or into not in FIELDS or out not in FIELDS:
        return None
    return Fields(str(into), str(out), group)


def _moved_input(tensor: Tensor, acting: Group, element: int, field: str) -> Tensor:
    moved = _move(tensor, acting, element, field, None)
    return tensor if moved is None else moved


def _relative(found: Any, expected: Tensor) -> float:
    """The largest difference over the largest value; infinite where shapes differ or a value is not finite."""
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return math.inf
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found, expected) else 1.0
    if expected.numel() == 0:
        return 0.0
    error = float((found - expected).abs().max()) / (float(expected.abs().max()) or 1.0)
    return error if math.isfinite(error) else math.inf


def outputs_of(output: Any) -> list[Tensor]:
    """Every tensor of an output, also inside dicts and tuples."""
    return Example((output,)).tensors


def noise_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Normal random numbers in the place of a floating tensor; any other tensor itself."""
    if not tensor.is_floating_point():
        return tensor
    return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)


def worst_of(errors: Sequence[float | None]) -> float | None:
    """The largest error there is."""
    known = [error for error in errors if error is not None]
    return max(known) if known else None
