"""The pre-commit hook and the GitHub action: their command lines are run, not read."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from docs_program import write_shim
from guarded_project import run_guard, write_project

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory, program: str) -> dict[str, str]:
    """This interpreter's programs first on the path, under the names that the files use."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (folder / "python").chmod(0o755)
    write_shim(folder, program)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_the_hook_guards_the_project(tmp_path: Path, environment: dict[str, str]) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in hooks] == ["e4profile-guard"]
    hook = hooks[0]
    assert {"name", "entry", "language"} <= set(hook)
    assert hook["pass_filenames"] is False
    write_project(tmp_path)

    def run() -> int:
        command = shlex.split(hook["entry"])
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=300, check=False)
        return done.returncode

    assert run() == 3
    run_guard(tmp_path, "--update")
    assert run() == 0
    write_project(tmp_path, args={"width": 9})
    assert run() == 1


def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return loaded


def run_step(step: dict[str, Any], folder: Path, environment: dict[str, str], **inputs: str) -> int:
    """Run a step as the platform does: bash -e with its env, expressions of inputs filled in."""
    values = {name: one["default"] for name, one in action()["inputs"].items()} | inputs

    def fill(text: str) -> str:
        filled = re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: values[match[1]], text)
        assert "${{" not in filled
        return filled

    given = {name: fill(value) for name, value in step.get("env", {}).items()}
    files = {name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", fill(step["run"])],
        cwd=folder, env={**environment, **files, **given}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    (folder / "stdout").write_text(done.stdout)
    return done.returncode


def test_the_action_guards_the_project(tmp_path: Path, environment: dict[str, str]) -> None:
    definition = action()
    assert definition["runs"]["using"] == "composite"
    steps = definition["runs"]["steps"]
    assert all(step["shell"] == "bash" for step in steps)
    guard = next(step for step in steps if step.get("id") == "guard")
    assert definition["outputs"]["exit-code"]["value"] == "${{ steps.guard.outputs.exit-code }}"
    write_project(tmp_path)
    assert run_step(guard, tmp_path, environment) == 3
    run_guard(tmp_path, "--update")
    assert run_step(guard, tmp_path, environment, junit="j.xml", config="pyproject.toml") == 0
    assert ET.parse(tmp_path / "j.xml").getroot().attrib["failures"] == "0"
    write_project(tmp_path, args={"width": 9})
    assert run_step(guard, tmp_path, environment, markdown="") == 1
    assert (tmp_path / "stdout").read_text().count("::error file=pyproject.toml") == 1
    assert (tmp_path / "GITHUB_OUTPUT").read_text().split() == ["exit-code=3", "exit-code=0", "exit-code=1"]
    summary = (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert summary.count("<!-- e4profile guard -->") == 2
    assert run_step(guard, tmp_path, environment, config="none.toml") == 2


def test_the_action_installs_itself(tmp_path: Path, environment: dict[str, str]) -> None:
    install = next(step for step in action()["runs"]["steps"] if "pip install" in step["run"])
    assert install["if"] == "inputs.install == 'true'"
    said = tmp_path / "said"
    recorder = tmp_path / "bin" / "python"
    recorder.parent.mkdir()
    recorder.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {shlex.quote(str(said))}\n')
    recorder.chmod(0o755)
    path = f"{recorder.parent}{os.pathsep}{environment['PATH']}"
    assert run_step(install, tmp_path, {**environment, "PATH": path, "GITHUB_ACTION_PATH": str(ROOT)}) == 0
    *command, package = said.read_text().splitlines()
    assert command[:3] == ["-m", "pip", "install"]
    assert 'name = "e4profile"' in (Path(package) / "pyproject.toml").read_text()
