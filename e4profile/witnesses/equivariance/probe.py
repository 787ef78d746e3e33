"""The errors of one network in one state: of its output, and of each layer on what it receives in the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import FiniteGroup, Group, as_group, square_group
from e4profile.groups.protocol import NoSuchMap
from e4profile.subjects.as_found import random_state_kept
from e4profile.subjects.inputs import Example
from e4profile.subjects.refusals import refuse_unrun
from e4profile.witnesses.beat import beat
from e4profile.witnesses.equivariance.fields import (
    FIELDS,
    Declared,
    Reading,
    act,
    fields_by_index,
    group_axis,
    is_field,
    moved_maps,
    of_the_map,
    paths_of,
    readings_as,
    same_motion,
)
from e4profile.witnesses.walk import Call, Watcher, following

Errors: TypeAlias = "tuple[float | None, ...]"
"""Relative errors by element; None for an element that was not compared."""

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_MOST_CHANNELS, _FEW, _FITTED = 1024, 64, 1e-6
_LARGER = (Group(4), Group(8), Group(4, mirrors=True), Group(8, mirrors=True))


class Fields(NamedTuple):
    """Field types and group of a layer that can be compared by itself; the group that acts where it names none."""

    into: str
    out: str
    group: FiniteGroup | None


class Output(NamedTuple):
    """One tensor that a network returned.

    Attributes:
        shape: with the batch.
        readings: the errors by element under each reading that may be, the likeliest first.
        given: whether the reading was stated or declared, so that there is one.
        open: what else it may be, and the remedy, where it is equivariant under no reading; or None.
        empty: why a small error shows nothing, or None.
    """

    shape: tuple[int, ...]
    readings: dict[Reading, Errors]
    given: bool
    open: str | None
    empty: str | None


def group_of(module: nn.Module) -> FiniteGroup | None:
    """The group that a layer says is its own."""
    group = getattr(module, "group", None)
    return as_group(group) if isinstance(group, FiniteGroup) else None


def readings_of(shape: Sequence[int], owns: Sequence[FiniteGroup]) -> list[Reading]:
    """What a tensor of this shape may be, the likeliest first.

    Args:
        shape: with the batch.
        owns: groups of which it may be a regular field; the one that acts last.
    """
    if len(shape) < 3:
        return [Reading("invariant", owns[-1])]
    regular = [Reading("regular", own) for own in owns if own.order > 1 and group_axis(shape, own.order) is not None]
    others = [Reading("trivial", owns[-1]), *regular, Reading("invariant", owns[-1])]
    # an axis of its own shows a regular field
    return sorted(others, key=lambda one: one.field != "regular") if len(shape) == 5 else others


class Probe(Watcher):
    """One network in one state: the errors of its layers and of its output.

    Args:
        network: in evaluation mode.
        acting: the group that acts.
        inputs: what each tensor of the inputs is taken for, by position; one that is not named does not move.
        field_out: the type of the maps among the outputs, or of all outputs where there is no map; the fields of some
            by name, or of each in order; None takes what the layer says that made an output, and else every type that
            its shape allows.
        tolerance: the largest error that is rounding.
    """

    def __init__(
        self, network: nn.Module, acting: FiniteGroup, inputs: dict[int, Reading], field_out: Declared, tolerance: float
    ) -> None:
        self.network, self.acting = network, acting
        self.inputs, self.field_out, self.tolerance = inputs, field_out, tolerance
        self._unmapped: NoSuchMap | None
        self.owns = field_groups(network, acting)
        self.errors: dict[str, list[float | None]] = {}
        self.reasons: dict[str, str | None] = {}
        self.kinds: dict[str, str] = {}
        self.groups: set[FiniteGroup] = set()
        self._made: dict[int, tuple[Tensor, Reading]] = {}
        self._busy, self._unmapped = False, None
        modules = dict(network.named_modules())
        self._compared = {module: fields for module in modules.values() if (fields := _fields(module)) is not None}
        compared = [path for path, module in modules.items() if module in self._compared]
        self.not_compared = tuple(
            f"{path or '(network)'} ({type(module).__name__})"
            for path, module in modules.items()
            if next(module.parameters(recurse=False), None) is not None
            and not any(path == one or path.startswith(f"{one}.") for one in compared)
        )

    def run(self, inputs: Example) -> list[Output]:
        """What the network returned; the layers' errors are in ``errors`` afterwards."""
        with torch.no_grad(), random_state_kept():
            with following(self.network, self, only=self._compared):
                returned = self._call(inputs)
            found = outputs_of(returned)
            moved = [outputs_of(self._call(self._moved(inputs, element))) for element in self.acting.elements]
            other = outputs_of(self._call(self._another(inputs)))
        if len({len(found), len(other), *map(len, moved)}) > 1:
            raise SettingError("forward returns a number of tensors that depends on its input: nothing to compare")
        still = [self._unmoved(inputs, element) for element in self.acting.elements]
        stated = self._stated(list(paths_of(returned)), found)
        made = [
            self._output(one, [by_element[i] for by_element in moved], other[i], still, stated.get(i))
            for i, one in enumerate(found)
        ]
        self._made.clear()
        return made

    def _call(self, inputs: Example) -> Any:
        beat()
        copied = inputs.map(torch.clone)
        output = self.network(*copied.positional, **copied.keywords)
        refuse_unrun(output)
        if not outputs_of(output):
            raise SettingError(f"forward returned no tensor ({type(output).__name__}), so there is nothing to compare")
        return output

    def _moved(self, inputs: Example, element: int) -> Example:
        def moved(index: int, tensor: Tensor) -> Tensor:
            reading = self.inputs.get(index)
            acted = None if reading is None else reading.moved(tensor, self.acting, element)
            return tensor if acted is None else acted

        return _by_index(inputs, moved)

    def _unmoved(self, inputs: Example, element: int) -> bool:
        """Whether an element leaves the inputs as they are, so that it shows nothing."""
        pairs = zip(inputs.tensors, self._moved(inputs, element).tensors, strict=True)
        return element != 0 and all(torch.equal(one, other) for one, other in pairs)

    def _another(self, inputs: Example) -> Example:
        """Other numbers: random ones, and those of a map of whole numbers in another order."""
        generator = torch.Generator().manual_seed(1)

        def another(index: int, tensor: Tensor) -> Tensor:
            if index not in self.inputs or tensor.is_floating_point():
                return noise_like(tensor, generator)
            order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
            return tensor.flatten()[order].reshape(tensor.shape)

        return _by_index(inputs, another)

    def _stated(self, paths: Sequence[str], outputs: Sequence[Tensor]) -> dict[int, str]:
        """What is said of outputs; a type that is said of all is that of the maps, where there are maps."""
        maps, field = any(one.dim() > 2 for one in outputs), self.field_out
        stated = fields_by_index(field, paths, "--field-out")
        if field not in FIELDS:
            return stated
        return {
            i: field if one.dim() > 2 or field == "regular" else "invariant"
            for i, one in enumerate(outputs)
            if one.dim() > 2 or not maps
        }

    def _output(
        self, output: Tensor, moved: Sequence[Tensor], other: Tensor, still: Sequence[bool], stated: str | None
    ) -> Output:
        made = self._made.get(id(output))
        shape = tuple(output.shape)
        if stated is not None:
            readings = readings_as(stated, shape, self.owns)
        elif made is not None:
            readings = [made[1]]
        else:
            readings = readings_of(shape, self.owns)
        errors: dict[Reading, Errors] = {}
        unmapped: NoSuchMap | None = None
        for reading in readings:
            try:
                expected = [reading.moved(output, self.acting, element) for element in self.acting.elements]
            except NoSuchMap as error:
                unmapped = error
                continue
            errors[reading] = tuple(
                None if one is None or unmoved else self._relative(found, one, reading)
                for one, found, unmoved in zip(expected, moved, still, strict=True)
            )
        if unmapped is not None and not errors:
            raise unmapped
        holds = any((worst_of(found) or 0.0) < self.tolerance for found in errors.values())
        return Output(
            shape, errors, stated is not None or made is not None,
            None if holds or made is not None else self._open(output, moved, stated),
            self._empty(output, min(self._relative(other, output, reading) for reading in errors)),
        )  # fmt: skip

    def _relative(self, found: Tensor, expected: Tensor, reading: Reading) -> float:
        """The error on the map of the group that acts; infinite where the arrays differ in shape."""
        if found.shape != expected.shape:
            return math.inf
        on_map = [of_the_map(one, self.acting, reading.field, reading.own) for one in (found, expected)]
        return _relative(on_map[0], on_map[1])

    def _open(self, output: Tensor, moved: Sequence[Tensor], stated: str | None) -> str | None:
        if stated is None:
            if all(map(self._mixed, [output] * len(moved), moved, self.acting.elements)):
                return (
                    f"give --field-out (each motion permutes or mixes the channels of the output {tuple(output.shape)})"
                )
            return None
        for own in _LARGER if stated == "regular" else ():
            if group_axis(output.shape, own.order) is not None and _contains(own, self.acting):
                expected = [act(output, self.acting, one, "regular", own) for one in self.acting.elements]
                if all(_relative(found, one) < self.tolerance for found, one in zip(moved, expected, strict=True)):
                    return f"set group = {own!r} on the network, if the output is a field of {own.name}"
        return None

    def _empty(self, output: Tensor, change: float) -> str | None:
        # an error below the tolerance could then be a hundredth of all that the input changes
        if change <= 100 * self.tolerance:
            return "the output does not depend on the input"
        if not (output.is_floating_point() or output.is_complex()) and output.numel() < _FEW:
            return f"{output.numel()} whole number{'s' * (output.numel() > 1)} may be equal by chance"
        return None

    def _mixed(self, output: Tensor, moved: Tensor, element: int) -> bool:
        """Whether every channel of f(g x) is some channel of f(x), turned with the grid where there is one.

        In maps (B, channels, h, w), such as a vector field, it may also be a sum of all of them.
        """
        try:
            turned = moved_maps(output, self.acting, element) if output.dim() > 3 else output
        except NoSuchMap:
            return False
        if turned.shape != moved.shape or output.dim() < 2 or not output.is_floating_point():
            return False
        last = output.dim() - (2 if output.dim() > 3 else 0)
        before, after = (one.flatten(1, last - 1).transpose(0, 1).flatten(1) for one in (turned, moved))
        if len(before) > _MOST_CHANNELS or not bool(torch.cat([before, after]).isfinite().all()):
            return False
        if output.dim() == 4 and before.shape[1] >= 2 * len(before):
            fitted = (
                before.T @ torch.linalg.lstsq(before.T, after.T, driver="gelsd" if before.is_cpu else None).solution
            )
            return _relative(fitted, after.T) < max(self.tolerance, _FITTED)
        nearest = torch.cdist(after, before, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        return _relative(after, before[nearest]) < self.tolerance

    def leave(self, call: Call) -> None:
        """Compare a layer on what it received."""
        inputs, output = call.inputs, call.output
        if self._busy or not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return
        features, module, fields = inputs[0], call.module, self._compared[call.module]
        if not isinstance(module, _POOLS):
            self._made[id(output)] = (output, Reading(fields.out, fields.group or self.acting))
        if fields.group is not None:
            self.groups.add(fields.group)
        self._busy, self._unmapped = True, None
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
        reason = inexact_on(tuple(features.shape)) if callable(inexact_on) else None
        if reason is None and self._unmapped is not None:
            reason = str(self._unmapped)
        if reason is None and (worst_of(found) or 0.0) >= self.tolerance:
            inside = of_the_map(features, self.acting, fields.into, fields.group or self.acting)
            if inside.count_nonzero() < features.count_nonzero():
                reason = f"it reads what lies outside of the map of {self.acting.name}, which must be 0"
        self.reasons[call.path] = reason

    def _layer_error(
        self, layer: Callable[[Tensor], Any], features: Tensor, output: Tensor, element: int, fields: Fields
    ) -> float | None:  # fmt: skip
        beat()
        own = fields.group or self.acting
        if fields.group is not None and same_motion(own, self.acting, element) is None:
            return None
        reading = Reading(fields.out, own)
        try:
            moved = Reading(fields.into, own).moved(features, self.acting, element)
            expected = reading.moved(output, self.acting, element)
        except NoSuchMap as error:
            # such as a torus with a margin, which moves as a whole only
            self._unmapped = error
            return None
        if moved is None or expected is None:
            return None
        # a copy: a layer may write to its input
        found = layer(moved.clone())
        return self._relative(found, expected, reading) if isinstance(found, Tensor) else math.inf


def field_groups(network: nn.Module, acting: FiniteGroup) -> list[FiniteGroup]:
    """Groups of a tensor that may be a regular field: the network's that have every element, then the acting one."""
    named = dict.fromkeys(own for module in network.modules() for own in (group_of(module), _fibres(module)) if own)
    return [*(own for own in named if own != acting and _contains(own, acting)), acting]


def _fibres(module: nn.Module) -> FiniteGroup | None:
    """The group of the fields that a module of escnn or e2cnn returns."""
    space = getattr(getattr(module, "out_type", None), "gspace", None)
    name = getattr(getattr(space, "fibergroup", None), "name", None)
    try:
        return None if name is None else square_group(name, "a fibre")
    except (UnknownNameError, SettingError):  # such as SO(2), of which nothing is a regular field
        return None


def _contains(own: FiniteGroup, acting: FiniteGroup) -> bool:
    return all(same_motion(own, acting, element) is not None for element in acting.elements)


def inputs_read(
    inputs: Example, owns: Sequence[FiniteGroup], declared: Declared
) -> tuple[dict[int, Reading], str | None]:  # fmt: skip
    """What the tensors of the inputs are taken for, by position, and why that is not known, or None.

    Maps (B, h, w) move where there are none but these, or where they are as large as the others.

    Args:
        inputs: of one call.
        owns: groups of which an input may be a regular field; the one that acts last.
        declared: as stated; a type for all maps, or fields by name or in order, of which the others stay as they are;
            None takes (B, A, c, h, w) and (B, c, A, h, w) for regular fields, others for trivial ones.

    Raises:
        SettingError: where nothing can be moved.
    """
    shapes = [tuple(tensor.shape) for tensor in inputs.tensors]
    if declared is not None and declared not in FIELDS:
        paths = [*paths_of(inputs.positional), *paths_of(dict(inputs.keywords))]
        stated = fields_by_index(declared, paths, "--field-in")
        return {i: readings_as(one, shapes[i], owns)[0] for i, one in stated.items() if one != "invariant"}, None
    field = None if declared is None else str(declared)
    grids = {shape[-2:] for shape in shapes if len(shape) > 3}
    maps = {
        i: one for i, one in enumerate(shapes) if len(one) > 3 or (len(one) == 3 and (one[-2:] in grids or not grids))
    }
    if field == "regular" and not maps:
        maps = {i: one for i, one in enumerate(shapes) if len(one) == 2}
    if not maps:
        raise SettingError(
            f"nothing to move: no input (B, channels, h, w), (B, c, A, h, w) or (B, h, w) among ({inputs})"
        )
    found, unread, acting = {}, None, owns[-1]
    for index, shape in maps.items():
        fitting = [own for own in owns if group_axis(shape, own.order) is not None]
        if field is not None or len(shape) != 5:
            own = next(iter(fitting), acting) if field == "regular" else acting
            found[index] = Reading(field or "trivial", own)
            continue
        axes = [(own, axis) for own in owns for axis in (1, 2) if shape[axis] == own.order > 1]
        if len(axes) > 1 or (not axes and any(size % acting.order == 0 for size in shape[1:3] if acting.order > 1)):
            unread = f"give --field-in (the input {shape} may have its group axis at 1 or 2, or none)"
        found[index] = Reading("regular", axes[0][0]) if axes else Reading("trivial", acting)
    return found, unread


def _fields(module: nn.Module) -> Fields | None:
    if isinstance(module, _POOLS):
        # one map at a time: whatever the field, the group axis only rearranges equal maps
        return Fields("trivial", "trivial", None)
    into, out = getattr(module, "field_in", None), getattr(module, "field_out", None)
    return Fields(str(into), str(out), group_of(module)) if is_field(into) and is_field(out) else None


def _by_index(inputs: Example, change: Callable[[int, Tensor], Tensor]) -> Example:
    numbers: Iterator[int] = iter(range(len(inputs.tensors)))
    return inputs.map(lambda tensor: change(next(numbers), tensor))


def _relative(found: Any, expected: Tensor) -> float:
    """The largest difference over the largest value; infinite where shapes differ or a value is not finite."""
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return math.inf
    if not (expected.is_floating_point() or expected.is_complex()):
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
