"""The timer: one pass of one network, or two networks in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from e4profile.subjects.batches import ModelInputs
from e4profile.witnesses.environment import environment
from e4profile.witnesses.timing.clock import Clock, CpuClock, EventClock, Work
from e4profile.witnesses.timing.passes import PassSetting, Prepared, device_named, prepared
from e4profile.witnesses.timing.samples import Samples, StopRule, TimeRecord, collect
from e4profile.witnesses.timing.statistics import RatioEstimate, compare_pairs


@dataclass(frozen=True)
class Timed:
    """A network to be compared, with its name and its inputs, for example the shape of one image."""

    name: str
    model: nn.Module
    input: ModelInputs


@dataclass(frozen=True)
class Comparison:
    """Two networks timed in turn.

    Attributes:
        first: the one the verdict is about.
        second: the one it is held against.
        estimate: the ratio first over second with its interval, and the verdict.
    """

    first: TimeRecord
    second: TimeRecord
    estimate: RatioEstimate


def clock_for(device: str | torch.device) -> Clock:
    """The clock of a device.

    Raises:
        SettingError: for a device without one.
    """
    found = device_named(device)
    if found.type == "cpu":
        return CpuClock()
    from e4profile.witnesses.timing.cuda import CudaEvents

    return EventClock(CudaEvents(found))


def measure_time(
    model: nn.Module,
    input: ModelInputs,
    setting: PassSetting | None = None,
    rule: StopRule | None = None,
    *,
    name: str = "",
    clock: Clock | None = None,
) -> TimeRecord:
    """Time one pass of one network; the network is left as it was found, because a copy runs.

    Args:
        model: with values, on any device.
        input: the images (B, channels, h, w), the shape (channels, h, w) of one image, or other inputs (see
            ``e4profile.subjects.batches.ModelInputs``).
        setting: how the pass runs.
        rule: when to stop.
        name: for the record; the class name when empty.
        clock: instead of the device's own.

    Raises:
        SettingError: for values that do not fit together.
        MeasurementError: when nothing could be measured.
    """
    setting = setting or PassSetting()
    clock = clock or clock_for(setting.device)
    with prepared(model, input, setting) as taken:
        return _record(name or type(model).__name__, taken, collect([taken.work], clock, rule)[0], clock)


def compare_interleaved(
    a: Timed, b: Timed, setting: PassSetting | None = None, rule: StopRule | None = None, clock: Clock | None = None
) -> Comparison:
    """Time two networks in turn and say whether the first is faster, slower, or neither can be said.

    Sampling stops when half the interval of the ratio is within the rule's relative noise.

    Raises:
        SettingError: for values that do not fit together.
        MeasurementError: when nothing could be measured.
    """
    setting = setting or PassSetting()
    clock = clock or clock_for(setting.device)
    with prepared(a.model, a.input, setting) as first, prepared(b.model, b.input, setting) as second:
        samples, estimate = compare_works(first.work, second.work, clock, rule)
        return Comparison(
            _record(a.name, first, samples[0], clock), _record(b.name, second, samples[1], clock), estimate
        )


def compare_works(
    first: Work, second: Work, clock: Clock | None = None, rule: StopRule | None = None
) -> tuple[list[Samples], RatioEstimate]:
    """Time any two pieces of work in turn: their samples and the ratio first over second.

    Raises:
        MeasurementError: when nothing could be measured.
    """

    def ratio_noise(kept: Sequence[Sequence[float]]) -> float:
        estimate = compare_pairs(kept[0], kept[1])
        return max(estimate.ratio - estimate.low, estimate.high - estimate.ratio) / estimate.ratio

    samples = collect([first, second], clock or CpuClock(), rule, noise=ratio_noise)
    return samples, compare_pairs(samples[0].seconds, samples[1].seconds)


def _record(name: str, taken: Prepared, samples: Samples, clock: Clock) -> TimeRecord:
    setting = taken.setting
    return TimeRecord(
        name=name,
        pass_=setting.pass_,
        mode=setting.mode,
        loss=taken.loss,
        device=torch.device(setting.device).type,
        dtype=setting.dtype,
        input_shape=taken.input_shape,
        inputs="" if taken.example.single_shape is not None else str(taken.example),
        compiled=setting.compile,
        graphed=setting.graphs,
        threads=taken.threads,
        clock=clock.name,
        samples=samples,
        environment=environment(),
    )
