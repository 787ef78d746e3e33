"""The committed counts: sorted, diffable JSON, one number per line.

Schema history:
    1: ``schema, torch, convention, models``; a model has ``build, input, arguments, params, macs, layers`` and,
       where a budget asks for it, ``saved_bytes``, ``peak_bytes`` and ``forward_peak_bytes``; a layer has ``layer,
       params, macs`` and ``saved_bytes``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e4profile.errors import SettingError, read_document, replace_file

SCHEMA_VERSION = 1
CONVENTION = "macs"
"""The convention of every ``macs`` in a baseline (see ``e4profile.conventions``)."""

QUANTITIES = ("params", "macs", "saved_bytes", "peak_bytes", "forward_peak_bytes")
"""What is counted per network; bytes only where a budget asks for them. Peaks are of no single layer."""


@dataclass(frozen=True)
class LayerCosts:
    """One module that has parameters or runs operations itself.

    Attributes:
        layer: class name.
        costs: amount by quantity (see ``QUANTITIES``).
    """

    layer: str
    costs: Mapping[str, int]


@dataclass(frozen=True)
class ModelCosts:
    """One network's exact counts.

    Attributes:
        build: what was built, as configured.
        input: what it was given, as text.
        arguments: of the builder.
        costs: amount by quantity (see ``QUANTITIES``).
        layers: by dotted path.
    """

    build: str
    input: str
    arguments: Mapping[str, Any]
    costs: Mapping[str, int]
    layers: Mapping[str, LayerCosts]


@dataclass(frozen=True)
class Baseline:
    """The counts that a project has committed.

    Attributes:
        torch: the version they were counted with, without its build suffix.
        models: by name.
    """

    torch: str
    models: Mapping[str, ModelCosts] = field(default_factory=dict)

    def to_text(self) -> str:
        """The file's content: the same counts give the same bytes."""
        data = {
            "schema": SCHEMA_VERSION,
            "torch": self.torch,
            "convention": CONVENTION,
            "models": {name: _model_data(model) for name, model in self.models.items()},
        }
        return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, default=str) + "\n"


def _model_data(model: ModelCosts) -> dict[str, Any]:
    return {
        "build": model.build,
        "input": model.input,
        "arguments": dict(model.arguments),
        **model.costs,
        "layers": {path: {"layer": one.layer, **one.costs} for path, one in model.layers.items()},
    }


def torch_version() -> str:
    """The version of PyTorch; counts do not depend on the build after the plus sign."""
    import torch

    return str(torch.__version__).partition("+")[0]


def check_writable(file: Path) -> None:
    """Refuse a baseline that could not be written, before anything is counted for it.

    Raises:
        SettingError: for a file whose folder is missing or cannot be written, or that is a folder.
    """
    if not file.parent.is_dir():
        raise SettingError(f"cannot write the baseline {file}: {file.parent} is not a folder")
    if file.is_dir():
        raise SettingError(f"cannot write the baseline {file}: it is a folder")
    if not os.access(file.parent, os.W_OK):
        raise SettingError(f"cannot write the baseline {file}: no permission to write in {file.parent}")


def write_baseline(file: Path, baseline: Baseline) -> None:
    """Write a baseline, whole or not at all.

    Raises:
        SettingError: when the file cannot be written.
    """
    try:
        replace_file(file, baseline.to_text().encode())
    except OSError as error:
        raise SettingError(f"cannot write the baseline {file}: {error.strerror}") from error


def read_baseline(file: Path) -> Baseline | None:
    """The committed counts; None where there is no file.

    Raises:
        SettingError: for a file that cannot be read, is of another schema or convention, or is damaged.
    """
    if not os.path.lexists(file):
        return None
    anew = "look at what changed, then write it anew with: e4profile guard --update"
    data = read_document(file, "baseline", SCHEMA_VERSION, anew)
    if data.get("convention") != CONVENTION:
        raise SettingError(
            f"the baseline {file} counts by convention {data.get('convention')!r}, not {CONVENTION!r}; {anew}"
        )
    try:
        models = {name: _model(model) for name, model in data["models"].items()}
        return Baseline(_typed(data["torch"], str), models)
    except (AttributeError, KeyError, TypeError) as error:
        raise SettingError(f"the baseline {file} is damaged ({type(error).__name__}: {error}); {anew}") from error


def _model(data: Mapping[str, Any]) -> ModelCosts:
    layers = {path: LayerCosts(_typed(layer["layer"], str), _costs(layer)) for path, layer in data["layers"].items()}
    return ModelCosts(
        _typed(data["build"], str), _typed(data["input"], str), _typed(data["arguments"], dict), _costs(data), layers
    )


def _costs(data: Mapping[str, Any]) -> dict[str, int]:
    needed = {name: _typed(data[name], int) for name in QUANTITIES[:2]}
    return needed | {name: _typed(data[name], int) for name in QUANTITIES[2:] if name in data}


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
