"""``e4profile sweep MODEL --vary``: every combination of the arguments of one network."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from e4profile.questions.sweep.variant_sweep import _Counting
from e4profile.records.jobs import array, worker
from e4profile.records.jobs.executors import State
from e4profile.records.jobs.setting import TimeSetting, record_of
from e4profile.records.jobs.worker import run_part
from e4profile.records.store import Record
from e4profile.subjects.subject import Subject
from e4profile.witnesses.timing.in_turn import ForwardInTurn
from tests.program import Run, says

NET = """
from torch import nn

def build(width=4, kernel=3):
    if kernel == 9:
        raise ValueError("no nine")
    return nn.Sequential(nn.Conv2d(1, width, kernel, bias=False), nn.Flatten(), nn.LazyLinear(10, bias=False))
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    return "net.py:build"


def test_a_model_of_ones_own_over_two_arguments(run: Run, net: str) -> None:
    code, out, err = run(
        "sweep", net, "--input", "1x1x8x8", "--vary", "width=2,4,kernel=3,9,5", "--memory", "-f", "json"
    )
    assert code == 0
    rows = json.loads(out)
    assert [row["setting"] for row in rows] == [{"width": w, "kernel": k} for w in (2, 4) for k in (3, 5)]
    for row in rows:
        width, kernel = row["setting"]["width"], row["setting"]["kernel"]
        side = 9 - kernel
        assert row["params"] == width * kernel**2 + width * side**2 * 10
        assert row["macs"] == width * kernel**2 * side**2 + width * side**2 * 10
        assert row["step_bytes"] > 0
        assert row["median_s"] is None
    assert err.count("not built: width=") == 2
    assert "no nine" in err
    assert not list(Path().glob("reports"))


def test_a_card_over_what_the_grid_has_not(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("sweep", "p4cnn", "--vary", "width=8..10", "-f", "csv")
    assert code == 0
    counted = [run("count", "p4cnn", "--set", f"width={width}", "-f", "json").out for width in (8, 9, 10)]
    totals = [json.loads(text)["totals"] for text in counted]
    lines = out.splitlines()
    assert lines[0] == "width,params,macs"
    assert len(lines) == 1 + len(totals)
    for line, total in zip(lines[1:], totals, strict=True):
        assert line.split(",")[2] in json.dumps(total)
    _, flops, _ = run("sweep", "p4cnn", "--vary", "width=8..10", "--convention", "flops", "-f", "csv")
    pairs = zip(flops.splitlines()[1:], lines[1:], strict=True)
    assert all(int(one.split(",")[2]) == 2 * int(other.split(",")[2]) for one, other in pairs)
    assert flops.startswith("width,params,operations\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("e4net",), "--vary: give at least one argument with its values"),
        (("e4net", "--vary", "width"), "--vary width: give its values"),
        (("e4net", "--vary", "width=4", "--plot", "figures"), "--plot draws the paper's grid or a front"),
        (("e4net", "--front", "params,macs", "--convention", "flops"), "flops counts setting by setting"),
        (("--convention", "flops"), "--convention flops: the grid counts MACs; name the network"),
        (("e4net", "--vary", "reduction=2", "-r", "1"), "reduction is given 2 times"),
        (("e4net", "--vary", "width=4", "--model", "p4-cnn"), "--model belongs to the grid of cards"),
        (("--vary", "dropout=4"), "need a network"),
        (("e4net", "--vary", "widht=4"), "widht"),
    ],
)
def test_what_does_not_fit_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("sweep", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


OWN = ["--input", "1x1x8x8", "--vary", "width=2,4,8", "--vary", "kernel=3,9", "--out", "kept", "-f", "json"]


def test_what_was_counted_is_stored_and_read_back(run: Run, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    record = _Counting.record

    def counting(self: _Counting, one: Subject) -> Record:
        counted.append(one.full_name)
        return record(self, one)

    monkeypatch.setattr(_Counting, "record", counting)
    asked = ["sweep", net, *OWN, "--memory", "--counter", "fvcore"]
    first = run(*asked)
    assert (first.code, len(counted)) == (0, 6)
    again = run(*asked)
    assert again.out == first.out
    # what the network refuses is asked again
    assert counted[6:] == [f"{net} width={width} kernel=9" for width in (2, 4, 8)]
    assert says(again.err, "of the 3, 3 were read back from kept/records.jsonl")
    run(*asked, "--batch-size", "2")
    assert len(counted) == 15
    file = Path("net.py")
    file.write_text(file.read_text().replace("bias=False", "bias=True"))
    edited = run(*asked)
    assert len(counted) == 21
    assert [one["params"] for one in json.loads(edited.out)] != [one["params"] for one in json.loads(first.out)]


def test_what_was_timed_is_stored_and_read_back(run: Run, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["sweep", net, *OWN, "--time", "--max-run-time-s", "0.01"]
    first = run(*asked)
    assert first.code == 0
    taken = [one["median_s"] for one in json.loads(first.out)]
    assert all(taken)
    monkeypatch.setattr(ForwardInTurn, "__call__", None)
    again = run(*asked)
    assert [one["median_s"] for one in json.loads(again.out)] == taken
    assert says(again.err, "of 3 times, 3 were read back from kept/times.jsonl")
    # a setting is the same one whoever times it, and whichever command asks
    printed = run(*asked, "--jobs", "print")
    assert [one["median_s"] for one in json.loads(printed.out)] == taken
    fronts = run("sweep", net, *OWN[:-2], "--front", "params,time", "--time", "--max-run-time-s", "0.01", "-f", "json")
    assert {one["time_s"] for one in json.loads(fronts.out)} <= set(taken)


def test_jobs_time_the_settings_of_any_network(run: Run, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["sweep", net, *OWN, "--time", "--max-run-time-s", "0.01", "--jobs"]
    script = run(*asked, "print")
    assert script.out.startswith("#!/bin/bash")
    command = shlex.split(script.out.splitlines()[-1])

    def fails(setting: TimeSetting) -> Record:
        if setting.arguments.get("width") == 4:
            raise RuntimeError("CUDA out of memory")
        return record_of(setting)

    monkeypatch.setattr(worker, "record_of", fails)
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    run_part(command[-2], 0)
    # a stand-in for a submission whose job has ended
    monkeypatch.setattr(array, "submit", lambda *_: [("5", "")])
    monkeypatch.setattr(array, "states", lambda _, names: {name: State(False, "it ended early") for name in names})
    found = run(*asked, "slurm")
    assert found.code == 1
    rows = {one["setting"]["width"]: one for one in json.loads(found.out)}
    assert rows[4]["failure"] == "job 5: CUDA out of memory"
    assert rows[4]["median_s"] is None
    assert rows[2]["median_s"] > 0
    assert says(found.err, "1 timing failed", "the same command")
    missing = run("sweep", net, *OWN[:-4], "--time", "--jobs", "slurm")
    assert (missing.code, missing.out) == (2, "")
    assert says(missing.err, "--jobs", "--out DIR")
