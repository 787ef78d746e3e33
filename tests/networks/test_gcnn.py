"""The G-CNNs of Cohen & Welling 2016: what the cards say was counted, and how equivariant the networks are."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch

from e4profile.networks import NETWORKS
from e4profile.networks.cards import built_in_cards
from e4profile.witnesses.counts.base import differences
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise

CARDS = [card for card in built_in_cards().values() if card.network in ("all_cnn_c", "gcnn_resnet")]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_the_evidence_names_what_each_way_of_building_has(card):
    """With biases or without, with batch norms or without: the paper does not say, so the card says them all."""
    switches = [name for name in ("bias", "norm") if card.accepts(name)]
    built = [dict(zip(switches, on, strict=True)) for on in product((False, True), repeat=len(switches))]
    models = [card.with_arguments(one).build() for one in built if one != {"bias": False, "norm": True}]
    (row,) = card.published
    said = {int(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})+", row.cells[0].evidence)}
    assert said == {sum(parameter.numel() for parameter in model.parameters()) for model in models}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_the_closed_form_is_what_runs_layer_by_layer(card):
    model = card.build()
    counted = count_dispatch(model, (torch.empty(card.input_shape(), device="meta"),))
    assert counted.uncounted == {}
    assert differences(count_closed_form(model, card.input_shape()), counted) == []


@pytest.mark.parametrize(
    ("name", "arguments", "field_out", "size"),
    [("all_cnn_c", {"width": 2}, "invariant", 9), ("gcnn_resnet", {"widths": [2, 3], "depth": 1}, "regular", 5)],
)
def test_the_maps_turn_with_the_image(name, arguments, field_out, size):
    """On sizes that the strides divide; the ResNet up to its pool, since its classifier reads every group element."""
    model = NETWORKS[name](group="p4m", **arguments).double().eval()
    if field_out == "regular":
        del model.pool, model.flatten, model.classifier
    images = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    group = next(one.group for one in model.modules() if hasattr(one, "group"))
    assert max(equivariance_errors(randomise(model), images, group, "trivial", field_out)) < 1e-10
