"""A configured network, ready to be measured: resolved, built and counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from e4profile.errors import E4ProfileError, SettingError
from e4profile.questions.guard.config import GuardedModel
from e4profile.subjects.guest import STOPPED, run_error
from e4profile.subjects.inputs import Example, as_example, example_from_specs, parse_input
from e4profile.subjects.subject import is_own, resolve
from e4profile.witnesses.counts.measure import Measurement, measure_module

EXACT_COUNTERS = ("closed-form", "dispatch")


@dataclass(frozen=True)
class Loaded:
    """A network with its counts.

    Attributes:
        name: for messages.
        model: with values, on the CPU.
        example: the inputs of one call.
        measured: closed form and what runs.
        arguments: every argument it was built with, JSON values.
        input: the inputs as text.
        running: inside it the network's own code runs, and what it sets in the process is given back.
        notes: what the network's code changed in the process.
    """

    name: str
    model: nn.Module
    example: Example
    measured: Measurement
    arguments: Mapping[str, Any]
    input: str
    running: Callable[[], AbstractContextManager[None]] = nullcontext
    notes: tuple[str, ...] = ()

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Run the network's code: an error of its own says in which module it happened."""
        try:
            with self.running():
                yield
        except (E4ProfileError, *STOPPED):
            raise
        except BaseException as error:
            raise run_error(self.name, self.model, str(self.example), error) from error


def load(entry: GuardedModel, folder: Path, given: Any = None) -> Loaded:
    """Build and count one configured network. A project's own file is run by this.

    Args:
        entry: the network.
        folder: where its file's path starts, and where its package is imported from.
        given: the inputs themselves, in place of the entry's (see ``e4profile.subjects.inputs.as_example``).

    Raises:
        E4ProfileError: for a builder, an argument or an input that does not exist or fit; an error of the
            project's own code has its traceback in ``details``.
    """
    if is_own(entry.build) and not entry.inputs and given is None:
        raise SettingError(f'{entry.build} needs its input, with the batch: input = "1x3x32x32"')
    with _importable(folder):
        target = resolve(_reference(entry.build, folder), entry.inputs, entry.arguments, example=given)
        measured = target.measure(EXACT_COUNTERS)
        model, example = target.build(), target.example()
    arguments = {name: value for name, value in target.arguments.items() if value is not None}
    return Loaded(
        target.name, model, example, measured, arguments, _words(entry, example), target.running, tuple(target.notes)
    )


def load_module(entry: GuardedModel, model: nn.Module, given: Any = None) -> Loaded:
    """Count a module in hand; it is left as it was found. ``given`` are its inputs, in place of the entry's.

    Raises:
        SettingError: for an input that cannot be read.
        UserCodeError: when the module's forward raises, naming where.
    """
    floating = (one.dtype for one in model.parameters() if one.is_floating_point())
    specs = [parse_input(text) for text in entry.inputs]
    if not specs and given is None:
        raise SettingError(f"{entry.name} needs its input, for example (1, 3, 32, 32) or '1x3x32x32'")
    dtype = next(floating, torch.float32)
    example = example_from_specs(specs, dtype) if given is None else as_example(given, dtype)
    try:
        measured = measure_module(model, example, EXACT_COUNTERS)
    except (E4ProfileError, *STOPPED):
        raise
    except BaseException as error:
        raise run_error(entry.name, model, str(example), error) from error
    return Loaded(entry.name, model, example, measured, dict(entry.arguments), _words(entry, example))


def _words(entry: GuardedModel, example: Example) -> str:
    return " ".join(entry.inputs) or " ".join("x".join(map(str, one.shape)) for one in example.tensors)


def _reference(build: str, folder: Path) -> str:
    source, colon, attribute = build.rpartition(":")
    if is_own(build):
        return f"{_beside(source, folder)}:{attribute}" if colon and source.endswith(".py") else build
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
