"""How long each layer of a network takes in one forward pass, by marks before and after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import nn

from e4profile.errors import SettingError
from e4profile.witnesses.timing.clock import Work
from e4profile.witnesses.timing.statistics import median


class Marks(Protocol):
    """Points in time in a stream of work; ``DeviceEvents`` are such marks."""

    def mark(self) -> Any:
        """A point in time."""

    def synchronize(self) -> None:
        """Wait until everything before the last mark is done."""

    def seconds(self, start: Any, end: Any) -> float:
        """Between two marks that are done."""


class CpuMarks:
    """Points in time of the calling thread."""

    def mark(self) -> int:
        """A point in time."""
        return time.perf_counter_ns()

    def synchronize(self) -> None:
        """Nothing is pending on the calling thread."""

    def seconds(self, start: int, end: int) -> float:
        """Between two marks."""
        return (end - start) * 1e-9


def marks_for(device: torch.device) -> Marks:
    """The marks of a device."""
    if device.type == "cpu":
        return CpuMarks()
    from e4profile.witnesses.timing.cuda import CudaEvents

    return CudaEvents(device)


def layer_seconds(
    modules: Sequence[nn.Module],
    work: Work,
    marks: Marks,
    *,
    min_passes: int = 5,
    min_run_time_s: float = 0.5,
    max_run_time_s: float = 10.0,
    now: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """The median time of each layer over several passes, in seconds.

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
    ends: dict[int, list[tuple[Any, Any]]] = {}
    open_marks: dict[int, list[Any]] = {}

    def before(module: nn.Module, _: Any) -> None:
        open_marks.setdefault(id(module), []).append(marks.mark())

    def after(module: nn.Module, _: Any, __: Any) -> None:
        ends.setdefault(id(module), []).append((open_marks[id(module)].pop(), marks.mark()))

    with ExitStack() as stack:
        for module in {id(module): module for module in modules}.values():
            for handle in (module.register_forward_pre_hook(before), module.register_forward_hook(after)):
                stack.callback(handle.remove)
        start, passes = now(), 0
        while passes < 1 or (
            now() - start < max_run_time_s and (passes < min_passes or now() - start < min_run_time_s)
        ):
            ends.clear()
            work.call(work.prepare())
            marks.synchronize()
            passes += 1
            for layer, interval in zip(times, _in_order(modules, ends), strict=True):
                layer.append(marks.seconds(*interval))
    return [median(layer) for layer in times]


def _in_order(modules: Sequence[nn.Module], ends: dict[int, list[tuple[Any, Any]]]) -> list[tuple[Any, Any]]:
    taken = dict.fromkeys(ends, 0)
    intervals = []
    for module in modules:
        calls = ends.get(id(module), [])
        index = taken.get(id(module), 0)
        if index >= len(calls):
            raise SettingError(f"{type(module).__name__} ran {len(calls)} times, less often than its topology says")
        intervals.append(calls[index])
        taken[id(module)] = index + 1
    for module in modules:
        if taken[id(module)] != len(ends[id(module)]):
            raise SettingError(
                f"{type(module).__name__} ran {len(ends[id(module)])} times, more often than its topology says"
            )
    return intervals
