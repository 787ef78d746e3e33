"""A pass under ``torch.profiler``: every operator's own time, with the modules around it.

Modules are marked as they run. The operators of a backward pass carry the sequence number of the forward
operator that they differentiate, and belong to its modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from e4profile.witnesses.timing.clock import MeasurementError, Work
from e4profile.witnesses.timing.operators import OTHER_TERM, term_of
from e4profile.witnesses.walk import Call, Watcher, following

MODULE_SCOPE = "e4profile.module:"
PASS_SCOPE = "e4profile.pass"
_BACKWARD_SCOPE = "autograd::engine::evaluate_function"
_MICROSECOND = 1e-6


@dataclass(frozen=True)
class ProfiledTime:
    """Where the time of some passes went.

    Attributes:
        terms_s: seconds by term, all passes together.
        unattributed_s: between operators: Python, hooks, and on a device its idle time.
        total_s: all of it.
        shares: of each pass, by term, of the pass's time.
    """

    terms_s: Mapping[str, float]
    unattributed_s: float
    total_s: float
    shares: tuple[Mapping[str, float], ...] = ()


def profile_passes(network: nn.Module, work: Work, passes: int, device: torch.device) -> list[Any]:
    """Run a warmed-up pass several times under the profiler; the profiler's events.

    Preparation is outside of the pass's scope.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with following(network, _Scopes()), profile(activities=activities) as profiler:
        for _ in range(passes):
            state = work.prepare()
            _synchronize(device)
            with record_function(PASS_SCOPE):
                result = work.call(state)
                _synchronize(device)
            del state, result
    return list(profiler.events() or [])


def time_by_term(events: Iterable[Any], modules: Mapping[str, nn.Module], on_device: bool) -> ProfiledTime:
    """Add up the operators' own times by term.

    Args:
        events: of a profiler whose passes and modules stand in scopes.
        modules: by dotted path.
        on_device: add up the kernels' times, and not the host's.

    Raises:
        MeasurementError: when the events hold no pass.
    """
    host = [event for event in events if _is_on_host(event)]
    passes = [event for event in host if event.name == PASS_SCOPE]
    if not passes:
        raise MeasurementError("the profiler recorded no pass")
    spans = [(event.time_range.start, event.time_range.end) for event in passes]
    creators = _creators(host)
    by_pass: list[dict[str, float]] = [{} for _ in spans]
    scopes_s = 0.0
    for event in host:
        # a backward pass on a device runs on a thread of its own, so that only the time says whose pass it is
        at = next((at for at, (start, end) in enumerate(spans) if start <= event.time_range.start <= end), None)
        if at is None:
            continue
        own_s = (event.self_device_time_total if on_device else event.self_cpu_time_total) * _MICROSECOND
        if _is_scope(event):
            scopes_s += own_s
        elif own_s:
            term = _term(event, creators, modules)
            by_pass[at][term] = by_pass[at].get(term, 0.0) + own_s
    terms_s = {term: sum(one.get(term, 0.0) for one in by_pass) for term in dict.fromkeys(chain(*by_pass))}
    lengths_s = [(end - start) * _MICROSECOND for start, end in spans]
    total_s = sum(lengths_s)
    unattributed_s = total_s - sum(terms_s.values()) if on_device else scopes_s
    shares = tuple(
        {term: seconds / length_s for term, seconds in one.items()}
        for one, length_s in zip(by_pass, lengths_s, strict=True)
    )
    return ProfiledTime(terms_s, unattributed_s, total_s, shares)


class _Scopes(Watcher):
    """Marks every module's forward as a scope that carries its path."""

    def __init__(self) -> None:
        self._open: dict[Call, Any] = {}

    def enter(self, call: Call) -> None:
        scope = self._open[call] = record_function(MODULE_SCOPE + call.path)
        scope.__enter__()

    def leave(self, call: Call) -> None:
        self._open.pop(call).__exit__(None, None, None)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _is_on_host(event: Any) -> bool:
    return str(event.device_type) == "DeviceType.CPU"


def _is_scope(event: Any) -> bool:
    name: str = event.name
    return name == PASS_SCOPE or name.startswith(MODULE_SCOPE)


def _chain(event: Any) -> Iterator[Any]:
    """The event and everything around it, the event first."""
    while event is not None:
        yield event
        event = event.cpu_parent


def _backward_node(event: Any) -> Any | None:
    return next((around for around in _chain(event) if around.name.startswith(_BACKWARD_SCOPE)), None)


def _creators(host: Iterable[Any]) -> dict[int, Any]:
    """The forward operator that made each backward node.

    Operators show the number that the next node will get: of all that show a number, the last one made it.
    """
    found: dict[int, Any] = {}
    for event in host:
        if event.sequence_nr < 0 or _is_scope(event) or _backward_node(event) is not None:
            continue
        known = found.get(event.sequence_nr)
        if known is None or event.time_range.start >= known.time_range.start:
            found[event.sequence_nr] = event
    return found


def _term(event: Any, creators: Mapping[int, Any], modules: Mapping[str, nn.Module]) -> str:
    node = _backward_node(event)
    if node is None:
        return term_of(_operators(event), _modules_around(event, modules))
    operators = _operators(event)
    if any(name.startswith("e4profile::") for name in operators):
        return term_of(operators, ())
    creator = creators.get(node.sequence_nr)
    if creator is None:
        return OTHER_TERM
    return term_of(_operators(creator), _modules_around(creator, modules))


def _operators(event: Any) -> list[str]:
    """Operator names from the outermost inside the innermost scope to the event itself."""
    names: list[str] = []
    for around in _chain(event):
        if _is_scope(around):
            break
        names.append(around.name)
    return names[::-1]


def _modules_around(event: Any, modules: Mapping[str, nn.Module]) -> list[nn.Module]:
    paths = [around.name.removeprefix(MODULE_SCOPE) for around in _chain(event) if around.name.startswith(MODULE_SCOPE)]
    return [modules[path] for path in paths if path in modules]
