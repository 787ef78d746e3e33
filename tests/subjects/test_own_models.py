"""User-defined models on the command line: counted, checked, held against their symmetry."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from own_model_nets import write
from program import Run, says


def test_count_keeps_stdout_for_data(own: Run) -> None:
    code, out, err = own("count", "net.py:build", "--input", "2x3x8x8", "--arg", "width=6", "-f", "json")
    found = json.loads(out)
    rows = {row["path"]: row for row in found["layers"]}
    assert code == 0
    assert (found["model"], found["arguments"], found["input"]) == ("net.py:build", {"width": 6}, "2x3x8x8")
    assert (found["totals"]["closed_form"], found["agrees"], found["at_least"]) == (None, None, False)
    assert found["closed_form_coverage"] == "partial: 93% of the MACs, 92% of the parameters"
    assert "imported" in err
    assert rows["conv"]["closed_form"] == rows["conv"]["dispatch"] == 2 * 27 * 6 * 36
    assert rows["conv"]["agrees"] is True
    assert rows["tokens"]["closed_form"] is None
    assert rows["tokens"]["agrees"] is None
    assert rows["tokens"]["dispatch"] == 2 * 12 * 36


def test_count_shows_what_is_absent_and_why(own: Run) -> None:
    code, out, _ = own("count", "net:plain", "--input", "1x3x5")
    assert code == 0
    (heading,) = [line.split() for line in out.splitlines() if line.startswith("path ")]
    assert "dispatch" in heading
    assert not {"closed", "agrees"} & set(heading)  # a column without a figure is left out, and a note says why
    assert says(out, "closed-form: no figure", "Conv1d has no closed form")


def test_keyword_and_plain_inputs(own: Run) -> None:
    inputs = ("--input", "image=1x3x8x8", "--input", "mask=1x1x6x6:bool", "--input", "times:=3")
    code, out, _ = own("count", "net.py:build", *inputs, "-f", "csv")
    assert code == 0
    assert [row["fvcore"] for row in csv.DictReader(io.StringIO(out))] == [str(27 * 4 * 36), str(8 * 36)]
    _, table, _ = own("count", "net.py:build", *inputs)
    assert "image=1x3x8x8 mask=1x1x6x6:bool times:=3" in table
    assert "shapes recorded from the run" in table


def test_a_form_that_is_not_what_runs_fails(own: Run) -> None:
    code, _, err = own("count", "net.py:wrong", "--input", "1x3x8x8")
    assert code == 1
    assert f"0: convolution: closed form {27 * 4 * 36}, measured {2 * 27 * 4 * 36}" in err
    code, out, _ = own("check", "net.py:wrong", "--input", "1x3x8x8")
    assert code == 1
    assert "net.py:wrong: 0: convolution: closed form" in out


def test_check_says_how_much_it_covered(own: Run) -> None:
    code, out, _ = own("check", "net.py:build", "--input", "1x3x8x8")
    assert code == 0
    assert f"layers with a closed form run {27 * 4 * 36:,} of {27 * 4 * 36 + 8 * 36:,} MACs" in out
    code, out, _ = own("check", "net.py:plain", "e4net", "--input", "1x3x5")
    assert code == 1
    assert "nothing is proven" in out
    assert "e4net" in out


def test_unknown_operators_stand_in_the_ledger(own: Run) -> None:
    code, out, err = own("count", "net.py:unknown", "--input", "1x3x8x8")
    assert code == 1
    assert "unknown operators: aten::linalg_matrix_exp (1)" in out
    assert "register_operator" in out
    assert any(" total, at least " in line for line in out.splitlines())
    assert "unknown operator aten::linalg_matrix_exp, executed 1 times" in err
    code, out, _ = own("count", "net.py:unknown", "--input", "1x3x8x8", "-f", "json")
    found = json.loads(out)
    assert (code, found["at_least"], found["agrees"]) == (1, True, None)
    code, out, err = own("count", "e4net", "net.py:unknown", "--input", "1x3x8x8")
    assert code == 1
    assert [line.split("at least")[0].split()[-1] for line in out.splitlines() if "at least" in line] == ["1x3x8x8"]
    assert "net.py:unknown: totals are lower bounds: " in out
    # a third-party counter's figure is its own, and decides nothing
    code, out, _ = own("count", "net.py:unknown", "--input", "1x3x8x8", "--counter", "thop", "-f", "json")
    assert (code, json.loads(out)["at_least"]) == (0, False)
    code, out, _ = own("check", "net.py:unknown", "--input", "1x3x8x8")
    assert code == 1
    assert "unknown operator aten::linalg_matrix_exp" in out


@pytest.mark.parametrize("command", ["count", "check", "equivariance"])
def test_the_help_says_that_importing_runs_the_code(own: Run, command: str) -> None:
    _, out, _ = own(command, "--help")
    assert "code to run (e4profile help networks)" in out
    assert "--input" in out
    assert "imports it, which runs its code" in " ".join(own("help", "networks").out.split())


def test_a_model_without_parameters_or_products_has_an_empty_table(own: Run, tmp_path: Path) -> None:
    text = """
        from torch import nn

        class Lists(nn.Module):
            def forward(self, xs):
                return [x * 2 for x in xs]
    """
    write(tmp_path, text, "lists.py")
    arguments = ("count", "lists.py:Lists", "--input", "xs.0=1x3", "--input", "xs.1=2x3")
    code, out, _ = own(*arguments)
    assert code == 0
    assert says(out, "every operator that ran is known", "2 of the calls cost nothing")
    (total,) = [line.split() for line in out.splitlines() if line.startswith("total ")]
    assert total == ["total", "0", "0", "0", "0", "0"]
    code, out, _ = own(*arguments, "-f", "json")
    found = json.loads(out)
    assert (code, found["layers"]) == (0, [])
    assert found["totals"] == dict.fromkeys(("params", "closed_form", "dispatch", "fvcore", "thop"), 0)


def test_dicts_of_indices_and_flags(own: Run, tmp_path: Path) -> None:
    text = """
        from torch import nn

        class Words(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding, self.head = nn.Embedding(10, 4), nn.Linear(4, 3)

            def forward(self, batch):
                assert batch["flag"] is True
                return self.head(self.embedding(batch["ids"])), batch
    """
    write(tmp_path, text, "words.py")
    inputs = ("--input", "batch.ids=2x5:int64", "--input", "batch.flag:=true")
    code, out, _ = own("count", "words.py:Words", *inputs, "-f", "json")
    assert code == 0
    rows = {row["path"]: row for row in json.loads(out)["layers"]}
    assert rows["head"]["closed_form"] == rows["head"]["dispatch"] == rows["head"]["thop"] == 10 * 12
    assert (rows["embedding"]["params"], rows["embedding"]["closed_form"]) == (40, None)


def test_equivariance_of_a_mixed_model(own: Run) -> None:
    arguments = ("equivariance", "net.py:Mixed", "--input", "1x1x7x7")
    code, out, _ = own(*arguments, "-f", "json")
    rows = json.loads(out)
    assert code == 0
    assert [row["element"] for row in rows if row["path"] == "output"] == ["0°", "90°", "180°", "270°"]
    assert {row["path"] for row in rows} == {"output", "lift", "e4", "pool"}
    assert all(row["holds"] for row in rows)
    code, out, err = own(*arguments, "--arg", "affine=channel", "-f", "json")
    assert code == 1
    broken = {row["path"] for row in json.loads(out) if row["holds"] is False}
    assert broken == {"output", "e4", "e4.squeeze_norm"}
    assert "equivariant at initialisation only under p4" in err
    code, out, _ = own(*arguments, "--arg", "affine=channel")
    assert "breaks at e4.squeeze_norm (FieldGroupNorm)" in out
    assert says(out, "affine='channel'", "per group element")


def test_equivariance_refuses_what_it_cannot_do(own: Run) -> None:
    arguments = ("equivariance", "net.py:Mixed", "--input", "1x1x7x7")
    for options, line in (
        (("--group", "C8"), "maps the square grid onto itself"),
        (("--group", "p5"), "unknown group 'p5'"),
        (("--dtype", "float16"), "unknown dtype 'float16'"),
        (("--train-steps", "-1"), "must not be negative"),
        (("--field-in", "regulr"), "did you mean regular"),
    ):
        code, _, err = own(*arguments, *options)
        assert code == 2
        assert line in err
    code, _, err = own("equivariance", "net.py:build", "--input", "1x3x8x8")
    assert code == 2
    assert "give the group that acts" in err
