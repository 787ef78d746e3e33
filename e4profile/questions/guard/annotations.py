"""The guard's problems as GitHub workflow commands, one per network: the platform shows ten per step."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from e4profile.errors import read_text
from e4profile.questions.guard.run import GuardResult, ModelResult

PLATFORMS = ("github",)

SHOWN = 10
"""Annotations of one kind that the platform shows for a step."""


def github_annotations(result: GuardResult) -> list[str]:
    """One command line per network with problems; the tenth gathers what does not fit.

    A baseline that no network has is said once.
    """
    config = result.config.file
    failing = [model for model in result.models if model.problems]
    if failing and all(check.status == "no baseline" for model in failing for check in model.problems):
        names = ", ".join(model.name for model in failing)
        return [_command(config, None, "e4profile guard", f"no baseline for {names}: {_first(failing)}")]
    shown = failing if len(failing) <= SHOWN else failing[: SHOWN - 1]
    lines = [
        _command(
            config,
            model.name,
            f"e4profile guard: {model.name}",
            "\n".join(f"{check.name}: {check.message}" for check in model.problems),
        )
        for model in shown
    ]
    if len(shown) < len(failing):
        rest = failing[len(shown) :]
        names = ", ".join(model.name for model in rest)
        lines.append(_command(config, None, "e4profile guard", f"{len(rest)} more networks deviate: {names}"))
    return lines


def _first(failing: Sequence[ModelResult]) -> str:
    return failing[0].problems[0].message


def _command(file: Path, model: str | None, title: str, message: str) -> str:
    properties = {"file": _relative(file), "title": title}
    line = _line_of(file, model) if model is not None else None
    if line is not None:
        properties["line"] = str(line)
    said = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::error {said}::{_data(message)}"


def _relative(file: Path) -> str:
    """As the platform wants it: from the folder that the step runs in, with forward slashes."""
    return Path(os.path.relpath(file)).as_posix()


def _line_of(file: Path, model: str) -> int | None:
    """The line that names the network; None where a text search does not find it."""
    pattern = re.compile(rf"""\s*name\s*=\s*(["']){re.escape(model)}\1""")
    lines = read_text(file).splitlines()
    return next((number for number, line in enumerate(lines, start=1) if pattern.match(line)), None)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
