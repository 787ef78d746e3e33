"""How long each layer of a network takes in one forward pass, by marks before and after it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from e4profile.errors import SettingError
from e4profile.witnesses.timing.clock import CpuClock, Work
from e4profile.witnesses.walk import Call, Watcher, following


class Marks(Protocol):
    """Points in time in a stream of work; ``DeviceEvents`` are such marks."""

    def mark(self) -> Any:
        """A point in time."""

    def synchronize(self) -> None:
        """Wait until everything before the last mark is done."""

    def seconds(self, start: Any, end: Any) -> float:
        """Between two marks that are done."""


def marks_for(device: torch.device) -> Marks:
    """The marks of a device."""
    if device.type == "cpu":
        return CpuClock()
    from e4profile.witnesses.timing.cuda import CudaEvents

    return CudaEvents(device)


def layer_samples(
    modules: Sequence[nn.Module],
    work: Work,
    marks: Marks,
    *,
    min_passes: int = 5,
    min_run_time_s: float = 0.5,
    max_run_time_s: float = 10.0,
    now: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """The times of each layer in several passes, in seconds.

    The hooks that set the marks are removed again. A hook costs about a microsecond on the host, which is
    inside the time of a layer that encloses other layers only.

    Args:
        modules: the layers in order of execution; a layer that runs twice stands in here twice.
        work: the warmed-up pass.
        marks: of the device that the pass runs on.
        min_passes: at least this many.
        min_run_time_s: and at least this long.
        max_run_time_s: stop at this time, after one pass at the earliest.
        now: wall time in seconds.

    Raises:
        SettingError: when a layer runs more or less often than ``modules`` says.
    """
    times: list[list[float]] = [[] for _ in modules]
    marked = _Marked(marks)
    with following(nn.ModuleList(modules), marked, only=modules):
        start, passes = now(), 0
        while passes < 1 or (
            now() - start < max_run_time_s and (passes < min_passes or now() - start < min_run_time_s)
        ):
            marked.intervals.clear()
            work.call(work.prepare())
            marks.synchronize()
            passes += 1
            for layer, interval in zip(times, _in_order(modules, marked.intervals), strict=True):
                layer.append(marks.seconds(*interval))
    return times


class _Marked(Watcher):
    """The marks before and after every call, by module."""

    def __init__(self, marks: Marks) -> None:
        self.intervals: dict[nn.Module, list[tuple[Any, Any]]] = {}
        self._marks = marks
        self._starts: dict[Call, Any] = {}

    def enter(self, call: Call) -> None:
        self._starts[call] = self._marks.mark()

    def leave(self, call: Call) -> None:
        end = self._marks.mark()
        self.intervals.setdefault(call.module, []).append((self._starts.pop(call), end))


def _in_order(modules: Sequence[nn.Module], ends: Mapping[nn.Module, list[tuple[Any, Any]]]) -> list[tuple[Any, Any]]:
    for module, times in Counter(modules).items():
        ran = len(ends.get(module, []))
        if ran != times:
            often = "less often" if ran < times else "more often"
            raise SettingError(f"{type(module).__name__} ran {ran} times, {often} than its topology says")
    calls = {module: iter(intervals) for module, intervals in ends.items()}
    return [next(calls[module]) for module in modules]
