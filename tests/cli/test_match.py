"""The command ``match``: its table, its JSON object, its exit codes."""

from __future__ import annotations

import json

import pytest

from e4profile.cli import main as program


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["e4profile", "match", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    code = 0
    try:
        program.main()
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    return code, output.out, output.err


def test_json_is_one_object_of_exact_integers(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "c-z2cnn", "--to", "z2cnn", "--format", "json")
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


def test_the_table_shows_the_runners_up(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "c-z2cnn", "--to", "z2cnn")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[4:7]] == ["below", "nearest", "above"]
    assert "near tie: width 57 is 393 away, the nearest 392" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert run(monkeypatch, capsys, "c-z2cnn", "--to", "z2cnn")[1] == out


@pytest.mark.parametrize("arguments", [["--params", "25k"], ["--by", "params", "--to", "25000"]])
def test_numbers_are_targets(monkeypatch, capsys, arguments):
    code, out, _ = run(monkeypatch, capsys, "p4cnn", *arguments, "-f", "json")
    assert code == 0
    assert json.loads(out)["setting"] == {"width": 10}


def test_settings_are_kept(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "e4net", "--macs", "3G", "--set", "slices=4", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found["by"] == "macs"
    assert found["setting"]["width"] % 4 == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["p4cnn"], "give one target"),
        (["p4cnn", "--params", "25k", "--macs", "3M"], "found --params and --macs"),
        (["p4cnn", "--params", "many"], "'many' is no number"),
        (["p4cnn", "--params", "25k", "--by", "macs"], "contradicts"),
        (["p4cnn", "--to", "nosuch"], "unknown model 'nosuch'"),
        (["p4cnn", "--to", "25k", "--vary", "kernel"], "takes no kernel"),
        (["p4cnn", "--to", "25k", "--set", "breadth=3"], "unknown argument"),
        (["p4cnn", "--to", "25k", "-f", "xml"], "unknown format"),
        (["p4cnn", "--to", "25k", "--batch-size", "0"], "--batch-size (=0) must be a positive integer"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, arguments, message):
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_time_is_measured_and_said_so(monkeypatch, capsys):
    code, out, err = run(
        monkeypatch, capsys, "p4cnn", "--to", "800us", "--max-run-time-s", "0.02", "--format", "json"
    )
    found = json.loads(out)
    assert code == 0
    assert (found["by"], found["model"]) == ("time", "p4cnn")
    assert found["value"] > 0
    assert "time of p4cnn at width=" in err
    assert "a setting not measured may come nearer" in err
