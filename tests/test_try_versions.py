"""The script that tries other versions: what it finds and what it says, without installing anything."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("try_versions", ROOT / "scripts" / "try_versions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["try_versions"] = module
    spec.loader.exec_module(module)
    return module


def test_it_takes_the_pinned_torch(script: ModuleType) -> None:
    assert f"torch=={script.pinned_torch()}" in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()


def test_a_missing_interpreter_is_said(script: ModuleType, tmp_path: Path) -> None:
    assert script.interpreter("2.99") is None
    assert str(script.attempt("2.99", "1.0", tmp_path, cuda=False)).startswith("| 2.99 | 1.0 | not tried | no such")


def test_a_step_that_fails_says_its_last_line(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(script.Failed, match="step: exit code 3: second"):
        script.run([sys.executable, "-c", "print('first'); print('second'); raise SystemExit(3)"], "step", tmp_path)


@pytest.mark.parametrize(("names", "cuda"), [(["torch", "sympy"], False), (["torch", "nvidia-cublas"], True)])
def test_cuda_is_seen_in_the_resolver_s_report(
    script: ModuleType, tmp_path: Path, names: list[str], cuda: bool
) -> None:
    report = json.dumps({"install": [{"metadata": {"name": name}} for name in names]})
    pip = [sys.executable, "-c", f"print({report!r})"]
    assert script.brings_cuda(pip, "torch==1.0", tmp_path) is cuda


def test_its_commands_exist(script: ModuleType) -> None:
    from e4profile.cli.main import listed

    names = {arguments[0] for arguments in (*script.MAIN_JOB, *script.WITHOUT_TORCH)}
    assert {name for name in names if not name.startswith("-")} <= set(listed())
