from __future__ import annotations

from decimal import Decimal

import pytest

from e4profile.networks.cards import Cell
from e4profile.networks.published import judge, tally
from e4profile.witnesses.counts.base import Count, LayerCount, differences


def cell(value: str, rounding: str = "rounded", convention: str | None = None) -> Cell:
    return Cell("flops" if convention else "params", value, convention, rounding, "reproduced")


@pytest.mark.parametrize(
    ("built", "published", "verdict"),
    [
        (18_886, cell("18.9K"), "reproduced"),
        (18_886, cell("18.8K"), "unresolved"),
        (18_886, cell("18.8K", "truncated"), "reproduced (truncated)"),
        (18_886, cell("18.9K", "truncated"), "unresolved"),
        (18_849, cell("18.8K"), "reproduced"),
        (18_850, cell("18.8K"), "unresolved"),
        (4_369_760, cell("4.37M", convention="weights-at-output"), "reproduced under a named rule"),
        (4_369_760, cell("4.38M", convention="weights-at-output"), "unresolved"),
        (2_979_300_000, cell("2.99G", convention="printed"), "unresolved"),
    ],
)
def test_verdicts(built: int, published: Cell, verdict: str) -> None:
    assert judge(built, published).verdict == verdict


def test_the_deviation_has_its_sign() -> None:
    assert judge(2_979_300_000, cell("2.99G")).deviation_percent.quantize(Decimal("0.1")) == Decimal("-0.4")
    assert judge(110, cell("100")).deviation_percent == 10


def count(*layers: tuple[str, int, dict[str, int]]) -> Count:
    return Count("x", "", tuple(LayerCount(path, "L", params, ops) for path, params, ops in layers))


FORMULA = count(("a", 5, {"convolution": 10}), ("b.c", 1, {"linear": 2, "batch_norm": 3}))


def test_agreement_rolls_up_what_ran_inside_a_layer() -> None:
    measured = count(
        ("a", 2, {"convolution": 4}), ("a.inner", 3, {"convolution": 6}), ("b.c", 1, {"linear": 2, "batch_norm": 3})
    )
    assert differences(FORMULA, measured) == []


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ([("a", 5, {"convolution": 11}), ("b.c", 1, {"linear": 2, "batch_norm": 3})],
         ["a: convolution: closed form 10, measured 11"]),
        ([("a", 4, {"convolution": 10}), ("b.c", 2, {"linear": 2, "batch_norm": 3})],
         ["a: params: closed form 5, measured 4", "b.c: params: closed form 1, measured 2"]),
        ([("a", 5, {"convolution": 10}), ("b.c", 1, {"linear": 2, "group_norm": 3})],
         ["b.c: batch_norm: closed form 3, measured 0", "b.c: group_norm: closed form 0, measured 3"]),
        ([("a", 5, {"aggregation": 10}), ("b.c", 1, {"linear": 2, "batch_norm": 3})],
         ["a: convolution: closed form 10, measured 0", "a: aggregation: closed form 0, measured 10"]),
        ([("a", 5, {"convolution": 10}), ("b.c", 1, {"linear": 2, "batch_norm": 3}), ("", 0, {"linear": 7})],
         ["(network): linear: closed form 0, measured 7"]),
        ([("a", 5, {"convolution": 10}), ("b.c", 1, {"linear": 2, "batch_norm": 3}), ("b", 9, {})],
         ["b: params: closed form 0, measured 9"]),
        ([("a", 5, {"convolution": 10})],
         ["b.c: params: closed form 1, measured 0", "b.c: linear: closed form 2, measured 0",
          "b.c: batch_norm: closed form 3, measured 0"]),
    ],
)  # fmt: skip
def test_every_disagreement_names_layer_quantity_and_both_numbers(layers: list, found: list[str]) -> None:
    assert sorted(str(one) for one in differences(FORMULA, count(*layers))) == sorted(found)


def test_errors_in_two_layers_do_not_cancel() -> None:
    measured = count(("a", 5, {"convolution": 9}), ("b.c", 1, {"linear": 2, "batch_norm": 3, "convolution": 1}))
    assert measured.macs == FORMULA.macs
    assert len(differences(FORMULA, measured)) == 2


def test_a_tally_has_the_best_verdict_first() -> None:
    assert list(tally(["unresolved", "reproduced", "unresolved"]).items()) == [("reproduced", 1), ("unresolved", 2)]
