"""Sweeps over the arguments of cards and of user-defined models."""

from __future__ import annotations

from pathlib import Path

import pytest

from e4profile.errors import SettingError, UnknownNameError
from e4profile.questions.sweep.variant_sweep import sweep_variants
from e4profile.questions.sweep.varied import variants_table
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import Subject, resolve
from e4profile.witnesses.timing.samples import Samples

NET = """
from torch import nn

def build(width=4, norm=None, deep=False):
    if width == 13:
        raise ValueError("not thirteen")
    layers = [nn.Conv2d(3, width, 3, bias=False), *([nn.BatchNorm2d(width)] if norm == "batch" else [])]
    return nn.Sequential(*layers, *([nn.Conv2d(width, width, 1, bias=False)] if deep else []))

"""


@pytest.fixture
def own(tmp_path: Path) -> Subject:
    (tmp_path / "net.py").write_text(NET)
    return resolve(f"{tmp_path / 'net.py'}:build", ["2x3x6x6"])


def test_every_combination_of_a_model_of_ones_own_is_counted(own: Subject) -> None:
    told: list[tuple[int, int, str]] = []
    found = sweep_variants(own, ["width=4,6", "norm=None,batch"], progress=lambda *one: told.append(one))
    assert [(dict(one.setting), one.params, one.macs) for one in found.variants] == [
        ({"width": 4, "norm": None}, 108, 2 * 108 * 16), ({"width": 4, "norm": "batch"}, 116, 2 * 108 * 16),
        ({"width": 6, "norm": None}, 162, 2 * 162 * 16), ({"width": 6, "norm": "batch"}, 174, 2 * 162 * 16),
    ]  # fmt: skip
    assert [one.step_bytes for one in found.variants] == [None] * 4
    assert told[1] == (1, 4, "width=4, norm=batch")
    assert (found.refused, found.interrupted) == ((), False)
    assert any("counted from what one call runs" in note for note in found.notes)


def test_a_card_is_counted_by_its_closed_form() -> None:
    from e4profile.witnesses.counts.closed_form import count_closed_form

    card = resolve("p4cnn")
    found = sweep_variants(card.at_batch(3), ["width=2..6..2"], convention_name="flops")
    assert [one.setting["width"] for one in found.variants] == [2, 4, 6]
    for one in found.variants:
        count = count_closed_form(card.with_arguments(one.setting).build("meta"), (3, *card.input))
        assert (one.params, one.macs) == (count.params, count.total("flops"))
    assert found.notes == ()


def test_memory_is_predicted_and_grows(own: Subject) -> None:
    found = sweep_variants(own, ["width=4,8"], memory_batch_size=2)
    small, large = (one.step_bytes for one in found.variants)
    assert small is not None
    assert large is not None
    assert 0 < small < large


def test_what_cannot_be_built_is_said_and_left_out(own: Subject) -> None:
    found = sweep_variants(own, ["width=12..14"])
    assert [one.setting["width"] for one in found.variants] == [12, 14]
    ((setting, reason),) = found.refused
    assert setting == "width=13"
    assert "not thirteen" in reason


def test_times_are_taken_in_turn(own: Subject) -> None:
    asked = []

    def timer(subjects, *, brief: bool = False):
        asked.append((len(subjects), brief))
        widths = [one.arguments["width"] for one in subjects]
        return [Samples((1e-3 * width,) * 9, 0, 1.0, 7, True, "noise target", "") for width in widths]

    found = sweep_variants(own, ["width=4,13,6"], timer=timer)
    assert asked == [(2, False)]
    assert [one.median_s for one in found.variants] == [4e-3, 6e-3]
    assert found.variants[0].as_object()["median_s"] == 4e-3


def test_an_interrupt_keeps_what_was_counted(own: Subject) -> None:
    def stops(done: int, total: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    found = sweep_variants(own, ["width=4..9"], progress=stops)
    assert found.interrupted
    assert [one.setting["width"] for one in found.variants] == [4, 5]
    assert found.notes[0] == "interrupted: 4 of 6 combinations left, nothing timed"

    def at_once(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_variants(own, ["width=4..9"], progress=at_once)


@pytest.mark.parametrize(
    ("vary", "kind", "message"),
    [
        ([], SettingError, "at least one argument"),
        (["width"], SettingError, "give its values"),
        (["width=4,6", "width=8"], SettingError, "width is given 2 times"),
        (["widht=4"], UnknownNameError, "did you mean width"),
        (["width=1..200", "norm=1..200"], SettingError, "40,000 combinations; at most 10,000"),
        (["width=13"], UserCodeError, "no combination builds .*not thirteen"),
    ],
)
def test_bad_sweeps_are_refused(own: Subject, vary: list[str], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        sweep_variants(own, vary)
    with pytest.raises(SettingError, match="batch_size"):
        sweep_variants(own, ["width=4"], timed_batch_size=0)


UNKNOWN = """
import torch

class Exponential(nn.Conv2d):
    def __init__(self, width=4):
        super().__init__(3, width, 3, bias=False)

    def forward(self, images):
        return torch.linalg.matrix_exp(super().forward(images))
"""


def test_a_lower_bound_says_so_in_its_cell(own: Subject, tmp_path: Path) -> None:
    (tmp_path / "bounds.py").write_text(NET + UNKNOWN)
    bounded = resolve(f"{tmp_path / 'bounds.py'}:Exponential", ["1x3x6x6"])
    found = sweep_variants(bounded, ["width=4,6"])
    assert [(one.macs, one.at_least) for one in found.variants] == [(108 * 16, True), (162 * 16, True)]
    assert found.variants[0].as_object()["at_least"] is True
    assert [row["bound"] for row in variants_table(found, "macs").rows] == ["at least"] * 2
    exact = sweep_variants(own, ["width=4,6"])
    assert "at_least" not in exact.variants[0].as_object()
    assert "bound" not in variants_table(exact, "macs").rows[0]


def test_stock_counters_are_asked_of_every_variant(own: Subject) -> None:
    found = sweep_variants(own, ["width=4,6"], counters=["dispatch", "torch"])
    assert [one.reported for one in found.variants] == [{"torch": one.macs} for one in found.variants]
    assert found.variants[0].as_object()["torch"] == found.variants[0].macs
    assert [row["torch"] for row in variants_table(found, "macs").rows] == [one.macs for one in found.variants]
    with pytest.raises(UnknownNameError, match="unknown counter 'trch'"):
        sweep_variants(own, ["width=4,6"], counters=["trch"])
