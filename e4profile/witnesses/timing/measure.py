"""The timer: one pass of one network, or two networks in turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from e4profile.errors import SettingError, UnknownNameError, positive
from e4profile.subjects.batches import ModelInputs
from e4profile.subjects.losses import LOSSES, Loss
from e4profile.witnesses.environment import environment
from e4profile.witnesses.timing.clock import Clock, CpuClock, EventClock, Work
from e4profile.witnesses.timing.passes import (
    MODES,
    PASSES,
    Prepared,
    device_named,
    dtype_named,
    fixed_threads,
    prepared,
)
from e4profile.witnesses.timing.record import TimeRecord
from e4profile.witnesses.timing.samples import Samples, StopRule, collect
from e4profile.witnesses.timing.statistics import COMPARISON_CONFIDENCE, MINIMUM_EFFECT, RatioEstimate, compare_pairs

DEFAULT_RULE = StopRule()


@dataclass(frozen=True)
class Setting:
    """How a pass is run; see ``measure_time`` for the meaning of each.

    Raises:
        UnknownNameError: for an unknown pass, mode, dtype or loss.
        SettingError: for a value that cannot be, or a device that is not there.
    """

    pass_: str = "forward"
    mode: str = "eval"
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int | None = None
    compile: bool = False
    graphs: bool = False
    threads: int | None = 1
    loss: Loss = "auto"

    def __post_init__(self) -> None:
        for what, name, known in (("pass", self.pass_, PASSES), ("mode", self.mode, MODES)):
            if name not in known:
                raise UnknownNameError(what, name, known)
        if not callable(self.loss) and self.loss not in LOSSES:
            raise UnknownNameError("loss", self.loss, LOSSES)
        dtype_named(self.dtype)
        given = {"batch_size": self.batch_size, "threads": self.threads}
        positive(**{name: value for name, value in given.items() if value is not None})
        if device_named(self.device).type != "cuda" and self.graphs:
            raise SettingError(f"graphs need device 'cuda', not {self.device!r}")


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
    *,
    pass_: str = "forward",
    mode: str = "eval",
    device: str = "cpu",
    dtype: str | torch.dtype = "float32",
    batch_size: int | None = None,
    compile: bool = False,
    graphs: bool = False,
    min_run_time_s: float = DEFAULT_RULE.min_run_time_s,
    max_run_time_s: float = DEFAULT_RULE.max_run_time_s,
    relative_noise: float = DEFAULT_RULE.relative_noise,
    threads: int | None = 1,
    name: str = "",
    clock: Clock | None = None,
    loss: Loss = "auto",
    limit_s: float | None = None,
) -> TimeRecord:
    """Time one pass of a network; the network is left as it was found, because a copy runs.

    Args:
        model: with values, on any device.
        input: the images (B, channels, h, w), the shape (channels, h, w) of one image, or other inputs (see
            ``e4profile.subjects.batches.ModelInputs``).
        pass_: ``forward``, ``backward`` or ``step``; ``PASS_MEANINGS`` says what is on the clock.
        mode: ``eval`` or ``train``.
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        batch_size: images per pass: the leading size of every tensor; None leaves the inputs as they are.
        compile: apply ``torch.compile`` first; the first call's time is kept apart.
        graphs: replay CUDA graphs.
        min_run_time_s: sample at least this long, and at least ten times.
        max_run_time_s: stop sampling at this time whatever the noise.
        relative_noise: stop once the median is known this well.
        threads: intra-operator threads during the measurement; None keeps what is set.
        name: for the record; the class name when empty.
        clock: instead of the device's own.
        loss: what backward starts from (see ``e4profile.subjects.losses.loss_of``).
        limit_s: stop as well once the median is on one side of this for sure.

    Raises:
        SettingError: for values that do not fit together.
        UnknownNameError: for an unknown pass, mode or dtype.
        MeasurementError: when nothing could be measured.
    """
    rule = StopRule(
        relative_noise=relative_noise, min_run_time_s=min_run_time_s, max_run_time_s=max_run_time_s, limit_s=limit_s
    )
    setting = Setting(pass_, mode, str(device), _dtype_name(dtype), batch_size, compile, graphs, threads, loss)
    with ExitStack() as stack:
        used = stack.enter_context(fixed_threads(threads))
        taken = _enter(stack, model, input, setting)
        clock = clock or clock_for(device)
        samples = collect([_work(taken, setting)], clock, rule)[0]
        return _record(name or type(model).__name__, taken, setting, samples, threads=used, clock=clock)


def compare_interleaved(
    a: Timed,
    b: Timed,
    setting: Setting | None = None,
    rule: StopRule | None = None,
    *,
    confidence: float = COMPARISON_CONFIDENCE,
    minimum_effect: float = MINIMUM_EFFECT,
    clock: Clock | None = None,
) -> Comparison:
    """Time two networks in turn and say whether the first is faster, slower, or neither can be said.

    Sampling stops when half the interval of the ratio is within the rule's relative noise.

    Raises:
        SettingError: for values that do not fit together.
        MeasurementError: when nothing could be measured.
    """
    setting = setting or Setting()
    with ExitStack() as stack:
        used = stack.enter_context(fixed_threads(setting.threads))
        taken = [_enter(stack, timed.model, timed.input, setting) for timed in (a, b)]
        clock = clock or clock_for(setting.device)
        samples, estimate = compare_works(
            _work(taken[0], setting),
            _work(taken[1], setting),
            clock,
            rule,
            confidence=confidence,
            minimum_effect=minimum_effect,
        )
        records = [
            _record(timed.name, taken[index], setting, samples[index], threads=used, clock=clock)
            for index, timed in enumerate((a, b))
        ]
    return Comparison(records[0], records[1], estimate)


def compare_works(
    first: Work,
    second: Work,
    clock: Clock | None = None,
    rule: StopRule | None = None,
    *,
    confidence: float = COMPARISON_CONFIDENCE,
    minimum_effect: float = MINIMUM_EFFECT,
) -> tuple[list[Samples], RatioEstimate]:
    """Time any two pieces of work in turn: their samples and the ratio first over second.

    Raises:
        MeasurementError: when nothing could be measured.
    """

    def ratio_noise(kept: Sequence[Sequence[float]]) -> float:
        estimate = compare_pairs(kept[0], kept[1], confidence)
        return max(estimate.ratio - estimate.low, estimate.high - estimate.ratio) / estimate.ratio

    samples = collect([first, second], clock or CpuClock(), rule, noise=ratio_noise)
    return samples, compare_pairs(samples[0].seconds, samples[1].seconds, confidence, minimum_effect)


def _enter(stack: ExitStack, model: nn.Module, input: ModelInputs, setting: Setting) -> Prepared:
    return stack.enter_context(
        prepared(
            model,
            input,
            pass_=setting.pass_,
            mode=setting.mode,
            device=setting.device,
            dtype=setting.dtype,
            batch_size=setting.batch_size,
            compile=setting.compile,
            loss=setting.loss,
        )
    )


def _work(taken: Prepared, setting: Setting) -> Work:
    if not setting.graphs:
        return taken.work
    from e4profile.witnesses.timing.cuda import graphed

    return graphed(taken.work)


def _record(
    name: str, taken: Prepared, setting: Setting, samples: Samples, *, threads: int, clock: Clock
) -> TimeRecord:
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
        threads=threads,
        clock=clock.name,
        samples=samples,
        environment=environment(),
    )


def _dtype_name(dtype: str | torch.dtype) -> str:
    return str(dtype_named(dtype)).removeprefix("torch.")
