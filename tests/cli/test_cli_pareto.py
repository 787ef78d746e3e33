"""The command ``pareto``: errors labelled as published, a named front, files on request."""

from __future__ import annotations

import json

import pytest

from e4profile.cli import main as program


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["e4profile", "pareto", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    code = 0
    try:
        program.main()
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    return code, output.out, output.err


def test_the_table_names_the_front_and_says_published(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "--table", "3")
    text = " ".join(out.split())
    assert code == 0
    assert "the front, cheapest first: r=4; r=2; s=2 = r=1 = k=5; s=4" in text
    assert "errors are published, not measured here" in text
    assert "published test error against MACs" in text
    assert max(map(len, out.splitlines())) <= 80
    assert "7 of 7 done" in err
    assert run(monkeypatch, capsys, "--table", "3")[1] == out


def test_json_has_exact_costs(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "p4cnn", "z2cnn", "--x", "params", "--format", "json")
    assert code == 0
    assert json.loads(out) == [
        {
            "on_front": True,
            "network": "P4CNN",
            "card": "p4cnn",
            "params": 24810,
            "published_error": 2.23,
            "published_spread": 0.061,
            "dominated_by": None,
        },
        {
            "on_front": False,
            "network": "Z2CNN",
            "card": "z2cnn",
            "params": 25210,
            "published_error": 5.2,
            "published_spread": 0.11,
            "dominated_by": "P4CNN",
        },
    ]


def test_the_figure_is_written_on_request(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, "--table", "4", "--y", "cifar10", "--out", str(tmp_path / "new"))
    name = "pareto-4-test-error-cifar10-macs"
    assert code == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        f"{name}.{e}" for e in ("svg", "png", "csv")
    }
    assert "published test error" not in err
    assert "wrote pareto-4" in err


def test_costs_come_from_a_sweep(monkeypatch, capsys, tmp_path):
    from e4profile.cards import find_card
    from e4profile.plans import Setting
    from e4profile.records import RecordStore
    from e4profile.sweeps import measure_setting

    store = RecordStore(tmp_path / "records.jsonl")
    for slices in (1, 4):
        card = find_card("e4net-printed").with_arguments({"slices": slices})
        store.append(measure_setting(Setting(card.name, card)))
    code, out, _ = run(
        monkeypatch, capsys, "--sweep", str(store.path), "--table", "3", "--x", "params", "--format", "json"
    )
    assert code == 0
    assert [(row["network"], row["params"]) for row in json.loads(out)] == [("s=1", 16336), ("s=4", 23986)]


def test_time_is_measured(monkeypatch, capsys):
    code, out, _ = run(
        monkeypatch, capsys, "z2cnn", "--x", "time", "--max-run-time-s", "0.02", "--format", "json"
    )
    assert code == 0
    assert json.loads(out)[0]["time"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give networks or --table"),
        (["z2cnn", "r18"], "errors of different data are not compared"),
        (["z2cnn", "--x", "watts"], "unknown cost 'watts'"),
        (["z2cnn", "--y", "loss"], "unknown published error"),
        (["nosuch"], "unknown model"),
        (["--sweep", "nosuch.jsonl"], "does not exist"),
        (["--table", "4"], "choose with --y cifar10, cifar100"),
        (["z2cnn", "-f", "xml"], "unknown format"),
        (["z2cnn", "--x", "memory", "--batch-size", "0"], "--batch-size (=0) must be a positive integer"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, arguments, message):
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
