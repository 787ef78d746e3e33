"""The numbers of the figures, against formulas written out by hand and against networks that are built and run."""

from __future__ import annotations

from decimal import Decimal

import pytest
import torch
from torch import nn

from e4profile.errors import SettingError
from e4profile.layers import E4Conv2d, GroupConv2d
from e4profile.networks.cards import all_cards
from e4profile.questions.count.figure import counter_rows
from e4profile.questions.count.figure import default_models as counter_models
from e4profile.questions.formula.figure_ratio_map import KERNELS, ORDERS, ratio_rows
from e4profile.questions.formula.figure_terms import macs_by_named_term, terms_rows
from e4profile.questions.memory.figure import memory_rows
from e4profile.questions.sweep.figure_accuracy import accuracy_plot, accuracy_rows
from e4profile.questions.sweep.figure_accuracy import default_models as accuracy_models
from e4profile.questions.sweep.figure_cost import cost_rows
from e4profile.questions.training.figure import training_rows
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import measure
from e4profile.witnesses.memory.step import predict

MAPS = (28, 14, 14, 7, 7, 7)
"""Pixels per side in the six layers of the rot-MNIST stack."""
GROUP_OF_ORDER = {1: "z2", 2: "C2", 4: "p4", 8: "p4m"}


def e4net_params(c: int, k: int, r: int, s: int, order: int) -> int:
    """He et al. 2021, section 4.2: encoder, squeeze and generator of six layers, and the 3x3 lifting."""
    return 6 * (c * c * order + c * (c // r) * order + (c // r) * s * k * k) + 9 * c


def e4net_macs(c: int, k: int, r: int, s: int, order: int) -> int:
    per_pixel = c * c * order**2 + c * (c // r) * order**2 + (c // r) * s * k * k * order + c * order * k * k
    return sum(per_pixel * side * side for side in MAPS) + 9 * c * order * 28 * 28


@pytest.fixture(scope="module")
def costs():
    return cost_rows(resolve("e4net"))


def test_every_cost_is_the_printed_form_written_out(costs):
    own = {"width": 16, "kernel": 5, "reduction": 1, "slices": 2, "group": 4}
    for row in costs:
        at = {**own, row["setting"]: row["value"]}
        arguments = (at["width"], at["kernel"], at["reduction"], at["slices"], at["group"])
        assert row["params_printed"] == e4net_params(*arguments), row
        assert row["macs_printed"] == e4net_macs(*arguments), row
        assert row["macs_closed"] == row["macs_printed"] + 10 * at["width"], row


def test_the_exact_form_is_what_runs_at_every_setting(costs):
    assert all(row["agrees"] for row in costs)
    for quantity in ("params", "macs"):
        assert [row[f"{quantity}_closed"] for row in costs] == [row[f"{quantity}_measured"] for row in costs]


def test_each_setting_is_varied_and_the_card_itself_marked_once_per_setting(costs):
    values = {}
    for row in costs:
        values.setdefault(row["setting"], []).append(row["value"])
    assert values == {
        "reduction": [1, 2, 4, 8, 16], "slices": [1, 2, 4, 8, 16], "kernel": [1, 3, 5, 7, 9], "width": [8, 16, 32],
        "group": [1, 2, 4, 8],
    }  # fmt: skip
    own = [row for row in costs if row["own"]]
    assert [row["setting"] for row in own] == list(values)
    assert {row["params_measured"] for row in own} == {18694}


def test_the_gcnn_beside_a_cost_is_the_network_with_group_convolutions(costs):
    for row in costs:
        if row["setting"] == "kernel" and row["value"] == 3:
            built = resolve("e4net").with_arguments({"layer": "group", "kernel": 3})
            counted = measure(built, ("dispatch",)).dispatch
            assert (row["gcnn_params"], row["gcnn_macs"]) == (counted.params, counted.macs)


def test_a_network_without_e4_layers_varies_what_it_has():
    rows = cost_rows(resolve("p4-cnn"))
    assert {row["setting"] for row in rows} <= {"kernel", "width", "group"}
    assert {row["gcnn_macs"] for row in rows} == {None}


def test_channels_per_slice_are_varied_where_the_card_says_so():
    rows = cost_rows(resolve("p4m-e4r18"))
    own = [row for row in rows if row["setting"] == "channels_per_slice" and row["own"]]
    assert [row["value"] for row in own] == [2]
    assert not [row for row in rows if row["setting"] == "slices"]


def test_a_setting_with_a_single_possible_value_is_not_varied(monkeypatch):
    for name in ("_DOUBLED", "_KERNELS", "_WIDTH_FACTORS", "_GROUPS"):
        monkeypatch.setattr(f"e4profile.questions.sweep.figure_cost.{name}", ())
    with pytest.raises(SettingError, match="e4net has none of the settings"):
        cost_rows(resolve("e4net"))


@pytest.fixture(scope="module")
def ratios():
    return {(row["quantity"], row["kernel"], row["group_order"]): row for row in ratio_rows(resolve("e4net"))}


def test_the_macs_of_the_ratio_map_are_those_written_out(ratios):
    for k in KERNELS:
        for order in ORDERS:
            row = ratios["macs", k, order]
            lifting = 9 * 16 * order * 28 * 28
            assert row["e4"] == e4net_macs(16, k, 1, 2, order) - lifting
            assert row["gcnn"] == sum(k * k * 16 * 16 * order**2 * side * side for side in MAPS)
            assert row["ratio"] == row["e4"] / row["gcnn"]


@pytest.mark.parametrize(("k", "order"), [(3, 1), (5, 4), (3, 8), (7, 2)])
def test_the_parameters_of_the_ratio_map_are_those_of_built_layers(ratios, k, order):
    card = resolve("e4net").with_arguments({"kernel": k, "group": GROUP_OF_ORDER[order]})
    dynamic = [one for one in card.build().modules() if isinstance(one, E4Conv2d)]
    convolutions = (GroupConv2d, nn.Conv2d)
    static = [one for one in card.with_arguments({"layer": "group"}).build().modules() if isinstance(one, convolutions)]
    if order == 1:
        static = static[1:]  # the lifting is a plain convolution there
    row = ratios["params", k, order]
    assert row["e4"] == sum(p.numel() for one in dynamic for p in one.parameters())
    assert row["gcnn"] == sum(p.numel() for one in static for p in one.parameters())
    assert row["own"] == (k == 5 and order == 4)


def test_a_ratio_map_needs_e4_layers():
    with pytest.raises(SettingError, match="r18 has no E4 layers"):
        ratio_rows(resolve("r18"))


def test_the_terms_of_the_e4net_by_hand():
    positions = sum(side * side for side in MAPS)
    assert macs_by_named_term(resolve("e4net")) == {
        "lifting": 9 * 16 * 4 * 28 * 28,
        "encoder": 16 * 16 * 4 * 4 * positions,
        "squeeze": 16 * 16 * 4 * 4 * positions,
        "generator": 16 * 2 * 25 * 4 * positions,
        "aggregation": 16 * 4 * 25 * positions,
        "linear": 160,
    }


def test_the_terms_of_a_network_are_all_the_macs_that_run():
    names = ("p4-r18", "alpha-p4-cnn", "gc-p4cnn", "p4-sa")
    rows = terms_rows([resolve(name) for name in names])
    for name in names:
        mine = [row for row in rows if row["model"] == name]
        assert sum(row["macs"] for row in mine) == measure(resolve(name), ("dispatch",)).dispatch.macs
        assert sum(row["share"] for row in mine) == pytest.approx(1, abs=1e-12)


def test_the_counters_are_shown_for_table_4_and_both_e4nets():
    assert counter_models() == ("r18", "p4-r18", "p4-e4r18", "p4m-r18", "p4m-e4r18-printed", "e4net", "e4net-large")


def test_thop_sees_the_classifier_of_the_e4net_and_nothing_else():
    rows = {row["counter"]: row for row in counter_rows([resolve("e4net")])}
    thop, fvcore = rows["thop"], rows["fvcore"]
    assert thop["macs"] == fvcore["macs"] == 17640160
    assert thop["seen"] == 16 * 10
    assert thop["seen_share"] == 160 / 17640160
    # fvcore has no rule for the aggregation, a product of two feature maps
    assert fvcore["seen"] == 17640160 - 2116800
    for row in rows.values():
        assert row["seen"] + row["besides"] == row["reported"]
        assert row["reported_share"] == row["reported"] / row["macs"]
        assert row["failure"] is None


@pytest.fixture(scope="module")
def errors():
    return accuracy_rows([resolve(name) for name in accuracy_models()])


def test_every_published_test_error_is_there_once(errors):
    printed = {
        (cell.quantity, card.name, cell.value)
        for card in all_cards().values()
        for row in card.published
        for cell in row.cells
        if cell.quantity.startswith("test_error")
    }
    assert len(errors) == len(printed) > 39
    assert {(row["model"], Decimal(str(row["test_error_percent"]))) for row in errors} == {
        (model, Decimal(value)) for _, model, value in printed
    }


def test_fronts_by_brute_force_within_each_publication(errors):
    for cost in ("macs", "params"):
        for row in errors:
            rivals = [one for one in errors if (one["dataset"], one["series"]) == (row["dataset"], row["series"])]
            better = [
                one
                for one in rivals
                if one is not row and one[cost] <= row[cost] and one["test_error_percent"] <= row["test_error_percent"]
            ]
            assert row[f"on_{cost}_front"] == (not better), row


def test_augmented_training_and_publications_are_series_of_their_own(errors):
    assert {row["series"] for row in errors if row["dataset"] == "cifar10"} == {
        f"{publication}{training}"
        for publication in ("Cohen & Welling 2016", "Lengyel & van Gemert 2021", "Weiler & Cesa 2019")
        for training in ("", ", augmented")
    } - {"Weiler & Cesa 2019"} | {"He et al. 2021"}
    published = {"cifar100": {"He et al. 2021", "Weiler & Cesa 2019, augmented"}, "stl10": {"Weiler & Cesa 2019"}}
    for dataset, series in published.items():
        assert {row["series"] for row in errors if row["dataset"] == dataset} == series


def test_costs_beside_errors_are_those_of_the_row_as_built(errors):
    (row,) = [row for row in errors if row["label"] == "k=7"]
    built = measure(resolve("e4net-printed").with_arguments({"kernel": 7}), ("dispatch",)).dispatch
    assert (row["params"], row["macs"]) == (built.params, built.macs)
    assert (row["test_error_percent"], row["spread_percent"]) == (1.27, 0.021)


def test_accuracy_needs_a_published_error():
    with pytest.raises(SettingError, match="no test error was published for e4net"):
        accuracy_rows([resolve("e4net")])


def test_saved_bytes_are_split_into_constant_and_growing():
    rows = memory_rows([resolve("p4-cnn")], (2, 6))
    two, six = rows
    assert (two["constant_bytes"], two["growing_bytes"]) == (six["constant_bytes"], six["growing_bytes"] // 3)
    step = predict(resolve("p4-cnn").build(), (1, 28, 28), 6)
    assert six["constant_bytes"] + six["growing_bytes"] == step.saved_bytes
    assert six["peak_bytes"] == step.peak_bytes


def test_a_network_that_keeps_another_way_at_another_batch_is_asked_at_each():
    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            once = (self.scale * x).exp()
            return (once if len(x) <= 4 else once.exp()).flatten(1)

    rows = memory_rows([resolve(Grows(), ["1x3x8x8"])], (2, 3, 5, 6))
    assert [row["growing_bytes"] // (3 * 8 * 8 * 4) / row["batch_size"] for row in rows] == [1, 1, 2, 2]


def test_a_training_step_with_a_copy_costs_twice_the_step_without():
    implicit, explicit = training_rows([resolve("basiccnn-r4-2-1")])
    assert (implicit["equivariance"], explicit["equivariance"]) == ("implicit", "explicit")
    plain = measure(resolve("basiccnn-r4-2-1"), ("dispatch",)).dispatch
    assert (implicit["params"], implicit["inference_macs"]) == (plain.params, plain.macs)
    first_layer = 88 * 7 * 7 * 24 * 24
    assert implicit["step_macs"] == 2 * (3 * plain.macs - first_layer)
    assert abs(explicit["params"] - implicit["params"]) < 0.05 * implicit["params"]
    assert explicit["step_to_inference"] == explicit["step_macs"] / explicit["inference_macs"] < 3


def test_only_implicit_networks_have_a_training_figure():
    with pytest.raises(SettingError, match="e4net is not one"):
        training_rows([resolve("e4net")])


def test_publications_of_one_figure_have_marks_of_their_own():
    (row,) = accuracy_rows([resolve("c-z2cnn")])[:1]
    rows = [{**row, "series": f"publication {index}", "label": str(index)} for index in range(12)]
    plot = accuracy_plot("many", "Many", rows)
    marks = [(line.get_color(), line.get_marker()) for line in plot.figure.legends[0].get_lines()[:12]]
    assert len(set(marks)) == 12
