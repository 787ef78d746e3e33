"""``formula`` on the command line: symbols, numbers on request, refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
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
        (("formula", "e4", *GIVEN, "-f", "latex"), "--set gives numbers, which --format latex does not show"),
        (("formula", "--set", "r=2"), "--set: name a layer"),
        (("formula", "--of", "e4net"), "--of: name a layer"),
        (("formula", "e4", "--of", "e4net", "-f", "latex"), "--of gives numbers"),
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


def test_a_card_whose_network_is_code_has_no_sizes_to_give(run: Run, tmp_path: Path) -> None:
    (tmp_path / "me.toml").write_text('name = "me"\nbuilder = "net.py:build"\ninput = [3, 8, 8]\n')
    code, out, err = run("formula", "e4", "--of", "me", "--cards", tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "me: a card whose network is code has no topology" in err


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
        (("formula", "e4", "--peak", "-f", "latex"), "--peak is a list of steps"),
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
    assert "--peak is of one layer" in refused.err
