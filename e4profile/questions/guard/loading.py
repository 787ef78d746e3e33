"""A configured network, ready to be measured: resolved, built and counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from e4profile.errors import SettingError
from e4profile.networks.found_cards import looking_in
from e4profile.questions.guard.config import GuardedModel
from e4profile.records.baseline import LayerCosts, ModelCosts
from e4profile.subjects.batches import BatchedInputs
from e4profile.subjects.inputs import Example
from e4profile.subjects.named import Named, parse_named
from e4profile.subjects.subject import InputsMissing, Subject, resolve
from e4profile.witnesses.counts.measure import Measurement, measure

EXACT_COUNTERS = ("closed-form", "dispatch")


@dataclass(frozen=True)
class Loaded:
    """A network with its counts.

    Attributes:
        subject: the network.
        model: with values.
        example: the inputs of one call.
        measured: closed form and what runs.
        arguments: every argument it was built with, JSON values.
        input: the inputs as text.
    """

    subject: Subject
    model: nn.Module
    example: Example
    measured: Measurement
    arguments: Mapping[str, Any]
    input: str


def load(entry: GuardedModel, folder: Path, given: Any = None, module: nn.Module | None = None) -> Loaded:
    """Build and count one configured network. A project's own file is run by this.

    Args:
        entry: the network.
        folder: where its file's path starts, and where its package is imported from.
        given: the inputs themselves, in place of the entry's (see ``e4profile.subjects.inputs.as_example``).
        module: the network itself, in place of what the entry builds; it is left as it was found.

    Raises:
        E4ProfileError: for a builder, an argument or an input that does not exist or fit; an error of the
            project's own code has its traceback in ``details``.
    """
    with _importable(folder), looking_in(project=folder):
        subject = _subject(entry, folder, given, module)
        measured = measure(subject, EXACT_COUNTERS)
        model, example = subject.build(), subject.example()
    arguments = {name: value for name, value in subject.arguments.items() if value is not None}
    return Loaded(subject, model, example, measured, arguments, _words(entry, example))


def _subject(entry: GuardedModel, folder: Path, given: Any = None, module: nn.Module | None = None) -> Subject:
    written = parse_named(entry.build) if module is None else Named(entry.build)
    what = _reference(written.reference, folder) if module is None else module
    try:
        return resolve(what, entry.inputs, {**entry.arguments, **written.arguments}, example=given)
    except InputsMissing as error:
        raise SettingError(f'{entry.build} needs its input, with the batch: input = "1x3x32x32"') from error


def timed(entry: GuardedModel, folder: Path, max_run_time_s: float) -> tuple[float, ...]:
    """Seconds of forward passes of a configured network in evaluation mode, on the CPU and one thread.

    Raises:
        E4ProfileError: for a network that cannot be built or run.
    """
    from e4profile.witnesses.timing.in_turn import ForwardInTurn

    with _importable(folder), looking_in(project=folder):
        (samples,) = ForwardInTurn(max_run_time_s=max_run_time_s)([_subject(entry, folder)])
    return samples.seconds


def _words(entry: GuardedModel, example: Example) -> str:
    return " ".join(entry.inputs) or " ".join("x".join(map(str, one.shape)) for one in example.tensors)


def _reference(build: str, folder: Path) -> str:
    source, _, attribute = build.rpartition(":")
    if source.endswith(".py"):
        return f"{_beside(source, folder)}:{attribute}"
    return _beside(build, folder) if build.endswith(".toml") else build


def _beside(path: str, folder: Path) -> str:
    """The path from the working directory, as messages should show it."""
    try:
        return os.path.relpath(folder / path)
    except ValueError:  # another drive
        return str(folder / path)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path[:] = before


def model_costs(entry: GuardedModel, loaded: Loaded, memory: Collection[str] = ()) -> ModelCosts:
    """The counts of one network, per module that has parameters or runs operations itself.

    Args:
        entry: the network as configured.
        loaded: the network.
        memory: which of ``saved_bytes``, ``peak_bytes`` and ``forward_peak_bytes`` are asked for.

    Raises:
        E4ProfileError: when memory is asked for and the network cannot run so.
    """
    counted = loaded.measured.dispatch
    costs = {"params": counted.params, "macs": counted.macs}
    layers = {one.path: (one.layer, {"params": one.params, "macs": one.total("macs")}) for one in counted.layers}
    batch_size = BatchedInputs.of(loaded.example).batch_size if memory else None
    if "saved_bytes" in memory:
        from e4profile.witnesses.memory.saved import saved_for_backward

        with loaded.subject.guarded():
            saved = saved_for_backward(loaded.model, loaded.example, batch_size=batch_size)
        costs["saved_bytes"] = saved.saved_bytes
        for _, amounts in layers.values():
            amounts["saved_bytes"] = 0
        for one in saved.modules:
            amount = one.constant_bytes + (batch_size or 0) * one.per_image_bytes
            nothing = {"params": 0, "macs": 0}
            layers.setdefault(one.path, (one.layer, nothing))[1]["saved_bytes"] = amount
    from e4profile.witnesses.memory.peak import allocator_emulation, forward_emulation

    with loaded.subject.guarded():
        if "peak_bytes" in memory:
            peak = allocator_emulation(loaded.model, loaded.example, batch_size=batch_size, loss="auto")
            costs["peak_bytes"] = peak.peak_bytes
        if "forward_peak_bytes" in memory:
            forward = forward_emulation(loaded.model, loaded.example, batch_size=batch_size)
            costs["forward_peak_bytes"] = forward.peak_bytes
    return ModelCosts(
        entry.build,
        loaded.input,
        loaded.arguments,
        costs,
        {path: LayerCosts(name, amounts) for path, (name, amounts) in layers.items()},
    )
