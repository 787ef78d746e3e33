"""The setting nearest to a cost: the literature's widths, the search itself, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from e4profile.cards import find_card
from e4profile.counters.closed_form import count_closed_form
from e4profile.counters.dispatch import count_dispatch
from e4profile.errors import SettingError, UnknownNameError
from e4profile.matching import Axis, bracket, closest, match, whole_number
from e4profile.matching_time import match_time, seconds


@pytest.mark.parametrize(
    ("name", "to", "width"),
    [
        ("p4cnn", "z2cnn", 10),
        ("g-p4cnn", "z2cnn", 17),
        ("gc-p4cnn", "z2cnn", 30),
        ("c-z2cnn", "z2cnn", 56),
        ("p4-r18", "r18", 32),
        ("p4m-r18", "r18", 23),
        ("d1resnet18", "11.69M", 55),
        ("c4resnet18", "11.69M", 39),
        ("d4resnet18", "11.69M", 28),
        ("d8resnet18", "11.69M", 20),
    ],
)
def test_the_widths_of_the_literature(name, to, width):
    found = match(find_card(name), to)
    assert found.nearest.setting == {"width": width}
    assert found.below is not None
    assert found.above is not None
    assert found.below.setting == {"width": width - 1}
    assert found.above.setting == {"width": width + 1}
    assert found.below.value < found.nearest.value < found.above.value


def test_the_separable_plain_network_is_a_near_tie():
    found = match(find_card("c-z2cnn"), "z2cnn")
    assert found.above is not None
    assert (found.target, found.target_name) == (25210, "z2cnn")
    assert (found.nearest.deviation, found.above.deviation) == (-392, 393)
    assert found.above.setting == {"width": 57}


@pytest.mark.parametrize("by", ["params", "macs"])
def test_the_values_are_what_the_dispatch_counter_counts(by):
    card = find_card("e4net")
    found = match(card, "20k" if by == "params" else "25M", by=by)
    for point in (found.below, found.nearest, found.above):
        assert point is not None
        built = card.with_arguments(point.setting).build()
        counted = count_dispatch(built, (torch.empty(card.input_shape(), device="meta"),))
        assert point.value == (counted.params if by == "params" else counted.macs)
        assert point.deviation == point.value - found.target


def test_no_other_width_is_nearer():
    card = find_card("p4cnn")
    found = match(card, 7000, by="params")
    widths = range(1, 40)
    params = {
        w: count_closed_form(card.with_arguments({"width": w}).build(), card.input_shape()).params
        for w in widths
    }
    assert found.nearest.setting["width"] == min(widths, key=lambda w: abs(params[w] - 7000))


def test_settings_that_cannot_be_built_are_passed_over():
    # reduction 2 and 2 channels per slice: even widths only
    found = match(find_card("p4-e4r18"), "5.8M")
    assert [p.setting["width"] % 2 for p in (found.below, found.nearest, found.above) if p] == [0, 0, 0]
    assert found.nearest.setting["width"] - 2 == found.below.setting["width"]


def test_wide_networks_need_no_memory():
    found = match(find_card("p4m-r18"), 10**13)
    assert found.nearest.setting["width"] > 20000
    assert abs(found.nearest.deviation) < 10**9


def test_several_widths_grow_in_the_cards_proportion():
    found = match(find_card("p4m-resnet44"), "resnet44")
    assert found.nearest.setting == {"widths": [11, 23, 45]}
    assert found.above is not None
    assert found.above.setting == {"widths": [12, 25, 49]}


def test_divisors_are_enumerated_and_ordered_by_cost():
    card = find_card("e4net")
    found = match(card, "13k", vary="reduction")
    assert found.nearest.setting == {"reduction": 2}
    # a larger reduction is cheaper
    assert found.below is not None
    assert found.below.setting == {"reduction": 4}
    assert found.above is not None
    assert found.above.setting == {"reduction": 1}
    assert match(card, 1, vary="slices").below is None


def test_kernels_are_odd():
    found = match(find_card("e4net"), "18.7k", vary="kernel")
    assert found.nearest.setting == {"kernel": 5}
    assert found.below is not None
    assert found.below.setting == {"kernel": 3}


def test_memory_is_the_predicted_step():
    from e4profile.memory import predict

    card = find_card("p4cnn")
    found = match(card, "2M", by="memory", batch_size=2)
    at = card.with_arguments(found.nearest.setting)
    assert found.nearest.value == predict(at.build(), at.input, 2).step_bytes


def test_a_convention_weighs_the_operations():
    card = find_card("e4net")
    assert match(card, 10**7, by="macs", convention_name="flops").nearest.value == (
        2 * match(card, 5 * 10**6, by="macs").nearest.value
    )


@pytest.mark.parametrize("step", [1, 3, 7])
@pytest.mark.parametrize("target", [1, 2, 49, 50, 1234567])
def test_bracket_holds_the_nearest(step, target):
    def cost(index):
        return index * index if index % step == 0 else None

    around = bracket(cost, target)
    candidates = range(step, 2000, step)
    best = min(candidates, key=lambda index: abs(index * index - target))
    assert best in around
    assert all(index % step == 0 for index in around)
    place = around.index(best)
    assert place == 0 or around[place - 1] == best - step
    assert around[place + 1] == best + step


def test_bracket_stops_where_nothing_can_be_built():
    assert bracket(lambda _: None, 10) == []
    assert bracket(lambda index: index if index <= 5 else None, 10) == [4, 5]
    assert bracket(lambda _: 1, 10, largest_index=100) == []


def test_equal_costs_decide_nothing():
    with pytest.raises(SettingError, match="slices does not change the params of r18"):
        match(find_card("r18"), "25k", vary="slices")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vary": "depth"}, "unknown axis 'depth'"),
        ({"by": "joules"}, "unknown quantity 'joules'"),
        ({"vary": "kernel"}, "p4cnn takes no kernel; vary width"),
        ({"by": "time"}, "time is matched by measurement"),
        ({"convention_name": "mac"}, "unknown convention"),
    ],
)
def test_what_cannot_be_matched_is_refused(arguments, message):
    with pytest.raises((SettingError, UnknownNameError), match=message):
        match(find_card("p4cnn"), "25k", **arguments)


@pytest.mark.parametrize("to", ["0", "0.5", 0, -3])
def test_targets_are_positive_whole_numbers(to):
    with pytest.raises(SettingError, match="must be a positive whole number"):
        match(find_card("p4cnn"), to)


@pytest.mark.parametrize(
    ("text", "value"),
    [("25k", 25000), ("3G", 3 * 10**9), ("18.8K", 18800), ("11.69M", 11690000), ("25210", 25210)],
)
def test_numbers_as_people_write_them(text, value):
    assert whole_number(text) == value


def test_names_are_no_numbers():
    assert whole_number("r18") is None
    assert seconds("r18") is None
    assert seconds("12ms") == pytest.approx(0.012)


def test_the_nearest_of_two_equally_near_is_the_cheaper():
    found = closest(
        "net", [({"width": 3}, 12), ({"width": 2}, 8), ({"width": 9}, 30)], by="params", target=10
    )
    assert found.nearest.setting == {"width": 2}
    assert found.above is not None
    assert found.above.value == 12


def test_time_follows_measurements_and_not_the_macs():
    card = find_card("p4cnn")
    asked = []

    def quadratic_with_overhead(one):
        asked.append(one.arguments["width"])
        return 1e-3 + 1e-5 * one.arguments["width"] ** 2

    found = match_time(card, "5ms", quadratic_with_overhead)
    assert found.nearest.setting == {"width": 20}
    assert found.nearest.value == pytest.approx(5e-3)
    assert len(asked) <= 13
    assert "a setting not measured may come nearer" in found.notes[0]


def test_time_of_another_network():
    found = match_time(find_card("p4cnn"), "z2cnn", lambda card: card.argument("width") / 1000)
    assert (found.target, found.target_name) == (0.02, "z2cnn")
    assert found.nearest.setting == {"width": 20}


def test_axes_know_their_candidates():
    assert Axis(find_card("e4net"), "slices").indices() == [1, 2, 4, 8, 16]
