"""The command ``reconcile``: the space is always said, and bad input is one line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from program import Run, says

from e4profile.errors import SettingError
from e4profile.questions.reconcile import by_jobs
from e4profile.records.jobs.worker import read_plan, run_part
from e4profile.records.store import RecordStore

FEW = ("--vary", "encoder_norm,reduction")


def test_the_table_says_how_much_was_searched(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ("e4net", "--params", "18.8K", "--flops", "17M", *FEW, "--limit", "3")
    code, out, err = run("reconcile", *arguments)
    text = " ".join(out.split())
    assert code == 0
    assert "searched 4,096 combinations of 8 architectures" in text
    assert "every figure rounded or truncated: " in text
    assert "chance: of 1,000 made-up versions of one row (e4net)" in text
    assert "simplest: encoder_norm=True; macs; truncated" in text
    assert "values besides its own: encoder_norm 1, reduction 3" in text
    assert max(map(len, out.splitlines())) <= 80
    assert "reconcile: 8 of 8 done" in err
    assert run("reconcile", *arguments)[1] == out


def test_json_is_one_object(run):
    code, out, err = run("reconcile", "e4net", "--rows-of", "e4net-printed", *FEW, "--format", "json", "--limit", "1")
    found = json.loads(out)
    assert code == 0
    assert (found["models"], found["rows"], found["figures"]) == (["e4net"], 14, 28)
    (best,) = found["matches"]
    assert best["changes"] == {"encoder_norm": True}
    assert best["convention"] == "printed"
    assert {"row": "table 1, E4-Net", "quantity": "params", "published": "18.8K", "built": 18886} in best["values"]
    assert found["matching_combinations"] == 2
    assert "searched 4,096 combinations" in err


def test_none_found_is_said(run):
    code, out, _ = run("reconcile", "p4-e4r18", "--published", "--vary", "encoder_norm,slices")
    text = " ".join(out.split())
    assert code == 0
    assert "none found that gives 2 figures; the nearest" in text
    assert "0 match" in text
    assert json.loads(run("reconcile", "p4-e4r18", "--published", "--vary", "slices", "-f", "json")[1])["nearest"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["e4net"], "give published figures"),
        (["e4net", "--published"], "has no published params"),
        (["e4net-printed", "--published", "--params", "18K"], "not both"),
        (["e4net", "--params", "lots"], "must be digits"),
        (["nosuch", "--params", "18K"], "unknown model"),
        (["e4net", "--params", "18K", "--changes", "-1"], "must not be negative"),
        (["e4net", "--params", "18K", "--vary", "depth"], "unknown searched argument"),
        (["e4net", "--params", "18K", "--limit", "0"], "--limit (=0) must be a positive integer"),
        (["e4net", "--params", "18K", "--vary", "width=9..8"], "is empty"),
        (["e4net", "--params", "18K", "--arg", "widht=9"], "did you mean width"),
        (["nets.py:build", "--params", "18K"], "needs its inputs"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, message):
    code, out, err = run("reconcile", *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


NETS = """
from torch import nn

class Two(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3, bias=False), nn.Linear(5, width, bias=False)

    def forward(self, image, extra):
        return self.a(image).mean((2, 3)) + self.b(extra)
"""


def test_a_model_of_ones_own_with_two_inputs(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    arguments = ("nets.py:Two", "--input", "1x3x8x8", "--input", "1x5", "--vary", "width=8..40")
    code, out, err = run("reconcile", *arguments, "--params", str(32 * 24), "--flops", str(2 * 24 * 977))
    text = " ".join(out.split())
    assert code == 0
    assert "simplest: width=24; 2 FLOPs per MAC" in text
    assert "searched 132 combinations of 33 architectures" in text
    assert says(text, "nets.py:Two", "(1x3x8x8 1x5)", "runs")
    assert "33 of 33 done" in err
    code, out, err = run("reconcile", *arguments, "--published")
    assert (code, out) == (2, "")
    assert says(err, "no published params, flops or macs", "give its figures")
    code, _, err = run("reconcile", "nets.py:Two", "--input", "1x3x8x8", "--params", "1K")
    assert code == 2
    assert "missing 1 required positional argument" in err


def test_an_interrupt_shows_what_was_searched(run, monkeypatch):
    from e4profile.questions.reconcile.search import Counter

    count, calls = Counter.__call__, []

    def stops(self, subject):
        calls.append(subject)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return count(self, subject)

    monkeypatch.setattr(Counter, "__call__", stops)
    code, out, _ = run("reconcile", "e4net", "--params", "18.8K", *FEW)
    assert code == 130
    assert "interrupted: 5 more architectures were not tried" in " ".join(out.split())


def test_a_match_shows_what_it_builds_and_how_much_it_says(run: Run) -> None:
    out = run("reconcile", "e4net", "--params", "18.8K", "--flops", "17M", "--limit", "2").out
    assert out.startswith("e4net: what gives all 2 figures, simplest first\n")
    assert says(out, "params 18,886 for 18.8K", "flops 17,640,160 for 17M")
    assert says(out, "weak evidence", "54% of the draws")
    assert says(out, "a rule with a name", "printed", "encoder_norm=True")


def test_a_forgotten_unit_is_asked_for(run: Run) -> None:
    out = run("reconcile", "e4net", "--params", "18.8", "--flops", "17", "--changes", "1").out
    assert "a unit may be missing: did you mean 18.8K, 17M?" in out
    out = run("reconcile", "e4net", "--params", "99.9K", "--flops", "17M", "--changes", "1").out
    assert "a unit may be missing" not in out


def test_a_space_that_jobs_count_gives_the_table_of_one_process(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["reconcile", "e4net", "--params", "18.8K", "--flops", "17M", "--vary", "layer,slices,width=13,16"]
    jobs = [*asked, "--jobs", "print", "--out", "shared", "--job-minutes", "0"]
    script = run(*jobs).out
    command = shlex.split(script.splitlines()[-1])
    assert "exclusive" not in script
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "1")
    parts = len(read_plan(Path(command[-2]))["parts"])
    for part in range(parts):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(part))
        run_part(command[-2], part)
    found = run(*jobs)
    assert found.code == 0, found.err
    assert found.out == run(*asked).out
    assert parts > 8
    assert f"{parts} of {parts} counts were read back from shared/counts.jsonl" in found.err
    refused = {"refused" in record.counts for record in RecordStore(Path("shared/counts.jsonl")).load()}
    assert refused == {True, False}
    assert "both --jobs WHERE and --out DIR" in run(*asked, "--jobs", "local").err
    # the search rests on what the jobs counted
    monkeypatch.setattr(by_jobs, "_told", lambda _: SettingError("not today"))
    assert says(run(*jobs).err, "no architecture of the space can be built", "not today")
