"""``formula`` on the command line: symbols, numbers on request, refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from latex_column import compiled
from program import Run

from e4profile.layers import E4Conv2d
from e4profile.networks.cards import find_card

SETTING = {"c_in": 16, "A": 4, "k": 5, "r": 2, "s": 2, "h": 28}
GIVEN = [word for name, value in SETTING.items() for word in ("--set", f"{name}={value}")]


def ran(terms):
    """Without the terms of another execution."""
    return {name: macs for name, macs in terms.items() if macs}


def test_a_layer_in_symbols_says_what_r_and_s_do(run: Run) -> None:
    code, out, err = run("formula", "e4")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "* generator        c_in s k^2 / r\n" in out
    assert "a branch is squeezed to c_in / r fields" in " ".join(out.split())
    assert "each shared by c_out / s fields" in " ".join(out.split())


def test_with_set_every_term_has_its_number(run: Run) -> None:
    layer = E4Conv2d(16, 16, 5, group="p4", reduction=2, slices=2)
    cost = layer.cost((1, 64, 28, 28))
    found = json.loads(run("formula", "e4", *GIVEN, "-f", "json").out)
    assert {one["term"]: one["value"] for one in found if one["table"] == "macs"} == ran(cost.macs)
    out = run("formula", "e4", *GIVEN).out
    assert f"{cost.total_macs:,}" in out
    assert f"{cost.total_params:,}" in out
    assert "value" not in json.loads(run("formula", "e4", "-f", "json").out)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("formula", "e4", "--set", "r=2"), "no value for c_in, A, s, k, h; add for example --set c_in=16"),
        (("formula", "e4", "--set", "x=2"), "unknown symbol of E4Conv2d 'x'"),
        (("formula", "e4", *GIVEN, "--set", "r=3"), "not a whole number"),
        (("formula", "--set", "r=2"), "--set: name a layer"),
        (("formula", "--of", "e4net"), "--of: name a layer"),
        (("formula", "nets.py:Strange", "--input", "1x1x8x8"), "nets.py:Strange: none of its layers has a closed form"),
        (("formula", "p4-cnn", "--set", "r=2"), "--set applies to one layer, and p4-cnn is a network"),
        (("formula", "e4", "--of", "p4-cnn"), "p4-cnn has no E4Conv2d; its layers with a formula: FieldBatchNorm2d"),
        (("formula", "e4", "--of", "e4"), "unknown model 'e4'"),
        (("formula", "e4", "--of", "e4net", "--set", "x=1"), "unknown symbol of E4Conv2d 'x'"),
        (("formula", "e4", "--peak", "--memory"), "give one of them"),
        (("formula", "e4", "--set", "r"), "'r' must be KEY=VALUE"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


NETS = """
import torch
from torch import nn
from e4profile.layers import E4Conv2d, GroupMaxPool, LiftingConv2d

class Own(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.lift, self.e4 = LiftingConv2d(1, width, 3, group="p4"), E4Conv2d(width, width, 3, group="p4")
        self.pool, self.head = GroupMaxPool(width, group="p4"), nn.Linear(width, 10)

    def forward(self, image):
        return self.head(self.pool(torch.relu(self.e4(self.lift(image)))).mean((2, 3)))

class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 8))

    def forward(self, image):
        return torch.einsum("bchw,wv->bchv", image, self.weight)
"""


@pytest.fixture(autouse=True)
def _own_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_a_network_of_ones_own_shows_the_terms_of_the_layers_that_have_them(run: Run, tmp_path: Path) -> None:
    own = ("nets.py:Own(width=8)", "--input", "1x1x12x12")
    rows = json.loads(run("formula", *own, "-f", "json").out)
    totals = json.loads(run("count", *own, "--counter", "closed-form", "-f", "json").out)["totals"]
    for key, total in (("params", totals["params"]), ("macs", totals["closed_form"])):
        assert sum(one["value"] for one in rows if one["table"] == key) == total
    assert {one["layer"] for one in rows} == {"LiftingConv2d", "E4Conv2d", "GroupMaxPool", "Linear"}
    assert "shapes recorded from the run" in run("formula", *own).out
    # a card whose network is code gives sizes too
    (tmp_path / "me.toml").write_text('name = "me"\nbuilder = "nets.py:Own"\ninput = [1, 12, 12]\n')
    assert "values: e4, the first E4Conv2d of me\n" in run("formula", "e4", "--of", "me", "--cards", tmp_path).out


def test_latex_takes_a_caption_and_sets_terms_with_numbers_as_a_table(run: Run, tmp_path: Path) -> None:
    asked = ("-f", "latex", "--caption", "Costs", "--label", "tab:e4")
    equations = run("formula", "e4", *asked).out
    assert equations.startswith("\\begin{table}[htbp]\n\\caption{Costs}\n\\label{tab:e4}\n% E4Conv2d")
    table = run("formula", "e4", "--of", "e4net", *asked).out
    assert (
        r"macs & aggregation & $c_{\mathrm{out}} A k^{2} h_{\mathrm{out}} w_{\mathrm{out}}$ & yes & 1,254,400" in table
    )
    assert "squeezed" not in table
    assert "Overfull" not in compiled(tmp_path, equations + table)


def test_the_peak_in_symbols_and_in_numbers(run: Run) -> None:
    code, out, err = run("formula", "e4", "--peak")
    assert (code, err) == (0, "")
    assert "  relu\n    + hidden  B c_in A h_out w_out / r\n    - normalised\n" in out
    assert ", the peak" in run("formula", "e4", "--peak", *GIVEN).out
    rows = json.loads(run("formula", "e4", "--peak", *GIVEN, "--set", "B=3", "-f", "json").out)
    assert {row["table"] for row in rows} == {"peak"}
    assert next(row["value"] for row in rows if row["term"] == "hidden") == 3 * 8 * 4 * 28 * 28
    for arguments, message in (
        (("formula", "--peak"), "--peak: name a layer"),
        (("formula", "AttentiveGroupConv2d", "--peak"), "states no timeline"),
    ):
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_the_example_of_a_refusal_is_complete(run: Run) -> None:
    refusal = run("formula", "e4", "--set", "r=2").err
    words = refusal.partition("for example ")[2].partition(",")[0].split()
    assert "--of CARD" in refusal
    assert run("formula", "e4", "--set", "r=2", *words).code == 0


def test_what_backward_keeps_is_shown_on_request_and_always_in_json(run: Run) -> None:
    short, whole = run("formula", "e4").out, run("formula", "e4", "--memory").out
    assert "kept for backward, per image" not in short
    assert "delta_" not in short
    assert "what is kept for backward: --memory" in short
    assert "elements kept for backward, per image" in whole
    assert "delta_reference  1 where" in whole
    assert "--memory" not in whole
    assert "squeeze statistics" not in run("formula", "e4", "-f", "latex").out
    tables = {one["table"] for one in json.loads(run("formula", "e4", "-f", "json").out)}
    assert tables == {"params", "macs", "elements", "saved", "saved_constant"}
    # nothing to point at where nothing is kept back
    assert "--memory" not in run("formula", "SpatialCrop").out


def test_a_card_gives_the_values_of_its_first_such_layer(run: Run) -> None:
    layer = find_card("e4net").build().layer2.conv
    assert isinstance(layer, E4Conv2d)
    cost = layer.cost((1, 64, 28, 28))
    out = run("formula", "e4", "--of", "e4net").out
    assert "values: layer2.conv, the first E4Conv2d of e4net\n" in out
    assert f" {cost.total_params:,}  " in out
    assert f" {cost.total_macs:,}  " in out
    rows = json.loads(run("formula", "e4", "--of", "e4net", "--set", "h=14", "--set", "r=2", "-f", "json").out)
    smaller = E4Conv2d(16, 16, 5, group="p4", reduction=2, slices=2).cost((1, 64, 14, 14))
    assert {one["term"]: one["value"] for one in rows if one["table"] == "macs"} == ran(smaller.macs)
    assert "live " in run("formula", "e4", "--peak", "--of", "e4net").out


def test_without_a_layer_each_is_named_with_what_it_does(run: Run) -> None:
    out = run("formula").out
    assert max(map(len, out.splitlines())) <= 80
    assert "E4Conv2d                The E4 layer: generate a k x k stencil" in out
    names = json.loads(run("formula", "-f", "json").out)
    assert all(f"\n{name}  " in f"\n{out}" for name in names)


@pytest.mark.parametrize("name", ["e4net(width=8)", "p4-sa", "c4resnet18"])
def test_a_card_has_the_terms_of_all_its_layers(name, run):
    terms = json.loads(run("formula", name, "-f", "json").out)
    totals = json.loads(run("count", name, "--counter", "closed-form", "-f", "json").out)["totals"]
    for key, witness in (("params", "params"), ("macs", "closed_form")):
        assert sum(term["value"] for term in terms if term["table"] == key) == totals[witness]
    refused = run("formula", name, "--peak")
    assert refused.code == 2
    assert "--peak applies to one layer" in refused.err
