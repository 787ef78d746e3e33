"""The roofline: what a layer's MACs and bytes allow at best, next to the time that it takes.

Williams, Waterman & Patterson 2009. A layer can be no faster than its arithmetic at the device's peak and no
faster than its traffic at the device's bandwidth; the larger of the two is its ideal time. Traffic is the least
there can be: every input, output and weight once, filters as expanded, nothing in between. Times are of a
forward pass in evaluation mode without gradients.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast

from torch import nn

from e4profile.errors import SettingError, one_of
from e4profile.layers.base import Shape
from e4profile.layers.containers import Step, trace
from e4profile.layers.e4 import Aggregation, Implementation
from e4profile.layers.filter_bank import FilterBankLayer
from e4profile.layers.stock import as_costed
from e4profile.layers.terms import evaluate
from e4profile.ops import IMPLEMENTATIONS
from e4profile.subjects.batches import ModelInputs
from e4profile.subjects.copies import copied
from e4profile.subjects.inputs import Example
from e4profile.witnesses.counts.recorded import CLOSED_FORM, DISPATCH, LayerCall, recorded_work
from e4profile.witnesses.timing.clock import Clock
from e4profile.witnesses.timing.layers import Marks, layer_samples, marks_for
from e4profile.witnesses.timing.measure import clock_for
from e4profile.witnesses.timing.passes import PassSetting, device_named, dtype_name, dtype_named, prepared
from e4profile.witnesses.timing.peaks import Peaks, cached_peaks
from e4profile.witnesses.timing.samples import Samples, StopRule, collect
from e4profile.witnesses.timing.statistics import median, quartiles

Bound = Literal["compute", "memory"]

_MOVES_NOTHING = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)
"""In evaluation mode these hand their input on: no byte moves."""


@dataclass(frozen=True)
class LayerTraffic:
    """The work of one layer for a batch, from its closed form.

    Attributes:
        path: dotted module path.
        layer: class name.
        macs: MACs of the batch.
        bytes: inputs, outputs and weights once each; filters as expanded.
    """

    path: str
    layer: str
    macs: int
    bytes: int

    @property
    def intensity(self) -> float:
        """MACs per byte."""
        return self.macs / self.bytes


@dataclass(frozen=True)
class LayerRoofline:
    """One layer under the roof.

    Attributes:
        traffic: its MACs and bytes.
        measured_s: the median over passes.
        peaks: of the device.
        quartiles_s: between which half of the passes lie; None where they are not known.
    """

    traffic: LayerTraffic
    measured_s: float
    peaks: Peaks
    quartiles_s: tuple[float, float] | None = None

    @property
    def bound(self) -> Bound:
        """What the ideal time is made of."""
        return "compute" if self.traffic.intensity > self.peaks.ridge else "memory"

    @property
    def ideal_s(self) -> float:
        """No implementation that moves every byte at least once is faster on this device."""
        return max(self.traffic.macs / self.peaks.macs_per_s, self.traffic.bytes / self.peaks.bytes_per_s)

    @property
    def achieved(self) -> float:
        """Ideal over measured time: 1 is on the roof.

        Above 1 the data stayed in a cache where memory is the bound; where arithmetic is, the peak is too low.
        """
        return self.ideal_s / self.measured_s

    @property
    def macs_per_s(self) -> float:
        """Measured arithmetic."""
        return self.traffic.macs / self.measured_s


@dataclass(frozen=True)
class Roofline:
    """A network's layers under the roof of a device.

    Attributes:
        name: of the network, with what distinguishes it.
        input_shape: (B, channels, h, w), or that of the first tensor of several inputs.
        peaks: of the device.
        layers: those that move data, in order of execution.
        whole: samples of the whole pass, measured without hooks.
        witness: what gave the MACs: ``closed form``, or ``dispatch`` for a network without one.
        other_macs: MACs between the layers, which only the whole pass has.
        notes: what a reader must know, a sentence each.
    """

    name: str
    input_shape: Shape
    peaks: Peaks
    layers: tuple[LayerRoofline, ...]
    whole: Samples
    witness: str = CLOSED_FORM
    other_macs: int = 0
    notes: tuple[str, ...] = ()

    @property
    def ideal_s(self) -> float:
        """The layers' ideal times added up."""
        return sum(layer.ideal_s for layer in self.layers)

    @property
    def layers_s(self) -> float:
        """The layers' measured times added up; the rest of the pass is between layers (residual sums, ...)."""
        return sum(layer.measured_s for layer in self.layers)


def layer_traffic(step: Step, bytes_per_element: int) -> LayerTraffic | None:
    """The work of one layer, or None for a layer that hands its input on.

    Raises:
        SettingError: when the shape does not fit the layer.
    """
    if isinstance(step.module, _MOVES_NOTHING):
        return None
    cost = step.cost
    moved = math.prod(step.input_shape) + math.prod(step.form.output_shape(step.input_shape))
    elements = moved + max(cost.total_params, _expanded_elements(step))
    return LayerTraffic(step.path, type(step.module).__name__, cost.total_macs, elements * bytes_per_element)


def _expanded_elements(step: Step) -> int:
    """Elements of the filters that the layer's convolutions read; 0 where they read the weights themselves."""
    constant = getattr(step.form, "saved_constant", {})
    filters = {name: term for name, term in constant.items() if name.endswith("filters")}
    if filters:
        return sum(evaluate(filters, step.dimensions).values())
    return math.prod(step.module.filter_shape) if isinstance(step.module, FilterBankLayer) else 0


def network_traffic(model: nn.Module, input_shape: Shape, bytes_per_element: int) -> list[tuple[Step, LayerTraffic]]:
    """Every layer that moves data, in order of execution; nothing runs.

    Raises:
        SettingError: for a part without a closed form.
    """
    _, steps = trace(model, input_shape)
    found = ((step, layer_traffic(step, bytes_per_element)) for step in steps)
    return [(step, traffic) for step, traffic in found if traffic is not None]


@dataclass(frozen=True)
class Work:
    """What the layers of a network do in one pass.

    Attributes:
        layers: those that move data, in order of execution.
        calls: the modules as they run, each with the position of its layer; one that runs twice stands here twice.
        witness: what gave the MACs.
        other_macs: between the layers.
        notes: what a reader must know.
    """

    layers: tuple[LayerTraffic, ...]
    calls: tuple[tuple[nn.Module, int], ...]
    witness: str = CLOSED_FORM
    other_macs: int = 0
    notes: tuple[str, ...] = ()


def network_work(model: nn.Module, example: Example, bytes_per_element: int) -> Work:
    """The work of every layer from the closed form, or from what runs where there is none.

    Raises:
        Whatever the model's forward raises.
    """
    shape = example.single_shape
    if shape is not None:
        with suppress(SettingError):
            found = network_traffic(model, shape, bytes_per_element)
            calls = tuple((step.module, position) for position, (step, _) in enumerate(found))
            return Work(tuple(traffic for _, traffic in found), calls)
    recorded = recorded_work(model, example)
    layers: dict[str, LayerTraffic] = {}
    kept: list[tuple[nn.Module, str]] = []
    for call in recorded.calls:
        moved = call.moved_bytes + _weight_bytes(call, bytes_per_element)
        if isinstance(call.module, _MOVES_NOTHING) or not moved:
            continue
        before = layers.get(call.path)
        layers[call.path] = LayerTraffic(
            call.path,
            type(call.module).__name__,
            recorded.macs[call.path],
            moved + (0 if before is None else before.bytes),
        )
        kept.append((call.module, call.path))
    positions = {path: position for position, path in enumerate(layers)}
    return Work(
        tuple(layers.values()),
        tuple((module, positions[path]) for module, path in kept),
        DISPATCH,
        recorded.total_macs - sum(layer.macs for layer in layers.values()),
        recorded.notes,
    )


def _weight_bytes(call: LayerCall, bytes_per_element: int) -> int:
    """Every weight once, or the filters that the closed form says are expanded from it."""
    own = sum(weight.numel() * weight.element_size() for weight in call.module.parameters())
    form = as_costed(call.module)
    if form is None or call.input_shape is None:
        return own
    with suppress(SettingError):
        expanded = _expanded_elements(Step(call.path, call.module, form, call.input_shape))
        return max(own, expanded * bytes_per_element)
    return own


def with_implementation(model: nn.Module, implementation: str) -> nn.Module:
    """A copy of a network whose aggregations run another implementation, to see before and after.

    Raises:
        UnknownNameError: for an implementation that does not exist.
        SettingError: for a network without an aggregation.
    """
    one_of("implementation", implementation, IMPLEMENTATIONS)
    twin = copied(model)
    aggregations = [module for module in twin.modules() if isinstance(module, Aggregation)]
    if not aggregations:
        raise SettingError("this network has no aggregation, so there is no other implementation of it")
    for aggregation in aggregations:
        aggregation.implementation = cast(Implementation, implementation)
    return twin


def measure_roofline(
    model: nn.Module,
    image_shape: ModelInputs,
    *,
    name: str = "",
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = 1,
    peaks: Peaks | None = None,
    rule: StopRule | None = None,
    clock: Clock | None = None,
    marks: Marks | None = None,
) -> Roofline:
    """Put every layer of a network under the device's roof; the network is left as it was found.

    Args:
        model: with values.
        image_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        name: for the table and the plot; the class name when empty.
        batch_size: B; None leaves the inputs as they are, and a shape at one image.
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        threads: intra-operator threads; None keeps what is set.
        peaks: of the device; from the cache, or measured, when None.
        rule: for the samples of the whole pass; its times also limit the passes with marks.
        clock: instead of the device's own.
        marks: instead of the device's own.

    Raises:
        SettingError: for a network without a layer that moves data, or peaks of another device or dtype.
        MeasurementError: when the pass cannot run.
    """
    where, kind = device_named(device), dtype_name(dtype)
    rule = rule or StopRule()
    peaks = peaks or cached_peaks(device, kind, threads=threads)
    if (peaks.device, peaks.dtype) != (where.type, kind):
        raise SettingError(f"peaks of {peaks.device} in {peaks.dtype} are no roof for {where.type} in {kind}")
    setting = PassSetting(device=device, dtype=kind, batch_size=batch_size, threads=threads)
    with prepared(model, image_shape, setting) as taken:
        found = network_work(taken.network, taken.example, dtype_named(kind).itemsize)
        if not found.layers:
            raise SettingError("no layer of this network moves data, so there is nothing to put under the roof")
        whole = collect([taken.work], clock or clock_for(where), rule)[0]
        samples = layer_samples(
            [module for module, _ in found.calls],
            taken.work,
            marks or marks_for(where),
            min_run_time_s=rule.min_run_time_s,
            max_run_time_s=rule.max_run_time_s,
        )
        shape = taken.input_shape
    # of a layer that is called several times, all calls of one pass together
    by_layer = [[0.0] * len(samples[0]) for _ in found.layers]
    for (_, position), calls in zip(found.calls, samples, strict=True):
        by_layer[position] = [before + call_s for before, call_s in zip(by_layer[position], calls, strict=True)]
    layers = tuple(
        LayerRoofline(traffic, median(seconds), peaks, quartiles(seconds))
        for traffic, seconds in zip(found.layers, by_layer, strict=True)
    )
    return Roofline(
        name or type(model).__name__, shape, peaks, layers, whole, found.witness, found.other_macs, found.notes
    )
