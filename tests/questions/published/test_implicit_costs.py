"""What a training step with the implicit objective costs, and the group-convolutional network beside it."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from e4profile.groups import Group
from e4profile.networks import NETWORKS
from e4profile.networks.cards import Card, all_cards
from e4profile.questions.published.implicit import NETWORKS as IMPLICIT
from e4profile.questions.published.implicit import (
    comparison_row,
    g_cnn_params,
    measured_step,
    nearest_width,
    objective_name,
)
from e4profile.subjects.subject import of_card
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.training_step import measured_training_macs
from e4profile.witnesses.equivariance.implicit import implicit_equivariance_loss

CARDS = [card for card in all_cards().values() if card.network in IMPLICIT]
SAMPLING = [("R4", False), ("R8", False), ("R4", True), ("R8", True)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("group", "reflection"), SAMPLING)
@pytest.mark.parametrize("name", IMPLICIT)
def test_a_real_step_multiplies_exactly_twice_as_much(name: str, group: str, reflection: bool) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name](width=16, mode=group, reflection=reflection)
    channels, size = (1, 28) if name == "basic_cnn" else (3, 17)
    images, labels = torch.randn(2, channels, size, size), torch.tensor([1, 2])
    plain = measured_training_macs(model, lambda: F.cross_entropy(model(images), labels))
    step = measured_training_macs(
        model,
        lambda: implicit_equivariance_loss(
            model, images, labels, group=group, reflection=reflection, beta=0.1, generator=seeded()
        ),
    )
    assert plain > 0
    assert Fraction(step, plain) == 2


@pytest.mark.parametrize("card", [CARDS[0], CARDS[-1]], ids=lambda card: card.name)
def test_a_full_size_step_multiplies_exactly_twice_as_much(card: Card) -> None:
    subject = of_card(card)
    assert Fraction(measured_step(subject), measured_step(subject, plain=True)) == 2


def test_a_comparison_row_is_exact_and_its_g_cnn_the_nearest() -> None:
    card = all_cards()["basiccnn-r4-2-1"]
    row = comparison_row(of_card(card))
    assert row["objective"] == "R4-2-1"
    assert row["group"] == "C4"
    assert row["inference_macs"] == count_closed_form(card.build(), card.input_shape()).macs
    assert row["step_macs"] == row["measured_step_macs"] == 2 * row["measured_plain_step_macs"]
    assert row["step_ratio"] == 2
    for key, value in row.items():
        assert isinstance(value, (int, str, Fraction)), key
    distances = {
        width: abs(g_cnn_params(Group(4), width, 1, 10) - row["params"])
        for width in range(row["gcnn_width"] - 2, row["gcnn_width"] + 3)
    }
    assert min(distances, key=distances.__getitem__) == row["gcnn_width"]
    assert row["gcnn_params"] == g_cnn_params(Group(4), row["gcnn_width"], 1, 10)


@given(
    width=st.integers(1, 12), offset=st.integers(-40, 40), mirrors=st.booleans(), classes=st.sampled_from((10, 10**6))
)
@settings(max_examples=20, deadline=None)
def test_the_nearest_width_is_nearest(width: int, offset: int, mirrors: bool, classes: int) -> None:
    """Also where the classifier makes parameters grow linearly, so that the first guess is far off."""
    group = Group(4, mirrors)
    target = max(1, g_cnn_params(group, width, 3, classes) + offset)
    found = nearest_width(group, 3, classes, target)
    distances = {near: abs(g_cnn_params(group, near, 3, classes) - target) for near in range(1, 15)}
    assert found == min(distances, key=distances.__getitem__)


def test_objective_names() -> None:
    assert objective_name({"mode": "R8", "ratio": [32, 8, 2, 1], "pool_sizes": [8, 4, 2, 1]}) == "R8-4-2-1"
    assert objective_name({"mode": "R4", "reflection": True}) == "R4+reflection"
    assert objective_name({}) == "R4"
