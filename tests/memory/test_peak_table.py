"""The table of peaks: every layer of a network at its own peak, terms that add up, reasons for what is missing."""

from __future__ import annotations

import pytest
import torch

from e4profile.cards import find_card
from e4profile.memory import measure_layer_peak
from e4profile.networks import NETWORKS
from e4profile.render.tables import render
from e4profile.tables.peak import COLUMNS, peak_rows, peak_table
from e4profile.targets import Target


def test_rows_of_a_network_add_up_to_what_its_layers_hold():
    model = NETWORKS["rot_mnist"](group="p4", width=4, slices=2)
    rows, reasons = peak_rows(model, (1, 28, 28), 2, "float32")
    assert reasons == []
    assert {tuple(row) for row in rows} == {COLUMNS}
    by_path: dict[str, int] = {}
    for row in rows:
        by_path[row["path"]] = by_path.get(row["path"], 0) + row["bytes"]
    for row in rows:
        assert by_path[row["path"]] == row["peak_bytes"]
    shapes: dict[str, torch.Size] = {}
    for path, module in model.named_modules():
        module.register_forward_hook(lambda _, inputs, __, path=path: shapes.update({path: inputs[0].shape}))
    model(torch.zeros(2, 1, 28, 28))
    for path, total in by_path.items():
        measured = measure_layer_peak(model.get_submodule(path), shapes[path][1:], batch_size=2)
        assert total == measured.peak_bytes, path


def test_what_has_no_closed_form_is_said_once_with_every_path():
    with torch.device("meta"):
        model = NETWORKS["p4_sa"](width=3, heads=2, head_channels=4, kernel=3, crops=[1, 0])
    rows, reasons = peak_rows(model, (1, 14, 14), 1, "bfloat16")
    (reason,) = reasons
    assert reason.startswith("lifting.attention, block1.attention.body.attention, block2.")
    assert "block1.attention.shortcut" in {row["path"] for row in rows}


def test_charged_containers_hold_nothing():
    with torch.device("meta"):
        model = NETWORKS["separable_mnist"](group="p4", width=10, kind="gc")
    rows, reasons = peak_rows(model, (1, 28, 28), 1, "float32")
    assert reasons == []
    assert "SeparableGroupConv2d" in {row["layer"] for row in rows}


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_the_table_of_a_card(form):
    card = find_card("e4net-printed")
    text = render(peak_table(Target(card.name, card.title, {}, card), 3, "float64"), form)
    assert "generate and aggregate, backward" in text
