"""The records of a device: what ``make gpu`` runs, tried on this CPU, and what becomes of steps that fail."""

from __future__ import annotations

import importlib.util
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
from program import caller

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_records", ROOT / "scripts" / "gpu_records.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_records"] = module
    spec.loader.exec_module(module)
    return module


def test_every_step_runs_on_a_cpu(script, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "cpu-dry-run"
    folder.mkdir()
    call = caller(capsys, monkeypatch)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for step in script.steps("cpu", quick=True):
        command = step.command(folder)[1:]
        if command[:2] == ["-m", "e4profile"]:
            result = call(*command[2:])
            assert result.code == 0, (step.name, result.err)
            if step.output:
                assert json.loads(result.out)
        elif command[0].startswith("benchmarks/"):
            monkeypatch.setattr(sys, "argv", command)
            code = 0
            try:
                runpy.run_path(str(ROOT / command[0]), run_name="__main__")
            except SystemExit as stop:
                code = stop.code
            assert code in (0, None), step.name
        else:
            assert command[:2] == ["-m", "pytest"]
            assert all((ROOT / part).exists() for part in command if part.startswith("tests/"))
    written = {file.name for file in folder.iterdir()}
    assert {"operators.json", "irreps.json", "peaks.json", "times.jsonl", "calibration.json", "roof.jsonl"} <= written
    peaks = json.loads((folder / "peaks.json").read_text())["rows"]
    assert all(row["predicted_peak_bytes"] == row["measured_peak_bytes"] for row in peaks)


def test_on_a_device_the_published_networks_run_and_fit_the_minutes(script):
    found = script.steps("cuda", quick=False)
    assert all(name in step.arguments for step in found if step.name.startswith("times") for name in script.NETWORKS)
    assert any("--cuda-graphs" in step.arguments for step in found)
    assert not any("cpu" in step.arguments.split() or "--quick" in step.arguments for step in found)


def test_a_step_that_fails_or_lasts_costs_no_other_its_turn(script, tmp_path, monkeypatch, capsys):
    Step = script.Step
    (tmp_path / "say.py").write_text("import sys; print(sys.argv[1]); sys.exit(int(sys.argv[2]))")
    (tmp_path / "sleep.py").write_text("import time; print('asleep', flush=True); time.sleep(60)")
    say, sleep = (str(tmp_path / name) for name in ("say.py", "sleep.py"))
    found = [Step("fails", 20, f"{say} words 3"), Step("lasts", 1, sleep), Step("writes", 20, f"{say} 7 0", "out.json")]
    monkeypatch.setattr(script, "steps", lambda device, quick: found)
    asked = ["--device", "cpu", "--out", str(tmp_path / "gpu"), "--wheels", str(tmp_path / "none")]
    assert script.main(asked) == 1
    folder = tmp_path / "gpu" / "cpu-dry-run"
    outcomes = json.loads((folder / "steps.json").read_text())
    assert [one["remark"] for one in outcomes] == ["exit code 3", "stopped after 1 s", ""]
    log = (folder / "log.txt").read_text()
    assert "words" in log
    assert "asleep" in log
    assert json.loads((folder / "out.json").read_text()) == 7
    assert script.main([*asked, "--minutes", "0.0"]) == 1
    late = json.loads((folder / "steps.json").read_text())
    assert [one["code"] for one in late] == [None] * 3
    assert all(one["remark"].startswith("not run") for one in late)
    assert "not run" in capsys.readouterr().out
