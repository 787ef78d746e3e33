"""``formula`` on the command line: symbols, numbers on request, refusals in one line."""

from __future__ import annotations

import json

import pytest
from program import Run

from e4profile.layers import E4Conv2d

SETTING = {"c_in": 16, "A": 4, "k": 5, "r": 2, "s": 2, "h": 28}
GIVEN = [word for name, value in SETTING.items() for word in ("--set", f"{name}={value}")]


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
    assert {one["term"]: one["value"] for one in found if one["table"] == "macs"} == cost.macs
    out = run("formula", "e4", *GIVEN).out
    assert f"{cost.total_macs:,}" in out
    assert f"{cost.total_params:,}" in out
    assert "value" not in json.loads(run("formula", "e4", "-f", "json").out)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("formula", "e4", "--set", "r=2"), "no value for c_in, A, s, k, h; add --set c_in=..."),
        (("formula", "e4", "--set", "x=2"), "unknown symbol of E4Conv2d 'x'"),
        (("formula", "e4", *GIVEN, "--set", "r=3"), "not a whole number"),
        (("formula", "e4", *GIVEN, "-f", "latex"), "--set gives numbers, which --format latex does not show"),
        (("formula", "--set", "r=2"), "--set: name a layer"),
        (("formula", "e4", "--set", "r"), "'r' must be KEY=VALUE"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


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
