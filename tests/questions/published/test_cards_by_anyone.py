"""A card whose network is somebody's code: what works for the package's cards works for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Run

from e4profile.networks.found_cards import looking_in
from e4profile.questions.report.published import build_published

NET = """
import torch
from torch import nn

loaded = []
torch.set_default_dtype(torch.float32)

class Turned(nn.Module):
    def forward(self, x):
        return torch.ops.unknown_to_all.turn(x) if hasattr(torch.ops.unknown_to_all, "turn") else x

def build(width=4, deep=False):
    more = [nn.Conv2d(width, width, 1)] if deep else []
    return nn.Sequential(nn.Conv2d(3, width, 3), *more, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, 2))

def late():
    import package_of_nobody

def broken():
    raise RuntimeError("no GPU is here\\nand more")

class Own(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 3))

    def forward(self, x):
        return x.mean((2, 3)) @ self.weight.t()
"""
CARD = """
name = "{name}"
title = "Me-Net"
builder = "{builder}"
install = "pip install git+https://git.example/me"
commit = "0123abc"
input = [3, 8, 8]
{more}
[[published]]
table = "me-1"
order = {order}
row = "{name}"
source = "Me 2026, Table 1"
[published.params]
value = "{params}"
verdict = "reproduced"
[published.macs]
value = "{macs}"
convention = "macs"
verdict = "reproduced"
[published.test_error]
value = "1.5"
unit = "%"
"""
PARAMS, MACS = 27 * 4 + 4 + 2 * 4 + 2, 27 * 4 * 36 + 2 * 4


def card(folder: Path, name: str, builder: str, order: int = 1, params: int = PARAMS, macs: int = MACS, more: str = ""):
    text = CARD.format(name=name, builder=builder, order=order, params=params, macs=macs, more=more)
    (folder / f"{name}.toml").write_text(text)


@pytest.fixture
def mine(run: Run, tmp_path: Path) -> Run:
    """The program in a project whose folder ``cards`` holds a card, one that is not installed, and their code."""
    folder = tmp_path / "cards"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    card(folder, "me-net", "net.py:build")
    card(folder, "far-net", "package_of_nobody.nets:build", order=2)
    (tmp_path / "pyproject.toml").write_text('[tool.e4profile]\ncards = ["cards"]\n')
    return run


INSTALL = "no package 'package_of_nobody': pip install git+https://git.example/me at commit 0123abc"


def test_a_table_of_ones_own_has_every_card_that_names_it(mine: Run) -> None:
    assert "me-1" in mine("published", "--list").out.splitlines()
    rows = {(row["row"], row["quantity"]): row for row in json.loads(mine("published", "me-1", "-f", "json").out)}
    assert {key: (row["built"], row["verdict"]) for key, row in rows.items()} == {
        ("me-net", "params"): (PARAMS, "reproduced"),
        ("me-net", "macs"): (MACS, "reproduced"),
        ("me-net", "test_error"): (None, "published"),
        ("far-net", "params"): (None, "not installed"),
        ("far-net", "macs"): (None, "not installed"),
        ("far-net", "test_error"): (None, "published"),
    }
    assert rows["far-net", "macs"]["evidence"] == INSTALL
    shown = mine("published", "me-1").out
    assert f"far-net: not installed: {INSTALL}" in shown
    assert "2 cost cells: 2 reproduced" in shown


def test_a_check_says_what_it_did_not_check(mine: Run) -> None:
    both = mine("check", "me-net", "far-net")
    assert both.code == 0
    assert "1 of 2 networks hold, the others are not checked" in both.out
    rows = json.loads(mine("check", "me-net", "far-net", "-f", "json").out)
    assert [(row["agrees"], row["cells"], row["coverage"]) for row in rows] == [
        (True, 2, "whole"), (None, 0, "not installed"),
    ]  # fmt: skip
    alone = mine("check", "far-net")
    assert alone.code == 1
    assert "nothing is checked, so nothing is proven" in alone.out
    assert INSTALL in alone.out


def test_a_published_figure_that_no_longer_holds_fails_the_check(mine: Run, tmp_path: Path) -> None:
    card(tmp_path / "cards", "me-net", "net.py:build", macs=MACS + 1)
    found = mine("check", "me-net")
    assert found.code == 1
    assert f"published {MACS + 1}, built {MACS}: unresolved, but the card records reproduced" in found.out


def test_published_cells_are_a_proof_where_no_layer_has_a_closed_form(mine: Run, tmp_path: Path) -> None:
    card(tmp_path / "cards", "own-net", "net.py:Own", params=12, macs=12)
    found = mine("check", "own-net")
    assert found.code == 0, found.out
    assert "own-net: no layer has a closed form, so nothing is proven" in found.out


def test_sweep_reconcile_count_models_and_report_take_its_name(mine: Run) -> None:
    swept = json.loads(mine("sweep", "me-net", "--vary", "width=4,8", "--vary", "deep=true,false", "-f", "json").out)
    assert [row["params"] for row in swept][1::2] == [PARAMS, 27 * 8 + 8 + 2 * 8 + 2]
    (match, *_) = json.loads(mine("reconcile", "me-net", "--published", "-f", "json").out)["matches"]
    assert (match["changes"], match["convention"]) == ({}, "macs")
    (total,) = (json.loads(mine("count", "me-net", "--counter", "dispatch", "-f", "json").out)["totals"],)
    assert total["dispatch"] == MACS
    assert mine("count", "far-net").err == f"e4profile: far-net is not installed: {INSTALL}\n"
    several = mine("count", "far-net", "me-net", "--counter", "dispatch")
    assert (several.code, several.err) == (0, f"far-net is not installed: {INSTALL}\n")
    assert "me-net" in mine("models", "--table", "me-1").out
    assert build_published("me-1").verdicts == ("reproduced", "reproduced")


def test_a_rule_beside_a_card_counts_for_it_and_is_found_by_reconciling(mine: Run, tmp_path: Path) -> None:
    folder, activations = tmp_path / "cards", 4 * 36
    (folder / "rule.toml").write_text('meaning = "MACs and relu"\n[weights]\nconvolution = 1\nlinear = 1\nrelu = 8\n')
    card(folder, "me-net", "net.py:build", macs=MACS + 8 * activations)
    text = (folder / "me-net.toml").read_text().replace('"macs"', '"rule.toml"')
    (folder / "me-net.toml").write_text(text)
    assert [row["verdict"] for row in json.loads(mine("published", "me-1", "-f", "json").out)][:2] == ["reproduced"] * 2
    assert mine("check", "me-net").code == 0
    found = mine("reconcile", "me-net", "--published", "--convention", "cards/rule.toml", "-f", "json")
    (match,) = json.loads(found.out)["matches"]
    assert (match["changes"], match["rule"]) == ({}, ["the rule cards/rule.toml"])
    shown = json.loads(mine("count", "me-net", "--convention", "cards/rule.toml", "-f", "json").out)
    assert (shown["totals"]["closed_form"], shown["totals"]["dispatch"]) == (None, MACS + 8 * activations)
    assert {row["layer"]: row["dispatch"] for row in shown["layers"]}["ReLU"] == 8 * activations


def test_cards_of_one_builder_are_reconciled_together(mine: Run, tmp_path: Path) -> None:
    # the figures are of networks that are not deep, as the cards say
    for name, width in (("me-net", 4), ("wide-net", 9)):
        params, macs = 28 * width + 2 * width + 2, (27 * 36 + 2) * width
        arguments = f"arguments = {{ width = {width}, deep = true }}"
        card(tmp_path / "cards", name, "net.py:build", params=params, macs=macs, more=arguments)
    document = json.loads(mine("reconcile", "me-net", "wide-net", "--published", "-f", "json").out)
    # one width for both would be no small difference
    assert document["space"]["changed_arguments"] == {"deep": 1}
    assert document["matches"][0]["changes"] == {"deep": False}
    assert mine("reconcile", "me-net", "z2cnn", "--published").err.startswith(
        "e4profile: a user-defined model is recon"
    )


def test_the_rules_of_tools_are_tried_where_nothing_simpler_gives_the_figures(mine: Run) -> None:
    flops = 2 * MACS + 4 * 36 * 3  # biases, activations and pooling
    found = json.loads(mine("reconcile", "me-net", "--params", PARAMS, "--flops", flops, "-f", "json").out)["matches"]
    assert {match["convention"] for match in found} == {"calflops", "deepspeed"}
    assert all(match["values"][1]["built"] == flops for match in found)


def test_a_guard_takes_its_name_from_its_own_project(
    mine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "pyproject.toml"
    config.write_text(config.read_text() + f'models = [{{ name = "me-net", macs_max = {MACS} }}]\nbaseline = false\n')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert mine("guard", "--config", config).code == 0
    config.write_text(config.read_text().replace(str(MACS), str(MACS - 1)))
    assert mine("guard", "--config", config).code == 1


@pytest.mark.parametrize(
    ("builder", "more", "said"),
    [
        ("net.py:late", "", "x is not installed: no package 'package_of_nobody': pip install"),
        ("nett.py:build", "", "cards/x.toml: builder: cards/nett.py: no such file; did you mean cards/net.py?"),
        ("net.py:biuld", "", "cards/x.toml: builder: unknown name in cards/net.py 'biuld'; did you mean build?"),
        ("json.nowhere:build", "", "cards/x.toml: builder: json.nowhere does not import: ModuleNotFoundError"),
        (
            "net.py:build",
            "arguments = { widht = 3 }",
            "cards/x.toml: arguments.widht: unknown argument of cards/net.py",
        ),
        ("net.py:build", "arguments = { width = 0.5 }", "cards/x.toml: builder: cards/net.py:build cannot build with"),
        ("net.py:loaded", "", "cards/x.toml: builder: cards/net.py:loaded is of type list: neither a torch.nn.Module"),
    ],
)
def test_code_that_builds_nothing_is_said_with_its_card(
    mine: Run, tmp_path: Path, builder: str, more: str, said: str
) -> None:
    card(tmp_path / "cards", "x", builder, more=more)
    found = mine("memory", "x")
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"e4profile: {said}")


def test_code_that_fails_is_a_row_with_the_reason_and_the_others_are_built(mine: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cards"
    card(folder, "broken-net", "net.py:broken", order=3)
    card(folder, "old-net", "net.py:biuld", order=4)
    card(folder, "wide-input", "net.py:build", order=5)
    (folder / "wide-input.toml").write_text((folder / "wide-input.toml").read_text().replace("[3, 8, 8]", "[4, 8, 8]"))
    said = {"broken-net": "RuntimeError: no GPU is here", "old-net": "did you mean build?", "wide-input": "channel"}
    rows = json.loads(mine("published", "me-1", "-f", "json").out)
    found = {(row["row"], row["verdict"]) for row in rows if row["quantity"] == "macs"}
    broken = {(name, "cannot run") for name in said}
    assert found == {("me-net", "reproduced"), ("far-net", "not installed"), *broken}
    shown = mine("published", "me-1").out.splitlines()
    for name, reason in said.items():
        assert any(line.startswith(f"{name}: cannot run: ") and reason in line for line in shown)
    assert build_published("me-1").verdicts == ("reproduced", "reproduced")

    several = mine("check", "broken-net", "me-net", "-f", "json")
    assert several.code == 1
    assert [(row["agrees"], row["coverage"]) for row in json.loads(several.out)] == [
        (None, "cannot run"), (True, "whole"),
    ]  # fmt: skip
    assert said["broken-net"] in several.err
    alone = mine("check", "broken-net", "--execution", "bank")
    assert (alone.code, alone.out) == (2, "")
    for limits in ((), ("--max", "params=1M")):
        front = mine("sweep", "--front", "error,macs", "--table", "me-1", *limits)
        assert front.code == 0
        assert all(reason in front.out for reason in said.values())
        assert "the front, cheapest first: me-net" in front.out


def test_another_commit_than_the_cards_is_said(mine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "nets_at_commits-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "nets_at_commits.py").write_text(NET)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nets-at-commits\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("nets_at_commits")
    monkeypatch.syspath_prepend(str(site))
    card(tmp_path / "cards", "me-net", "nets_at_commits:build")
    for commit, said in (("0123abcdef", False), ("9876fedcba", True)):
        url = {"url": "https://git.example/me", "vcs_info": {"vcs": "git", "commit_id": commit}}
        (info / "direct_url.json").write_text(json.dumps(url))
        note = f"me-net: commit {commit} is installed, the card's figures come from 0123abc"
        assert (note in mine("check", "me-net").out) is said


def test_a_cost_that_is_a_lower_bound_reproduces_nothing(mine: Run, tmp_path: Path) -> None:
    import torch

    library = torch.library.Library("unknown_to_all", "DEF")
    library.define("turn(Tensor x) -> Tensor")
    library.impl("turn", lambda x: x.clone(), "CompositeExplicitAutograd")
    (tmp_path / "cards" / "net.py").write_text(NET.replace("nn.ReLU()", "Turned()"))
    rows = json.loads(mine("published", "me-1", "-f", "json").out)[:2]
    assert [row["verdict"] for row in rows] == ["reproduced", "unresolved"]
    assert (
        "a lower bound, which reproduces nothing: 1: unknown operator unknown_to_all::turn"
        in mine("published", "me-1").out
    )


def test_the_code_is_imported_once_for_many_rows(tmp_path: Path, mine: Run) -> None:
    file = tmp_path / "cards" / "net.py"
    file.write_text(f"{NET}\nwith open({str(tmp_path / 'seen')!r}, 'a') as seen:\n    seen.write('x')\n")
    text = (tmp_path / "cards" / "me-net.toml").read_text()
    rows = text.partition("[[published]]")[2]
    (tmp_path / "cards" / "me-net.toml").write_text(f"{text}\n[[published]]\narguments = {{ width = 4 }}{rows}")
    with looking_in([tmp_path / "cards"]):
        assert len(build_published("me-1").verdicts) == 4
    assert (tmp_path / "seen").read_text() == "x"
