"""The steerable ResNets: every published row to the digit, expansion apart from inference, invariance."""

from __future__ import annotations

import pytest
import torch

from e4profile.conventions import EXPANSION, EXPANSION_REFERENCE
from e4profile.errors import UnknownNameError
from e4profile.groups import as_group
from e4profile.layers.steerable import SteerableConv2d, dense_filter_bytes, expansion_share
from e4profile.networks import NETWORKS
from e4profile.networks.cards import find_card
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import randomise

# parameters, inference GMAC, expansion GMAC by the reference library's formula, both to three places
COSTS = {
    "d1resnet18": (11_523_720, "5.212", "0.391"),
    "c4resnet18": (11_454_676, "10.362", "1.571"),
    "d4resnet18": (11_708_472, "21.184", "6.477"),
    "c8resnet18": (11_708_472, "21.184", "6.477"),
    "d8resnet18": (11_877_080, "42.979", "26.435"),
    "d1resnet50": (25_660_200, "9.876", "0.391"),
    "c4resnet50": (24_686_640, "19.252", "1.532"),
    "d4resnet50": (24_838_100, "39.131", "6.253"),
    "c8resnet50": (24_838_100, "39.131", "6.253"),
    "d1resnet101": (44_741_000, "18.939", "0.728"),
    "c4resnet101": (43_374_400, "37.016", "2.854"),
    "d4resnet101": (43_898_500, "75.383", "11.649"),
    "c8resnet101": (43_898_500, "75.383", "11.649"),
    "resnet18": (11_689_512, "1.814", "0.000"),
    "resnet50": (25_557_032, "4.089", "0.000"),
    "resnet101": (44_549_160, "7.801", "0.000"),
}
FAST_WIDTHS = {"d1": 32, "c4": 16, "d4": 8, "c8": 8, "d8": 3}


def giga(amount):
    """Three places, halves up, in whole numbers."""
    thousandths = (2 * amount + 10**6) // (2 * 10**6)
    return f"{thousandths // 1000}.{thousandths % 1000:03d}"


@pytest.mark.parametrize("name", COSTS)
def test_rows_come_out_to_the_digit(name):
    card = find_card(name)
    model = card.build()
    count = count_closed_form(model, card.input_shape())
    params, inference, expansion = COSTS[name]
    assert count.params == params == sum(parameter.numel() for parameter in model.parameters())
    assert giga(count.macs) == inference
    assert giga(count.operations.get(EXPANSION_REFERENCE, 0)) == expansion


@pytest.mark.parametrize("name", ["d1resnet18", "c4resnet50", "d8resnet18", "resnet50"])
def test_closed_form_is_what_runs_in_both_modes(name):
    card = find_card(name)
    model = card.build()
    shape = card.input_shape(2)
    closed = count_closed_form(model, shape)
    inputs = (torch.empty(shape, device="meta"),)
    inference, training = (count_dispatch(model, inputs, training=mode) for mode in (False, True))
    assert inference.uncounted == training.uncounted == {}
    ours = {kind: amount for kind, amount in closed.operations.items() if kind != EXPANSION_REFERENCE}
    assert training.operations == ours
    ours.pop(EXPANSION, None)
    assert inference.operations == ours
    assert inference.params == closed.params


def test_expansion_does_not_grow_with_the_batch():
    card = find_card("c8resnet18")
    model = card.build()
    one, many = (count_closed_form(model, card.input_shape(batch)) for batch in (1, 32))
    assert many.macs == 32 * one.macs
    for kind in (EXPANSION, EXPANSION_REFERENCE):
        assert many.operations[kind] == one.operations[kind]
        assert expansion_share(many.operations, kind) < expansion_share(one.operations, kind) < 1


def test_dense_filters_of_a_network():
    model = find_card("d4resnet18-fast").build()
    elements = sum(
        layer.filter_shape[0] * layer.filter_shape[1] * layer.kernel**2
        for layer in model.modules()
        if isinstance(layer, SteerableConv2d)
    )
    assert dense_filter_bytes(model) == 4 * elements
    assert dense_filter_bytes(model, bytes_per_element=2) == 2 * elements
    assert dense_filter_bytes(find_card("resnet18").build()) == 0


@pytest.mark.parametrize("name", [name for name in (*COSTS, "d8resnet50") if "8resnet" in name or name[0] in "dc"])
def test_fast_cards_differ_in_width_alone(name):
    card, fast = find_card(name), find_card(f"{name}-fast")
    assert fast.arguments == {**card.arguments, "width": FAST_WIDTHS[name[:2]]}
    assert (fast.published, fast.input, fast.network) == ((), card.input, card.network)


def test_thirteen_rows_in_the_order_of_the_list():
    rows = [(row.order, name, row) for name in COSTS for row in find_card(name).published]
    assert [order for order, _, _ in rows] == list(range(1, 14))
    assert [row.row for _, _, row in rows] == [name for _, name, _ in rows]
    assert {row.table for _, _, row in rows} == {"steerable"}
    verdicts = {name: cell.verdict for _, name, row in rows for cell in row.cells if cell.compared}
    assert [name for name, verdict in verdicts.items() if verdict != "reproduced"] == ["c4resnet18"]


@pytest.mark.parametrize("group", ["D1", "C4", "D4"])
@pytest.mark.parametrize("depth", [18, 50])
def test_logits_are_invariant_where_the_windows_fit(group, depth):
    group = as_group(group)
    model = NETWORKS["steerable_resnet"](group=group, width=2, depth=depth, classes=4)
    model = randomise(model.double().eval(), seed=1)
    images = torch.randn(1, 3, 33, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(images)
        spread = logits.max() - logits.min()
        for element in group.elements:
            assert (model(group.act_on_grid(images, element)) - logits).abs().max() < 1e-10 * spread


def test_even_maps_with_a_stride_are_not_exact():
    group = as_group("C4")
    model = NETWORKS["steerable_resnet"](group=group, width=2, classes=4)
    model = randomise(model.double().eval(), seed=1)
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(images)
        spread = logits.max() - logits.min()
        assert (model(group.act_on_grid(images, 1)) - logits).abs().max() > 1e-6 * spread


def test_an_unknown_depth_is_refused():
    with pytest.raises(UnknownNameError, match="34"):
        NETWORKS["steerable_resnet"](group="C4", width=2, depth=34)
