"""Commands called in this process: exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from program import Run, says

from e4profile.questions.entry import SUMMARY_COLUMNS
from e4profile.questions.sweep.sweeps import COLUMNS

TINY = ("-r", "1", "-s", "1,2", "-k", "3", "--width", "2", "--no-plots")
CARD = 'name = "x"\nnetwork = "rot_mnist"\ninput = [1, 28, 28]\n[arguments]\ngroup = "p4"\nwidth = 2\n'


def test_sweep_json_is_one_array_of_objects_with_these_keys(run: Run, tmp_path: Path) -> None:
    code, out, err = run("sweep", "--group", "p4", *TINY, "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert [list(row) for row in rows] == [list(COLUMNS)] * 3
    for row in rows:
        for key in COLUMNS[6:13]:
            assert type(row[key]) is int
        assert row["agrees"] is True
        assert type(row["macs_ratio"]) in (float, int)
    assert [row["slices"] for row in rows] == [None, 1, 2]
    assert "3 to do" in err
    assert "3 of 3 done" in err
    # the options are in the folder's name: the figures of the bare sweep stay as they are
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["sweep-p4-r1-s1,2-k3-width2"]
    again = run("sweep", "--group", "p4", *TINY, "--format", "json")
    assert again.out == out
    assert "of the 3, 3 were read back from " in again.err
    assert "none counted anew" in again.err


@pytest.mark.slow
def test_the_list_of_commands_cuts_no_summary_short(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    from e4profile.cli.main import listed

    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.split() for line in run("--help").out.splitlines()]
    for name, command in listed().items():
        if " " not in name:
            assert 15 <= len(command.short_help) <= SUMMARY_COLUMNS
            assert [name, *command.short_help.split()] in lines
    assert [" ".join(line) for line in lines if line[-1:] and line[-1].endswith(":")][1:] == [
        "Count:", "Measure:", "Choose:", "Published:", "Keep:",
    ]  # fmt: skip


OLD_NAMES: dict[str, tuple[list[str], list[str], str]] = {
    "table": (["table", "2", "-f", "csv"], ["published", "2", "-f", "csv"], "e4profile published"),
    "models": (["models", "nothing-such"], ["cards", "nothing-such"], "e4profile cards"),
    "budget": (["budget", "e4net", "-f", "json"], ["training", "e4net", "-f", "json"], "e4profile training"),
    "compare": (["compare", "none", "such"], ["guard", "diff", "none", "such"], "e4profile guard diff"),
    "roofline": (
        ["roofline", "e4net", "--device", "tpu"], ["time", "e4net", "--roofline", "--device", "tpu"],
        "e4profile time --roofline",
    ),
    "pareto": (
        ["pareto", "e4net", "r18", "-f", "csv"], ["sweep", "e4net", "r18", "--front", "error,macs", "-f", "csv"],
        "e4profile sweep --front error,macs",
    ),
    "plot": (["plot", "nothing-such"], [], "--plot"),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD_NAMES)
def test_an_old_name_goes_on_and_says_the_new_one(run: Run, name: str) -> None:
    old, new, today = OLD_NAMES[name]
    code, out, err = run(*old)
    said, _, rest = err.partition("\n")
    assert f"e4profile {name} is now " in said
    assert today in said
    if new:
        assert (code, out, rest) == run(*new)
    assert f"  {name} " not in run("--help").out


def test_every_old_name_is_tried() -> None:
    from typer.main import get_command

    from e4profile.cli.main import app

    hidden = {name for name, one in get_command(app).commands.items() if one.hidden}  # type: ignore[attr-defined]
    assert hidden == {*OLD_NAMES, "help"}


def test_an_option_before_the_command_below_is_refused(run: Run) -> None:
    code, out, err = run("guard", "--update", "diff", "a.json", "b.json")
    assert (code, out) == (2, "")
    assert "guard diff" in err


def test_sweep_lists_what_it_skips_and_notes_a_line_cut_short(run: Run, tmp_path: Path) -> None:
    arguments = ("sweep", "-r", "1,3", "-s", "1", "-k", "3", "--width", "2", "--no-plots", "--out", "here")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "skipped 1" in out
    assert "reduction (=3) must divide c_in (=2)" in out
    records = tmp_path / "here" / "records.jsonl"
    records.write_text(records.read_text()[:-9])
    code, again, err = run(*arguments)
    assert code == 0
    assert "cut short" in err
    assert again == out
    for output_format in ("json", "csv"):
        _, out, err = run(*arguments, "--format", output_format)
        assert "reduction (=3) must divide" in err
        assert "skipped" not in out


def test_a_sweep_asks_the_counters_that_are_named(run: Run, tmp_path: Path) -> None:
    code, out, err = run("sweep", "--group", "p4", *TINY, "--counter", "torch", "--format", "json")
    assert code == 0
    assert all(row["torch"] > 0 and "fvcore" not in row for row in json.loads(out))
    assert "torch: as they report" in err
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["sweep-p4-r1-s1,2-k3-width2-countertorch"]
    code, out, _ = run("sweep", "p4cnn", "--vary", "width=2,4", "--counter", "torch", "--format", "json")
    assert [row["torch"] == row["macs"] for row in json.loads(out)] == [True, True]
    code, out, err = run("sweep", *TINY, "--counter", "trch")
    assert (code, out, err) == (2, "", "e4profile: unknown counter 'trch'; did you mean torch, torchinfo, thop?\n")


def test_sweep_formats(run: Run) -> None:
    csv_out = run("sweep", *TINY, "--format", "csv").out
    assert tuple(next(csv.reader(io.StringIO(csv_out)))) == COLUMNS
    assert len(list(csv.DictReader(io.StringIO(csv_out)))) == 3
    markdown = [line for line in run("sweep", *TINY, "--format", "markdown").out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in markdown}) == 1
    assert len(markdown) == 5
    latex = run("sweep", *TINY, "--format", "latex").out
    assert "\\begin{tabular}" in latex
    assert latex.count("\\begin") == latex.count("\\end")
    assert not [line for line in latex.splitlines() if "e4net_" in line]


def test_count_json(run: Run) -> None:
    code, out, err = run("count", "e4net", "--set", "width=4", "--set", "group=p4m", "--format", "json")
    found = json.loads(out)
    rows = found["layers"]
    assert code == 0
    assert (found["model"], found["arguments"]["width"], found["input"]) == ("e4net", 4, "1x1x28x28")
    assert (found["convention"], found["agrees"]) == ("macs", True)
    assert found["totals"] == {key: sum(row[key] for row in rows) for key in found["totals"]}
    assert any("aggregation unseen" in note for note in found["notes"])
    keys = ["agrees", "path", "layer", "params", "closed_form", "dispatch", "fvcore", "thop"]
    assert all(list(row)[:4] == keys[:4] and set(keys) <= set(row) for row in rows)
    assert all(type(row[key]) is int for row in rows for key in keys[3:])
    assert all(row["agrees"] is True for row in rows)
    assert "Traceback" not in err


def test_count_table_totals_causes_and_ledger(run: Run) -> None:
    code, out, _ = run("count", "e4net", "--counter", "dispatch,fvcore", "--counter", "dispatch")
    assert code == 0
    assert "aggregation unseen -2,116,800" in out
    assert "every operator that ran is known" in out
    assert "total" in out


@pytest.mark.parametrize("name", ["1", "2", "3", "4"])
def test_table_json(run: Run, name: str) -> None:
    code, out, _ = run("published", name, "--format", "json")
    rows = json.loads(out)
    assert code == 0
    for row in rows:
        assert {"row", "quantity", "published", "built", "convention", "verdict"} <= set(row)
        if row["quantity"] in ("params", "flops"):
            assert type(row["built"]) is int
            assert row["verdict"] in ("reproduced", "reproduced (truncated)", "unresolved")
        else:
            assert row["verdict"] == "published"
    assert any(row["quantity"].startswith("test_error") for row in rows)


def test_formula_and_models(run: Run, tmp_path: Path) -> None:
    assert "encoder" in run("formula", "e4").out
    assert "\\begin{align*}" in run("formula", "E4Conv2d", "--format", "latex").out
    assert json.loads(run("formula", "group-conv", "--format", "json").out)
    assert "GroupConv2d  " in run("formula").out
    listed = json.loads(run("cards", "--format", "json").out)
    assert "e4net" in [row["model"] for row in listed]
    assert "encoder_norm" in run("cards", "e4net-printed").out
    (tmp_path / "x.toml").write_text(CARD)
    assert run("count", "x.toml", "--counter", "dispatch").code == 0


def test_check_holds_and_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from e4profile.layers import E4Conv2d

    code, out, err = run("check", "e4net", "--random", "2", "--seed", "5", "--format", "json")
    assert (code, len(json.loads(out)), err) == (0, 3, "")
    monkeypatch.setattr(E4Conv2d, "macs", {**E4Conv2d.macs, "encoder": 2 * E4Conv2d.macs["encoder"]})
    code, out, err = run("check", "e4net", "--format", "json")
    assert code == 1
    assert json.loads(out)[0]["agrees"] is False
    assert "e4net: layer2.conv: convolution: closed form" in err
    assert run("check", "e4net").code == 1
    assert run("count", "e4net", "--set", "width=2", "--counter", "closed-form,dispatch").code == 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("sweep", "--group", "p5"), ("unknown group 'p5'", "did you mean")),
        (("sweep", "--model", "e4nt"), ("unknown model 'e4nt'", "e4net")),
        (("sweep", "-r", "3"), ("reduction (=3) must divide c_in (=16)",)),
        (("sweep", "-k", "4"), ("kernel (=4) must be odd",)),
        (("sweep", "-k", "0"), ("kernel (=0)",)),
        (("sweep", "-r", "-1"), ("reduction (=-1)",)),
        (("sweep", "-s", "1,,2"), ("-s", "whole numbers")),
        (("sweep", "--width", "x"), ("--width", "'x'")),
        (("sweep", "--width", ""), ("--width", "''")),
        (("sweep", "--format", "jsn"), ("unknown format 'jsn'", "json")),
        (("sweep", "--bogus"), ("--bogus",)),
        (("sweep", *TINY, "--out", "a-file/below"), ("a-file/below", "--out")),
        (("report", "--max-run-time-s", "500x"), ("500x", "unknown unit")),
        (("count",), ("NETWORK",)),
        (("count", "e4net", "--set", "width"), ("'width' must be KEY=VALUE",)),
        (("count", "e4net", "--set", "=3"), ("'=3' must be KEY=VALUE",)),
        (("count", "e4net", "--set", "widht=3"), ("unknown argument of e4net 'widht'", "did you mean width")),
        (("count", "e4net", "--set", "dropout=2"), ("dropout",)),
        (("count", "e4net", "--set", "width=0"), ("width (=0)",)),
        (("count", "e4net", "--set", "kernel=99999999"), ("kernel (=99999999)",)),
        (("count", "e4net", "--set", "width=99999999999999999999"), ("99999999999999999999",)),
        (("count", "e4net", "--batch-size", "0"), ("--batch-size (=0)",)),
        (("count", "e4net", "--batch-size", "x"), ("--batch-size", "integer")),
        (("count", "e4net", "--batch-size", "99999999999999999999"), ("the tensor needs",)),
        (("count", "e4net", "--counter", "dispach"), ("unknown counter 'dispach'", "dispatch")),
        (("count", "e4net", "--convention", "mac"), ("unknown convention 'mac'", "macs")),
        (("count", "no.toml"), ("no.toml: cannot be read: No such file",)),
        (("count", "bad.toml"), ("bad.toml: not TOML",)),
        (("count", "key.toml"), ("key.toml: input: missing",)),
        (("count", "network.toml"), ("network.toml: network:", "rot_mnist")),
        (("count", "small.toml", "--counter", "dispatch"), ("cannot run on an input (1, 1, 2, 2)", "layer4.pool")),
        (("cards", "nope"), ("unknown model 'nope'",)),
        (("formula", "e5conv2d"), ("unknown layer", "E4Conv2d")),
        (("formula", "e4", "--format", "xml"), ("unknown format 'xml'",)),
        (("published",), ("give a name",)),
        (("published", "9"), ("unknown table '9'",)),
        (("check", "nope"), ("unknown model 'nope'",)),
        (("check", "e4net", "--random", "-1"), ("--random (=-1)",)),
        (("conut", "e4net"), ("conut",)),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    (tmp_path / "a-file").write_text("")
    (tmp_path / "bad.toml").write_text("x = = 3")
    (tmp_path / "key.toml").write_text('name = "x"\nnetwork = "rot_mnist"\n')
    (tmp_path / "network.toml").write_text(CARD.replace("rot_mnist", "rot_mnst"))
    (tmp_path / "small.toml").write_text(CARD.replace("28, 28", "2, 2"))
    code, out, err = run(*arguments)
    *progress, message = err.splitlines()
    assert code == 2
    assert out == ""
    assert message.startswith("e4profile: ")
    assert all(line.startswith(("sweep: ", "e4profile plot: ")) for line in progress)
    for part in parts:
        assert part in message


def test_a_huge_width_costs_no_memory(run: Run) -> None:
    huge = ("-r", "1", "-s", "1", "-k", "3", "--width", "10000000", "--no-plots")
    code, out, _ = run("sweep", *huge, "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert rows[1]["params_measured"] > 10**15
    assert rows[1]["fvcore"] is rows[1]["thop"] is None
    assert rows[1]["agrees"] is True


def test_a_missing_counter_costs_only_its_column(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    code, out, _ = run("sweep", *TINY, "--format", "json", "--out", "without")
    rows = json.loads(out)
    assert code == 0
    assert all(row["fvcore"] is None and type(row["thop"]) is int and row["agrees"] for row in rows)
    _, out, _ = run("sweep", *TINY, "--out", "without")
    assert "no figure in 3 rows: fvcore: ModuleNotFoundError" in out


def test_the_baseline_of_a_sweep_is_a_card_that_count_can_be_asked_for(run: Run) -> None:
    """The note says how, and the command that it gives has the row's figures."""
    sweep = ("sweep", "-r", "1", "-s", "1", "-k", "3", "--width", "4", "--group", "p4m", "--no-plots")
    text = " ".join(run(*sweep).out.split())
    assert says(text, "e4net-gcnn", "e4profile count e4net --set layer=group")
    baseline = json.loads(run(*sweep, "-f", "json").out)[0]
    assert baseline["model"] == "e4net-gcnn"
    given = ("--set", "layer=group", "--set", "group=p4m", "--set", "kernel=3", "--set", "width=4")
    alone = json.loads(run("count", "e4net", *given, "--counter", "closed-form,dispatch", "-f", "json").out)["totals"]
    assert alone["closed_form"] == alone["dispatch"] == baseline["macs_formula"]
    assert alone["params"] == baseline["params_measured"]
    plain = run("sweep", "--model", "p4cnn", "--width", "4", "--no-plots").out
    assert "gcnn" not in plain
    assert "ratios" not in plain
