"""The command ``pareto``: errors labelled as published, a named front, files on request."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from program import says


def test_the_table_names_the_front_and_says_published(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("pareto", "--table", "3")
    text = " ".join(out.split())
    assert code == 0
    assert "the front, cheapest first: r=4; r=2; s=2 = r=1 = k=5; s=4" in text
    assert "errors are published, not measured here" in text
    assert "published test error against MACs" in text
    assert max(map(len, out.splitlines())) <= 80
    assert "7 of 7 done" in err
    assert run("pareto", "--table", "3")[1] == out


def test_json_has_exact_costs(run):
    code, out, _ = run("pareto", "p4cnn", "z2cnn", "--x", "params", "--format", "json")
    assert code == 0
    assert json.loads(out) == [
        {
            "on_front": True,
            "network": "P4CNN",
            "card": "p4cnn",
            "params": 24810,
            "published_error": 2.23,
            "published_spread": 0.061,
            "unresolved": None,
            "dominated_by": None,
        },
        {
            "on_front": False,
            "network": "Z2CNN",
            "card": "z2cnn",
            "params": 25210,
            "published_error": 5.2,
            "published_spread": 0.11,
            "unresolved": None,
            "dominated_by": "P4CNN",
        },
    ]


@pytest.mark.parametrize(
    "asked", [("pareto", "--y", "cifar10", "--out"), ("sweep", "--front", "cifar10,macs", "--plot")]
)
def test_the_figure_is_written_on_request(run, tmp_path, asked):
    command, *options = asked
    code, _, err = run(command, "--table", "4", *options, str(tmp_path / "new"))
    name = "pareto-4-test-error-cifar10-macs"
    assert code == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {f"{name}.{e}" for e in ("svg", "png", "csv")}
    assert "published test error" not in err
    assert "pareto-4" in err


def test_costs_come_from_a_sweep(run, tmp_path):
    from e4profile.groups import as_group
    from e4profile.questions.sweep.plans import Setting
    from e4profile.questions.sweep.sweeps import measure_setting
    from e4profile.records.store import RecordStore
    from e4profile.subjects.subject import resolve

    store = RecordStore(tmp_path / "records.jsonl")
    for slices in (1, 4):
        card = resolve("e4net-printed").with_arguments({"slices": slices})
        store.append(measure_setting(Setting(card.name, card, as_group("p4"))))
    code, out, _ = run("pareto", "--sweep", str(store.path), "--table", "3", "--x", "params", "--format", "json")
    assert code == 0
    assert [(row["network"], row["params"]) for row in json.loads(out)] == [("s=1", 16336), ("s=4", 23986)]


def test_time_is_measured(run):
    code, out, _ = run("pareto", "z2cnn", "--x", "time", "--max-run-time-s", "0.02", "--format", "json")
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
        (["--table", "4"], "name one in place of error: cifar10, cifar100"),
        (["z2cnn", "-f", "xml"], "unknown format"),
        (["e4net"], "e4net has no published error: … --error e4net=VALUE"),
        (["z2cnn", "--error", "z2cn=3"], "unknown network in --error 'z2cn'; did you mean z2cnn"),
        (["z2cnn", "--error", "z2cnn=nan"], "give a percentage from 0 to 100"),
        (["z2cnn", "--error", "z2cnn=101"], "give a percentage from 0 to 100"),
        (["z2cnn", "--error", "z2cnn"], "must be NAME=PERCENT"),
        (["z2cnn", "--error", "z2cnn=1", "--error", "z2cnn=2"], "has two errors"),
        (["--error", "z2cnn=1"], "name the network too"),
        (["z2cnn", "--arg", "widht=3"], "did you mean width"),
        (["nets.py:build", "--error", "nets.py:build=3"], "needs its inputs"),
        (["--sweep", "x.jsonl", "z2cnn", "--error", "z2cnn=1"], "omit --error"),
        (["z2cnn", "--x", "memory", "--batch-size", "0"], "--batch-size (=0) must be a positive integer"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, message):
    code, out, err = run("pareto", *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 2  # the first says the new name
    assert says(err, *message.split(" … "))


NETS = """
from torch import nn

class Two(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, width, 3, bias=False), nn.Linear(5, width, bias=False)

    def forward(self, image, extra):
        return self.a(image).mean((2, 3)) + self.b(extra)

def build(width=4):
    return nn.Sequential(nn.Conv2d(1, width, 3, bias=False), nn.Flatten(), nn.Linear(676 * width, 10, bias=False))

def fails():
    return nn.Conv2d(9, 1, 3)
"""


@pytest.fixture
def nets(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return lambda *arguments: run("pareto", *arguments)


def test_a_given_error_is_never_shown_as_published(nets):
    arguments = ("z2cnn", "nets.py:build", "--input", "1x1x28x28", "--arg", "width=2", "--error", "nets.py:build=0.9%")
    code, out, _ = nets(*arguments, "-f", "json")
    assert code == 0
    rows = {row["network"]: row for row in json.loads(out)}
    mine, theirs = rows["nets.py:build"], rows["Z2CNN"]
    assert (mine["given_error"], mine["published_error"], mine["published_spread"]) == (0.9, None, None)
    assert (theirs["given_error"], theirs["published_error"]) == (None, 5.2)
    assert mine["macs"] == 9 * 2 * 676 + 6760 * 2
    assert (mine["on_front"], theirs["dominated_by"]) == (True, "nets.py:build")
    text = " ".join(nets(*arguments)[1].split())
    assert "published test error and given error against MACs" in text
    assert says(text, "--error", "neither published nor measured", "nets.py:build")


def test_given_errors_alone_need_no_table_and_cards_take_them_too(nets, tmp_path):
    code, out, err = nets("nets.py:build", "e4net", "--input", "1x1x28x28", "--error", "e4net=1.2",
                         "--error", "nets.py:build=3", "--x", "params", "--out", "figs")  # fmt: skip
    assert code == 0
    assert out.startswith("Given error against params")
    assert "published" not in out.partition("errors given")[0]
    assert "pareto-error-params.svg" in err
    lines = (tmp_path / "figs" / "pareto-error-params.csv").read_text().splitlines()
    assert lines[0] == "network,card,cost,given_error,spread,on_front"


@pytest.mark.parametrize("x", ["macs", "memory", "time"])
def test_several_inputs(nets, x):
    arguments = ("nets.py:Two", "z2cnn", "--input", "2x1x28x28", "--input", "2x5", "--error", "nets.py:Two=2")
    code, out, _ = nets(*arguments, "--x", x, "--max-run-time-s", "0.02", "-f", "json")
    assert code == 0
    rows = {row["network"]: row for row in json.loads(out)}
    if x == "macs":
        # both of a batch of two
        from e4profile.subjects.subject import resolve
        from e4profile.witnesses.counts.measure import measure

        assert rows["nets.py:Two"][x] == 2 * (9 * 8 * 676 + 40)
        assert rows["Z2CNN"][x] == 2 * measure(resolve("z2cnn"), ()).dispatch.macs
    assert all(row[x] > 0 for row in rows.values())


def test_a_network_whose_published_cost_is_not_reproduced_is_marked(run, tmp_path):
    arguments = ("p4-e4r18", "r18", "--table", "4", "--y", "cifar10", "--x", "params")
    code, out, _ = run("pareto", *arguments, "--out", str(tmp_path), "-f", "json")
    assert code == 0
    marked = {row["card"]: row["unresolved"] for row in json.loads(out)}
    assert marked == {"p4-e4r18": "params 5.8M, flops 1.85G", "r18": None}
    assert "published cost not reproduced: p4-E4R18" in " ".join(run("pareto", *arguments)[1].split())
    assert "p4-E4R18\u2020" in next(tmp_path.glob("*.csv")).read_text()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(nets, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = nets("z2cnn", "--out", "file")
    assert (code, out) == (2, "")
    assert "cannot write figures to file" in err
    assert "to do" not in err


def test_the_models_own_error_names_its_module(nets):
    code, out, err = nets("nets.py:fails", "--input", "1x1x8x8", "--error", "nets.py:fails=1")
    assert (code, out) == (2, "")
    assert "in the network itself (Conv2d): RuntimeError" in err


def test_an_interrupt_keeps_what_is_finished(nets, monkeypatch):
    from e4profile.witnesses.counts.measure import measure

    def stops(card, *rest):
        if card.name != "z2cnn":
            raise KeyboardInterrupt
        return measure(card, *rest)

    monkeypatch.setattr("e4profile.questions.sweep.pareto.measure", stops)
    code, out, _ = nets("z2cnn", "p4cnn")
    assert code == 130
    assert says(out, "interrupted", "1 of 2 networks", "alone")
    code, out, _ = nets("p4cnn", "c-z2cnn")
    assert (code, out) == (130, "")


def test_times_are_sampled_in_turn(run, monkeypatch):
    from e4profile.witnesses.timing.in_turn import ForwardInTurn

    take, asked = ForwardInTurn.__call__, []

    def noted(self, subjects, *, brief=False):
        asked.append(([(one.name, one.own_batch) for one in subjects], self.max_run_time_s))
        return take(self, subjects, brief=brief)

    monkeypatch.setattr(ForwardInTurn, "__call__", noted)
    arguments = ("z2cnn", "p4cnn", "--x", "time", "--batch-size", "2", "--max-run-time-s", "0.02")
    code, out, err = run("pareto", *arguments, "--out", "drawn")
    assert code == 0
    (points,) = (csv.DictReader(file.read_text().splitlines()) for file in Path("drawn").glob("*.csv"))
    for row in points:
        assert float(row["low"]) <= float(row["cost"]) <= float(row["high"] or "inf")
    assert "95% from" in out
    assert asked == [([("z2cnn", 2), ("p4cnn", 2)], 0.02)]
    assert "measured in turn on cpu, forward at batch 2, 1 thread" in out
    assert "2 networks in turn, 0.04 s of samples at most" in err


def test_a_cost_that_is_a_lower_bound_is_marked(nets, tmp_path):
    (tmp_path / "nets.py").write_text(
        "import torch\n" + NETS + "\nclass Exponential(Two):\n    def forward(self, image):\n"
        "        return torch.linalg.matrix_exp(self.a(image))\n"
    )
    arguments = ("z2cnn", "nets.py:Exponential", "--input", "1x1x28x28", "--error", "nets.py:Exponential=0.9")
    code, out, _ = nets(*arguments)
    text = " ".join(out.split())
    assert code == 0
    assert (
        "lower bounds, which are on no front: unknown operators in nets.py:Exponential (aten::linalg_matrix_exp" in text
    )
    assert "the front, cheapest first: Z2CNN errors" in text.replace("note: ", "")
    rows = {row["network"]: row for row in json.loads(nets(*arguments, "-f", "json")[1])}
    assert [rows[name]["bound"] for name in ("Z2CNN", "nets.py:Exponential")] == [None, "at least"]
    assert rows["nets.py:Exponential"]["on_front"] is False
    params = json.loads(nets(*arguments, "--x", "params", "-f", "json")[1])
    assert "bound" not in params[0]
