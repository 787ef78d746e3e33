"""A layer's timeline in words and numbers, against the prediction for a built layer."""

from __future__ import annotations

import json
import re

import pytest
import sympy as sp

from e4profile.errors import SettingError
from e4profile.layers import E4Conv2d, EquivariantLayer, GroupConv2d
from e4profile.layers.storages import timeline_rows
from e4profile.questions.formula.formulas import find_layer, layer_names, settings
from e4profile.questions.formula.peak_formulas import layer_timeline, peak_symbols, peak_terms, peak_text
from e4profile.show.notation import written
from e4profile.symbols import MEANING
from e4profile.witnesses.memory.layer_peak import predict_layer_peak

STATED = [name for name in layer_names() if find_layer(name).peak is not None]


def read(text: str) -> sp.Expr:
    """A written formula as an expression: blanks multiply, a stroke divides."""
    product = re.sub(r"(?<=[\w)]) (?=[\w(])", "*", text).replace("^", "**").replace("min(", "Min(")
    return sp.sympify(product, locals={str(symbol): symbol for symbol in MEANING})


@pytest.mark.parametrize("name", STATED)
def test_every_step_of_every_timeline_is_shown(name: str) -> None:
    layer = find_layer(name)
    text = peak_text(layer)
    assert max(map(len, text.splitlines())) <= 80
    for phase, step in layer_timeline(layer).steps:
        assert f"\n{phase}\n" in text
        assert re.search(rf"^  {re.escape(step.name)}(: |$)", text, re.MULTILINE)
        for storage in step.makes:
            assert f"    + {storage} " in text
    for row in timeline_rows(layer_timeline(layer)):
        for expression in (row["when"], row["elements"]):
            if expression is not None:
                assert sp.simplify(read(written(expression)) - expression) == 0


def lives(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r": live ([\d,]+)", text)]


@pytest.mark.parametrize(
    ("layer", "shape", "given"),
    [
        (
            E4Conv2d(16, 24, 5, group="p4", reduction=2, slices=3),
            (64, 14, 12),
            {"c_in": 16, "c_out": 24, "A": 4, "k": 5, "r": 2, "s": 3, "h": 14, "w": 12},
        ),
        (GroupConv2d(3, 5, 3, group="p4", stride=2, stride_by="max_pool", padding=1), (12, 8, 8),
         {"c_in": 3, "c_out": 5, "A": 4, "k": 3, "h": 8, "h_conv": 8, "w_conv": 8, "h_out": 4, "w_out": 4,
          "delta_pool": 1}),
        (GroupConv2d(3, 5, 3, group="p4", bias=True, padding=1), (12, 9, 7),
         {"c_in": 3, "c_out": 5, "A": 4, "k": 3, "h": 9, "w": 7, "beta": 1}),
    ],
    ids=["e4", "pooled", "group convolution"],
)  # fmt: skip
def test_the_numbers_are_those_of_the_built_layer(
    layer: EquivariantLayer, shape: tuple[int, ...], given: dict[str, int]
) -> None:
    kind = type(layer)
    values, assumed = settings(kind, {**given, "B": 2}, peak_symbols(kind))
    predicted = predict_layer_peak(layer, shape, batch_size=2, granularity_bytes=1)
    text = peak_text(kind, values, assumed)
    forward, _, backward = text.partition("\nbackward\n")
    assert max(lives(forward)) == predicted.forward_peak_bytes
    assert max(lives(backward)) == predicted.backward_peak_bytes
    marked = re.findall(r": live ([\d,]+), the peak", text)
    assert {int(one.replace(",", "")) for one in marked} == {predicted.peak_bytes}


def test_the_objects_carry_condition_formula_and_number() -> None:
    values, _ = settings(E4Conv2d, {"c_in": 4, "A": 4, "k": 3, "r": 1, "s": 1, "h": 6}, peak_symbols(E4Conv2d))
    rows = json.loads(json.dumps(peak_terms(E4Conv2d, values)))
    assert len(rows) == len(timeline_rows(layer_timeline(E4Conv2d)))
    output = next(row for row in rows if row["term"] == "output")
    assert (output["step"], output["exists"], output["value"]) == ("generate and aggregate", True, 4 * 4 * 36)
    assert output["when"] == "1 - delta_reference"
    assert next(row for row in rows if row["step"] == "unfold")["exists"] is False
    assert next(row for row in rows if row["step"] == "relu")["frees"] == ["normalised"]
    assert "value" not in peak_terms(E4Conv2d)[0]


def test_what_a_step_frees_was_there() -> None:
    values, assumed = settings(E4Conv2d, {"c_in": 4, "A": 4, "k": 3, "r": 1, "s": 1, "h": 6}, peak_symbols(E4Conv2d))
    text = peak_text(E4Conv2d, values, assumed)
    made = set(re.findall(r"^    \+ (\S.*?) {2,}", text, re.MULTILINE))
    freed = re.findall(r"^    - (.*(?:\n      .*)*)", text, re.MULTILINE)
    names = {name for line in freed for name in " ".join(line.split()).split(", ")}
    assert names
    assert names <= made
    assert "sampled" not in names


def test_a_step_that_does_nothing_is_left_out() -> None:
    given = {"c_in": 4, "A": 4, "k": 3, "r": 1, "s": 1, "h": 6, "delta_reference": 1}
    values, _ = settings(E4Conv2d, given, peak_symbols(E4Conv2d))
    lines = peak_text(E4Conv2d, values).splitlines()
    steps = [number for number, line in enumerate(lines) if ": live " in line]
    assert all(lines[number + 1].startswith(("    + ", "    - ")) for number in steps)
    values, _ = settings(GroupConv2d, {"c_in": 3, "A": 4, "k": 3, "h": 9}, peak_symbols(GroupConv2d))
    assert "pool" not in peak_text(GroupConv2d, values).partition("where")[0].replace("delta_pool", "")
    # float32 has no wide copies
    assert not any("widen" in line for line in lines)


def test_what_sizes_decide_is_assumed_from_them() -> None:
    def assumed(**given: int) -> tuple[int, int]:
        sizes = {"c_in": 4, "A": 4, "k": 3, "r": 1, "s": 1, "h": 6, **given}
        values, _ = settings(E4Conv2d, sizes, peak_symbols(E4Conv2d))
        by_name = {str(symbol): value for symbol, value in values.items()}
        return by_name["delta_affine"], by_name["delta_hidden"]

    assert assumed() == (1, 1)
    assert assumed(r=4) == (1, 0)
    assert assumed(q=4) == (0, 1)
    assert assumed(A=1) == (0, 0)
    assert assumed(delta_affine=0) == (0, 1)


def test_a_layer_without_a_timeline_is_refused() -> None:
    with pytest.raises(SettingError, match=r"AttentiveGroupConv2d states no timeline.*E4Conv2d"):
        peak_text(find_layer("AttentiveGroupConv2d"))
