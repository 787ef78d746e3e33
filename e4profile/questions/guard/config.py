"""Which networks a project guards: ``[tool.e4profile]`` in ``pyproject.toml``, or ``e4profile.toml``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e4profile.errors import SettingError, UnknownNameError, read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_NAMES = ("e4profile.toml", "pyproject.toml")
"""Where the configuration may stand; in one folder the first that has it is taken."""

BASELINE_NAME = "e4profile-baseline.json"

_TOOL_KEYS = ("baseline", "models")
_BUDGET_KEYS = (
    "params_max", "macs_max", "saved_bytes_max", "equivariance_error_max", "group", "field_out", "closed_form",
)  # fmt: skip
_MODEL_KEYS = ("name", "build", "input", "args", *_BUDGET_KEYS)
_COUNTS = ("params_max", "macs_max", "saved_bytes_max")
_FIELDS = ("regular", "trivial", "invariant")


@dataclass(frozen=True)
class Budgets:
    """Upper limits of one network; None where there is none.

    Attributes:
        params_max: parameters.
        macs_max: multiply-accumulates of one forward pass at the given input.
        saved_bytes_max: bytes saved for backward by one training forward pass at the given input.
        equivariance_error_max: relative error of the output over all group elements, float64, random parameters.
        group: the group of that error; the network's own when None.
        field_out: the output's field type; what its shape says when None.
        closed_form: whether the closed form must equal what runs, layer by layer.
    """

    params_max: int | None = None
    macs_max: int | None = None
    saved_bytes_max: int | None = None
    equivariance_error_max: float | None = None
    group: str | None = None
    field_out: str | None = None
    closed_form: bool = False


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
    tool = _toml(file).get("tool")
    return isinstance(tool, dict) and "e4profile" in tool


def load_config(file: Path) -> GuardConfig:
    """Read a configuration.

    In ``e4profile.toml`` the keys stand at the top level or under ``[tool.e4profile]``.

    Raises:
        SettingError: naming file, key and reason.
    """
    data = _toml(file)
    tool = data.get("tool", {})
    if isinstance(tool, dict) and "e4profile" in tool:
        table = tool["e4profile"]
    elif "models" in data and file.name != "pyproject.toml":
        table = data
    else:
        raise SettingError(f"{file}: [tool.e4profile]: missing; it lists the networks to guard")
    reader = _Reader(str(file))
    reader.table(table, "tool.e4profile")
    reader.known(table, _TOOL_KEYS, "")
    given = table.get("models", [])
    if not isinstance(given, list) or not given:
        raise SettingError(f"{file}: models: give at least one [[tool.e4profile.models]]")
    models = tuple(reader.model(entry, f"models[{index}]") for index, entry in enumerate(given))
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(f"{file}: models: the name {name!r} stands {names.count(name)} times")
    baseline = table.get("baseline", BASELINE_NAME)
    if baseline is not False and (not isinstance(baseline, str) or not baseline):
        raise SettingError(f"{file}: baseline: {baseline!r} must be a file name, or false for budgets only")
    return GuardConfig(file, models, None if baseline is False else file.parent / baseline)


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(file))
    except OSError as error:
        raise SettingError(f"{file}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"{file}: not TOML: {error}") from error


def parse_budgets(table: Mapping[str, Any], where: str) -> Budgets:
    """Budgets by name, checked.

    Args:
        table: the keys of ``Budgets``, None or missing for no limit.
        where: prefix of messages.

    Raises:
        SettingError: naming place, key and value.
    """
    for key in table:
        if key not in _BUDGET_KEYS:
            raise SettingError(f"{where}: {UnknownNameError('budget', key, _BUDGET_KEYS)}")
    for key in _COUNTS:
        value = table.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise SettingError(f"{where}.{key}: {value!r} must be a whole number, 0 or more")
    error = table.get("equivariance_error_max")
    if error is not None and (type(error) not in (int, float) or not 0 <= error < float("inf")):
        raise SettingError(f"{where}.equivariance_error_max: {error!r} must be a number, 0 or more")
    for key in ("group", "field_out"):
        value = table.get(key)
        if value is not None and not isinstance(value, str):
            raise SettingError(f"{where}.{key}: {value!r} must be a text")
    field_out = table.get("field_out")
    if field_out is not None and field_out not in _FIELDS:
        raise SettingError(f"{where}.field_out: {UnknownNameError('field type', field_out, _FIELDS)}")
    closed_form = table.get("closed_form", False)
    if not isinstance(closed_form, bool):
        raise SettingError(f"{where}.closed_form: {closed_form!r} must be true or false")
    return Budgets(**table)


class _Reader:
    """Typed access to the configuration's tables, with errors that say where."""

    def __init__(self, file: str) -> None:
        self.file = file

    def table(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise SettingError(f"{self.file}: {where}: must be a table")

    def known(self, table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
        for key in table:
            if key not in keys:
                raise SettingError(f"{self.file}: {where}{UnknownNameError('key', key, keys)}")

    def model(self, table: Any, where: str) -> GuardedModel:
        self.table(table, where)
        self.known(table, _MODEL_KEYS, f"{where}: ")
        name = self._text(table, "name", where)
        if not name:
            raise SettingError(f"{self.file}: {where}.name: {'missing' if name is None else 'is empty'}")
        arguments = table.get("args", {})
        self.table(arguments, f"{where}.args")
        return GuardedModel(
            name,
            self._text(table, "build", where) or name,
            self._inputs(table.get("input", []), f"{where}.input"),
            arguments,
            parse_budgets({key: table[key] for key in _BUDGET_KEYS if key in table}, f"{self.file}: {where}"),
        )

    def _inputs(self, value: object, where: str) -> tuple[str, ...]:
        if isinstance(value, dict):
            value = [f"{key}={shape}" for key, shape in value.items()]
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
            raise SettingError(f"{self.file}: {where}: {value!r} must be a text such as '1x3x32x32', or several")
        return tuple(given)

    def _text(self, table: Mapping[str, Any], key: str, where: str) -> str | None:
        value = table.get(key)
        if value is not None and not isinstance(value, str):
            raise SettingError(f"{self.file}: {where}.{key}: {value!r} must be a text")
        return value
