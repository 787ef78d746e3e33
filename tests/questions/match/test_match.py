"""The command ``match``: its table, its JSON object, its exit codes."""

from __future__ import annotations

import json

import pytest
from program import says


def test_json_is_one_object_of_exact_integers(run):
    code, out, _ = run("match", "c-z2cnn", "--to", "z2cnn", "--format", "json")
    assert code == 0
    assert json.loads(out) == {
        "model": "c-z2cnn",
        "setting": {"width": 56},
        "by": "params",
        "target": 25210,
        "target_name": "z2cnn",
        "value": 24818,
        "deviation": -392,
        "below": {"setting": {"width": 55}, "value": 24045, "deviation": -1165},
        "above": {"setting": {"width": 57}, "value": 25603, "deviation": 393},
    }


def test_the_table_shows_the_runners_up(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("match", "c-z2cnn", "--to", "z2cnn")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[4:7]] == ["below", "nearest", "above"]
    assert "near tie: width 57 misses by 393, the nearest by 392" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert run("match", "c-z2cnn", "--to", "z2cnn")[1] == out


@pytest.mark.parametrize("arguments", [["--params", "25k"], ["--by", "params", "--to", "25000"]])
def test_numbers_are_targets(run, arguments):
    code, out, _ = run("match", "p4cnn", *arguments, "-f", "json")
    assert code == 0
    assert json.loads(out)["setting"] == {"width": 10}


def test_settings_are_kept(run):
    code, out, _ = run("match", "e4net", "--macs", "3G", "--set", "slices=4", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found["by"] == "macs"
    assert found["setting"]["width"] % 4 == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["p4cnn"], "give one target"),
        (["p4cnn", "--params", "25k", "--macs", "3M"], "found --params and --macs"),
        (["p4cnn", "--params", "many"], "'many' is not a number"),
        (["p4cnn", "--params", "25k", "--by", "macs"], "contradicts"),
        (["p4cnn", "--to", "nosuch"], "unknown model 'nosuch'"),
        (["p4cnn", "--to", "25k", "--vary", "kernel"], "takes no kernel"),
        (["p4cnn", "--to", "25k", "--set", "breadth=3"], "unknown argument"),
        (["p4cnn", "--to", "25k", "-f", "xml"], "unknown format"),
        (["p4cnn", "--to", "25k", "--batch-size", "0"], "--batch-size (=0) must be a positive integer"),
        (["p4cnn", "--to", "nan"], "--to (=nan) is not a number"),
        (["p4cnn", "--to", "-inf"], "--to (=-inf) is not finite"),
        (["p4cnn", "--to", "-25k"], "--to (=-25k) must be positive: write 25210, 25k"),
        (["p4cnn", "--to", "0"], "--to (=0) must be positive: write 25210, 25k"),
        (["p4cnn", "--to", "12", "--by", "time"], "--to (=12) is a time without its unit: write 30ms"),
        (["p4cnn", "--to", "12ms", "--by", "macs"], "--to (=12ms) is a time, not a count: write 25210, 25k"),
        (["p4cnn", "--to", "25k", "--to-arg", "width=3"], "--to-arg (width=3) is for a network"),
        (["p4cnn", "--to", "25k", "--vary", "width=9..8"], "is empty"),
        (["p4cnn", "--to", "nets.py:build"], "needs its inputs"),
        (["nets.py:build", "--to", "25k"], "needs its inputs"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, message):
    code, out, err = run("match", *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_time_is_measured_and_said_so(run):
    code, out, err = run("match", "p4cnn", "--to", "800us", "--max-run-time-s", "0.02", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert (found["by"], found["model"]) == ("time", "p4cnn")
    assert found["value"] > 0
    assert found["verdict"] in ("clear", "ambiguous")
    assert "time of p4cnn at width=" in err
    assert "time of in turn: width=" in err
    assert "a setting that was not measured may come nearer" in err


def test_a_time_has_its_unit_and_its_interval(run):
    arguments = ("p4cnn", "--to", "30ms", "--vary", "width=1..2", "--max-run-time-s", "0.05")
    code, out, _ = run("match", *arguments)
    assert code == 0
    assert "p4cnn nearest to 30.00 ms" in out
    assert "95% from" in out
    assert "no setting looked at takes that long" in " ".join(out.split())


def test_out_of_reach_is_no_tie(run):
    code, out, _ = run("match", "p4cnn", "--params", "1G", "--vary", "width=10..12")
    assert code == 0
    assert says(" ".join(out.split()), "out of reach", "above every setting")
    assert "tie" not in out
    assert "out of reach" in run("match", "p4cnn", "--params", "1")[1]


NETS = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self, width=8, scale=1.0):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3, bias=False), nn.Linear(5, width, bias=False)

    def forward(self, image, extra):
        return self.a(image).mean((2, 3)) + self.b(extra)

def build(width=8):
    print("building")
    return nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.Flatten(), nn.LazyLinear(2))

def raises(width=8):
    raise ValueError("never")
"""


@pytest.fixture
def nets(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return lambda *arguments: run("match", *arguments)


def test_models_of_ones_own(nets):
    code, out, err = nets("nets.py:Two", "--input", "2x3x8x8", "--input", "2x5", "--params", "1k", "-f", "json")
    found = json.loads(out)
    assert code == 0
    assert (found["setting"], found["value"]) == ({"width": 31}, 32 * 31)
    assert "counted from what one call runs" in err
    code, out, _ = nets("nets.py:Two", "--input", "2x3x8x8", "--input", "2x5", "--macs", "60k", "-f", "json")
    assert json.loads(out)["value"] == 2 * (27 * 36 + 5) * 31
    code, out, _ = nets("nets.py:Two", "--input", "2x3x8x8", "--input", "2x5", "--to", "12ms", "--vary", "width=1..2",
                       "--max-run-time-s", "0.02", "-f", "json")  # fmt: skip
    assert code == 0
    assert json.loads(out)["by"] == "time"


def test_a_target_of_ones_own_and_lazy_layers(nets):
    code, out, err = nets("z2cnn", "--to", "nets.py:build", "--to-arg", "width=100", "--input", "1x3x6x6", "-f", "json")
    assert code == 0
    assert json.loads(out)["target"] == 2700 + 100 * 16 * 2 + 2
    assert "building" in err


def test_memory_of_a_model_of_ones_own(nets):
    code, out, _ = nets("nets.py:Two", "--input", "1x3x8x8", "--input", "1x5", "--to", "1MiB")
    assert code == 0
    assert "nearest to 1.00 MiB" in out
    assert "at batch 2" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nets.py:Two", "--input", "1x3x8x8", "--params", "1k"], "missing 1 required positional argument"),
        (["nets.py:build", "--input", "1x3x8x8", "--params", "1k", "--vary", "widht"], "did you mean width"),
        (["nets.py:Two", "--input", "1x3x8x8", "--input", "1x5", "--params", "1k", "--vary", "scale"],
         "scale (=1.0) is not a whole number"),
        (["nets.py:raises", "--input", "1x3x8x8", "--params", "1k"], "cannot build with (): ValueError: never"),
    ],
)  # fmt: skip
def test_bad_models_of_ones_own_are_one_line_and_exit_code_2(nets, arguments, message):
    code, out, err = nets(*arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("e4profile: ")]
    assert message in line


def test_an_interrupt_shows_what_was_measured(run, monkeypatch):
    from e4profile.witnesses.timing.in_turn import ForwardInTurn

    take, calls = ForwardInTurn.__call__, []

    def stops(self, subjects, *, brief=False):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(brief)
        return take(self, subjects, brief=brief)

    monkeypatch.setattr(ForwardInTurn, "__call__", stops)
    arguments = ("match", "p4cnn", "--to", "1ms", "--vary", "width=2..8", "--max-run-time-s", "0.02")
    code, out, err = run(*arguments)
    assert code == 130
    assert "nearest" in out
    assert "interrupted: 2 brief measurements" in out
    assert "the result above holds only what was finished" in err
    calls.clear()
    code, out, _ = run(*arguments, "--format", "json")
    assert (code, json.loads(out)["verdict"]) == (130, "interrupted")
    # nothing measured, nothing shown
    calls[:] = [True, True]
    code, out, _ = run(*arguments)
    assert (code, out) == (130, "")


def test_a_time_that_is_none_is_named_as_it_was_given() -> None:
    from e4profile.errors import SettingError
    from e4profile.witnesses.timing.in_turn import ForwardInTurn

    for seconds in (-1.0, 0.0, float("nan")):
        with pytest.raises(SettingError, match=r"max_run_time_s \(="):
            ForwardInTurn(max_run_time_s=seconds)
