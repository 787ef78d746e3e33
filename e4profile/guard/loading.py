"""A configured network, ready to be measured: built from a card or from the project's own file or module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from e4profile.cards import Card, find_card
from e4profile.counters.state import random_state_kept
from e4profile.errors import E4ProfileError, SettingError
from e4profile.guard.config import GuardedModel
from e4profile.measure import Measurement, measure, measure_module

EXACT_COUNTERS = ("closed-form", "dispatch")


@dataclass(frozen=True)
class Loaded:
    """A network with its counts.

    Attributes:
        model: with values, on the CPU.
        shape: of its input, (B, ...).
        measured: closed form and what runs.
        arguments: every argument it was built with, JSON values.
    """

    model: nn.Module
    shape: tuple[int, ...]
    measured: Measurement
    arguments: Mapping[str, Any]


def load(entry: GuardedModel, folder: Path) -> Loaded:
    """Build and count one configured network. A project's own file is run by this.

    Raises:
        SettingError: for a builder, an argument or an input that does not exist or fit.
        UnknownNameError: for a card that does not exist.
        Whatever the project's own code raises.
    """
    if ":" in entry.build:
        return _own(entry, folder)
    card = find_card(str(folder / entry.build) if entry.build.endswith(".toml") else entry.build)
    card = card.with_arguments(entry.arguments)
    batch_size = 1
    if entry.inputs:
        batch_size, *image = _shape(entry)
        card = replace(card, input=tuple(image))
    measured = measure(card, EXACT_COUNTERS, batch_size)
    return Loaded(card.build("cpu"), card.input_shape(batch_size), measured, _argument_values(card))


def _argument_values(card: Card) -> dict[str, Any]:
    return {name: value for name, value in card.arguments.items() if value is not None}


def _shape(entry: GuardedModel) -> tuple[int, ...]:
    text = entry.inputs[0] if len(entry.inputs) == 1 else ""
    sizes = text.split("x")
    if len(sizes) < 2 or not all(size.isdigit() and int(size) for size in sizes):
        raise SettingError(f"input {', '.join(entry.inputs) or '(none)'}: give one shape such as 1x3x32x32")
    return tuple(int(size) for size in sizes)


def _own(entry: GuardedModel, folder: Path) -> Loaded:
    place, _, attribute = entry.build.rpartition(":")
    with _importable(folder):
        module = _import_file(folder / place) if place.endswith(".py") else importlib.import_module(place)
    builder = getattr(module, attribute, None)
    if not callable(builder):
        raise SettingError(f"{entry.build}: {place} has no builder {attribute!r}")
    shape = _shape(entry)
    with random_state_kept():
        torch.manual_seed(0)
        try:
            model = builder(**entry.arguments)
        except TypeError as error:
            raise SettingError(f"{entry.build}: {error}") from error
    if not isinstance(model, nn.Module):
        raise SettingError(f"{entry.build} must give a torch.nn.Module, not a {type(model).__name__}")
    try:
        measured = measure_module(model.eval(), shape, EXACT_COUNTERS)
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, E4ProfileError):
            raise
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingError(f"{entry.build} cannot run on an input {shape}: {first_line}") from error
    return Loaded(model, shape, measured, dict(entry.arguments))


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    text = str(folder.resolve())
    sys.path.insert(0, text)
    try:
        yield
    finally:
        sys.path.remove(text)


def _import_file(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"_e4profile_guarded_{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise SettingError(f"{file} does not exist")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
