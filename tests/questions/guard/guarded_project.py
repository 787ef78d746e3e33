"""A small project to guard: one file with a network, one configuration, and the program run on it."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e4profile.cli.main import main

NET = """
from torch import nn

def build(width=4, bias=True):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, bias=bias), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2)
    )
"""


def params_of(width: int, bias: bool = True) -> int:
    return 27 * width + bias * width + 2 * width + 2


def macs_of(width: int, size: int = 8, batch: int = 1) -> int:
    return batch * (27 * width * (size - 2) ** 2 + 2 * width)


def config_text(**entry: Any) -> str:
    entry = {"name": "net", "build": "net.py:build", "input": "1x3x8x8", **entry}
    return "[[tool.e4profile.models]]\n" + "".join(f"{key} = {toml(v)}\n" for key, v in entry.items())


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(v)}" for key, v in value.items()) + " }"
    return json.dumps(value)


def write_project(folder: Path, **entry: Any) -> Path:
    (folder / "net.py").write_text(NET)
    config = folder / "pyproject.toml"
    config.write_text(config_text(**entry))
    return config


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run_program(folder: Path, *arguments: str) -> Done:
    """The program in this process: a new one would spend seconds on importing."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    before, argv = Path.cwd(), sys.argv
    os.chdir(folder)
    sys.argv = ["e4profile", *arguments]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os.chdir(before)
        sys.argv = argv
    return Done(code, out.getvalue(), err.getvalue())


def run_guard(folder: Path, *options: str) -> Done:
    return run_program(folder, "guard", *options)
