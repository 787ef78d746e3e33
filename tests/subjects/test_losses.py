from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from e4profile.errors import SettingError, UnknownNameError
from e4profile.subjects.losses import loss_of

TARGET = torch.zeros(2, dtype=torch.int64)


def values(*shape: int) -> Tensor:
    return (torch.arange(float(torch.Size(shape).numel())).reshape(shape) / 7).requires_grad_()


SCORES, MAPS = values(2, 5), values(2, 3, 4)


class Pair(NamedTuple):
    scores: Tensor
    maps: Tensor


@dataclass
class Record:
    scores: Tensor
    ids: Tensor
    rest: Any


@pytest.mark.parametrize(
    ("output", "expected", "name"),
    [
        (SCORES, F.cross_entropy(SCORES, TARGET), "cross_entropy"),
        ((SCORES,), F.cross_entropy(SCORES, TARGET), "cross_entropy"),
        (MAPS, MAPS.mean(), "mean"),
        (values(7, 5), values(7, 5).mean(), "mean"),
        ((SCORES, MAPS), SCORES.sum() + MAPS.sum(), "sum of 2 outputs"),
        ({"a": SCORES, "b": [MAPS, {"c": MAPS}]}, SCORES.sum() + 2 * MAPS.sum(), "sum of 3 outputs"),
        (Pair(SCORES, MAPS), SCORES.sum() + MAPS.sum(), "sum of 2 outputs"),
        (Record(MAPS, TARGET, None), MAPS.mean(), "mean"),
        (Record(MAPS, TARGET, {"more": SCORES}), SCORES.sum() + MAPS.sum(), "sum of 2 outputs"),
        ((MAPS, torch.ones(3), "word", 3), MAPS.mean(), "mean"),
    ],
)
def test_the_automatic_loss_takes_what_there_is(output: Any, expected: Tensor, name: str) -> None:
    found, said = loss_of(output, "auto", TARGET)
    assert (found.item(), said) == (pytest.approx(expected.item(), rel=1e-6), name)
    assert found.requires_grad


@pytest.mark.parametrize(
    ("loss", "output", "expected", "name"),
    [
        ("sum", SCORES, SCORES.sum(), "sum"),
        ("mean", (SCORES, MAPS), SCORES.mean() + MAPS.mean(), "mean of 2 outputs"),
        ("cross_entropy", SCORES, F.cross_entropy(SCORES, TARGET), "cross_entropy"),
        (lambda pair: pair.maps.square().sum(), Pair(SCORES, MAPS), MAPS.square().sum(), "<lambda>"),
    ],
)
def test_a_loss_that_was_asked_for(loss: Any, output: Any, expected: Tensor, name: str) -> None:
    found, said = loss_of(output, loss, TARGET)
    assert (found.item(), said) == (pytest.approx(expected.item(), rel=1e-6), name)


@pytest.mark.parametrize(
    ("loss", "output", "message"),
    [
        ("cross_entropy", MAPS, r"not an output of shape \(2, 3, 4\); use loss='sum'"),
        ("cross_entropy", (SCORES, SCORES), r"\(2, 5\), \(2, 5\)"),
        ("cross_entropy", None, "no floating-point tensor"),
        ("auto", torch.ones(2, 5), "depends on no parameter"),
        ("sum", (), "has no floating-point tensor"),
        ("auto", TARGET, "has no floating-point tensor"),
        (lambda output: 3.0, MAPS, "returned float, not a tensor"),
        (lambda output: output, MAPS, r"of shape \(2, 3, 4\), not one real number"),
        (lambda output: TARGET.sum(), MAPS, "torch.int64 of shape"),
        (lambda output: torch.ones(()), MAPS, "depends on no parameter"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(loss: Any, output: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        loss_of(output, loss, TARGET)


def test_an_unknown_loss_has_near_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean cross_entropy"):
        loss_of(SCORES, "cross_entropi", TARGET)  # type: ignore[arg-type]
