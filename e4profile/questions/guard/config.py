"""Which networks a project guards: ``[tool.e4profile]`` in ``pyproject.toml``, or ``e4profile.toml``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from e4profile.errors import SettingError, UnknownNameError, from_table, parse_toml, read_text
from e4profile.subjects.written import parse_count, parse_size, size_unit

CONFIG_NAMES = ("e4profile.toml", "pyproject.toml")
"""Where the configuration may stand; in one folder the first that has it is taken."""

BASELINE_NAME = "e4profile-baseline.json"

_SIZES = ("saved_bytes_max", "peak_bytes_max", "forward_peak_bytes_max")
_LIMITS: Mapping[str, Callable[[str, str], int]] = {
    "params_max": parse_count,
    "macs_max": parse_count,
    **dict.fromkeys(_SIZES, partial(parse_size, in_bytes=True)),
}
_FIELDS = ("regular", "trivial", "invariant")


@dataclass(frozen=True)
class Budgets:
    """Upper limits of one network; None where there is none.

    Attributes:
        params_max: parameters.
        macs_max: multiply-accumulates of one forward pass at the given input.
        saved_bytes_max: bytes saved for backward by one training forward pass at the given input.
        equivariance_error_max: relative error of the output over all group elements, random parameters; in float64, or
            in float32 where the network does not run in float64.
        group: the group of that error; the network's own when None.
        field_out: the output's field type, or its axes (``"B h w (c A)"``); what its shape says when None.
        closed_form: whether the closed form must equal what runs, layer by layer, in every layer that has one.
        closed_form_min_percent: how much of the MACs that run must have a closed form (of the parameters, where no
            MACs run); the whole network when None.
        peak_bytes_max: bytes that forward and backward hold at their peak, beyond parameters, buffers and input.
        forward_peak_bytes_max: the same of a forward pass in evaluation mode without gradients.
        units: of sizes that are written with one, by key: ``{"peak_bytes_max": "MB"}``.

    Raises:
        SettingError: beginning with the key, for a limit below 0 or not finite, or an unknown field type.
    """

    params_max: int | None = None
    macs_max: int | None = None
    saved_bytes_max: int | None = None
    equivariance_error_max: float | None = None
    group: str | None = None
    field_out: str | None = None
    closed_form: bool = False
    closed_form_min_percent: float | None = None
    peak_bytes_max: int | None = None
    forward_peak_bytes_max: int | None = None
    units: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def sized(self) -> list[str]:
        """The quantities of memory that have a limit."""
        return [key.removesuffix("_max") for key in _SIZES if getattr(self, key) is not None]

    def __post_init__(self) -> None:
        for key in (*_LIMITS, "equivariance_error_max"):
            limit = getattr(self, key)
            if limit is not None and not 0 <= limit < math.inf:
                raise SettingError(f"{key}: {limit!r} must be a number, 0 or more")
        least = self.closed_form_min_percent
        if least is not None and not (self.closed_form and 0 < least <= 100):
            raise SettingError(
                f"closed_form_min_percent: {least!r} must be above 0 and at most 100, beside closed_form = true"
            )
        # a layout of axes has blanks, and is read where the network is measured
        if self.field_out is not None and " " not in self.field_out and self.field_out not in _FIELDS:
            raise SettingError(f"field_out: {UnknownNameError('field type', self.field_out, _FIELDS)}")


@dataclass(frozen=True, kw_only=True)
class _Entry(Budgets):
    """A network as it is written."""

    name: str
    build: str = ""
    input: str | list[str] | dict[str, str] = ""
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Tool:
    """What is written for the project."""

    models: list[dict[str, Any]] = field(default_factory=list)
    baseline: str | bool = BASELINE_NAME
    cards: list[str] = field(default_factory=list)  # folders, which ``e4profile.networks.found_cards`` reads


@dataclass(frozen=True)
class GuardedModel:
    """One network of the configuration.

    Attributes:
        name: unique, for messages and the baseline.
        build: ``file.py:build``, ``package.module:build``, a card file or a card's name.
        inputs: ``1x3x32x32`` or ``mask=1x1x32x32:bool``, one text per input; empty for a card's own.
        arguments: keyword arguments of the builder.
        budgets: its limits.
    """

    name: str
    build: str
    inputs: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)


@dataclass(frozen=True)
class GuardConfig:
    """What a project guards.

    Attributes:
        file: the configuration; relative paths start in its folder.
        models: the networks in the order written.
        baseline: the committed counts; None where the project keeps budgets only.
    """

    file: Path
    models: tuple[GuardedModel, ...]
    baseline: Path | None

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.file.parent


_EXAMPLE = """[[models]]
name = "small"
build = "net.py:build"
input = "1x3x32x32"
"""


def find_config(start: Path) -> Path:
    """The nearest configuration in a folder or above it.

    Raises:
        SettingError: where there is none.
    """
    for folder in (start, *start.parents):
        for name in CONFIG_NAMES:
            file = folder / name
            if name != "pyproject.toml" and file.is_dir():
                raise SettingError(f"{file}: is a folder, not a configuration")
            if file.is_file() and (name != "pyproject.toml" or _has_table(file)):
                return file
    missing = SettingError(
        f"no guard configuration: neither e4profile.toml nor a [tool.e4profile] in pyproject.toml in {start} or above; "
        "write e4profile.toml (docs/how-to/guard.md), for example:"
    )
    missing.details = _EXAMPLE
    raise missing


def _has_table(file: Path) -> bool:
    tool = parse_toml(read_text(file), file).get("tool")
    return isinstance(tool, dict) and "e4profile" in tool


def load_config(file: Path | Mapping[str, Any]) -> GuardConfig:
    """Read a configuration.

    In ``e4profile.toml`` the keys stand at the top level or under ``[tool.e4profile]``. What is read already is in the
    working directory, and has a baseline only where it names one.

    Raises:
        SettingError: naming file, key and reason.
    """
    if isinstance(file, Mapping):
        data, file = {"baseline": False, "models": [], **file}, Path("configuration").absolute()
    else:
        data = parse_toml(read_text(file), file)
    tool = data.get("tool", {})
    if isinstance(tool, dict) and "e4profile" in tool:
        table = tool["e4profile"]
    elif "models" in data and file.name != "pyproject.toml":
        table = data
    else:
        raise SettingError(f"{file}: [tool.e4profile]: missing; it lists the networks to guard")
    tool = from_table(table, _Tool, f"{file}: ")
    if not tool.models:
        raise SettingError(f"{file}: models: give at least one [[tool.e4profile.models]]")
    models = tuple(_model(entry, f"{file}: models[{index}].") for index, entry in enumerate(tool.models))
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(f"{file}: models: the name {name!r} is given {names.count(name)} times")
    if tool.baseline in (True, ""):
        raise SettingError(f"{file}: baseline: {tool.baseline!r} must be a file name, or false for budgets only")
    return GuardConfig(file, models, file.parent / tool.baseline if isinstance(tool.baseline, str) else None)


def _model(table: dict[str, Any], where: str) -> GuardedModel:
    entry = from_table(_limits(table, where), _Entry, where, units=_units(table))
    if not entry.name:
        raise SettingError(f"{where}name: is empty")
    inputs = [f"{key}={shape}" for key, shape in entry.input.items()] if isinstance(entry.input, dict) else entry.input
    given = (inputs,) if isinstance(inputs, str) and inputs else tuple(inputs)
    budgets = Budgets(**{one.name: getattr(entry, one.name) for one in fields(Budgets)})
    return GuardedModel(entry.name, entry.build or entry.name, given, entry.args, budgets)


def parse_budgets(table: Mapping[str, Any], where: str) -> Budgets:
    """Budgets by name, checked.

    Args:
        table: the keys of ``Budgets``, None or missing for no limit.
        where: prefix of messages.

    Raises:
        SettingError: naming place, key and value.
    """
    return from_table(_limits(table, where), Budgets, where, units=_units(table))


def _limits(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Limits that are written with a unit as numbers, everything else as it is."""
    return {
        key: _LIMITS[key](value, f"{where}{key}") if key in _LIMITS and isinstance(value, str) else value
        for key, value in table.items()
    }


def _units(table: Mapping[str, Any]) -> dict[str, str]:
    return {key: unit for key in _SIZES if isinstance(table.get(key), str) and (unit := size_unit(table[key]))}
