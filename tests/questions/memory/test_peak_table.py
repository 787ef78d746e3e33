"""The table of peaks and ``memory --peaks``: each layer at its own peak, terms that add up, what is missing."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch

from e4profile.networks import NETWORKS
from e4profile.questions.memory.peak_table import peak_rows, peak_table
from e4profile.show.tables import render
from e4profile.subjects.subject import resolve
from e4profile.witnesses.memory.layer_peak import measure_layer_peak


def test_rows_of_a_network_add_up_to_what_its_layers_hold():
    model = NETWORKS["rot_mnist"](group="p4", width=4, slices=2)
    rows, reasons = peak_rows(model, (1, 28, 28), 2, "float32")
    assert reasons == []
    assert {tuple(row) for row in rows} == {("path", "layer", "pass", "step", "term", "bytes", "peak_bytes")}
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
    card = resolve("e4net-printed")
    text = render(peak_table(card, 3, "float64"), form)
    assert "generate and aggregate, backward" in text


OWN = """
from torch import nn
from e4profile.networks import NETWORKS

def chain(width=4):
    return NETWORKS["rot_mnist"](group="p4", width=width, slices=2)

class Free(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.attention, self.head = chain(), nn.MultiheadAttention(10, 2, batch_first=True), nn.Linear(10, 3)

    def forward(self, image):
        values = self.body(image).unsqueeze(1)
        return self.head(self.attention(values, values, values)[0] * 2)

class Nothing(nn.Module):
    def forward(self, image):
        return image * 2

def sequence():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.ReLU(), nn.Flatten()))
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "free.py").write_text(OWN)
    return lambda name: resolve(f"{tmp_path / 'free.py'}:{name}", ["2x1x28x28"])


def test_a_network_that_is_no_chain_says_what_its_layers_hold_and_what_it_cannot(own):
    chain, free = peak_table(own("chain"), None, "float32"), peak_table(own("Free"), None, "float32")
    inside = [{**row, "path": row["path"].removeprefix("body.")} for row in free.rows if row["path"] != "head"]
    assert inside == list(chain.rows)
    notes = " ".join(free.notes)
    assert "attention: MultiheadAttention states no timeline" in notes
    assert "head: " in notes  # matrices, where the closed form takes vectors
    assert "between the layers: a user-defined forward" in notes
    assert "between the layers" not in " ".join(peak_table(own("sequence"), None, "float32").notes)
    model = own("Free").build()
    peak_rows(model, (1, 28, 28), 1, "float32")
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_a_batch_replaces_that_of_the_inputs(own):
    assert peak_table(own("Free"), 3, "float32").rows[0]["bytes"] == 3 * (4 * 4 * 28 * 28) * 4
    assert "batch of 3" in peak_table(own("Free"), 3, "float32").title


def test_the_command_gives_one_network_s_peaks(run, tmp_path):
    (tmp_path / "free.py").write_text(OWN)
    code, out, err = run("memory", "e4net-printed", "--peaks", "--batch-size", "3", "--dtype", "float64", "-f", "csv")
    assert (code, err) == (0, "")
    card = resolve("e4net-printed")
    expected = peak_table(card, 3, "float64").rows
    found = list(csv.DictReader(io.StringIO(out)))
    assert found == [{key: str(value) for key, value in row.items()} for row in expected]
    code, out, _ = run("memory", "free.py:Free", "--input", "1x1x28x28", "--peaks", "-f", "json")
    assert code == 0
    assert "E4Conv2d" in {row["layer"] for row in json.loads(out)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["e4net", "r18", "--peaks"], "--peaks takes one network and one batch size"),
        (["e4net", "--peaks", "--batch-size", "1,2"], "--peaks takes one network and one batch size"),
        (["e4net", "--peaks", "--layers"], "--layers and --peaks are different tables"),
        (["e4net", "--peaks", "--fits", "1GiB"], "--fits and --peaks are different tables"),
        (["e4net", "--peaks", "--input", "1x3x28x28"], "e4net cannot run on an input (1, 3, 28, 28): layer1.conv"),
        (["e4net", "--input", "1x3x28x28"], "e4net cannot run on an input (1, 3, 28, 28): layer1.conv"),
        (["e4net", "--fits", "1GiB", "--input", "1x3x28x28"], "e4net cannot run on an input (1, 3, 28, 28)"),
        (["free.py:Nothing", "--input", "1x1x2x2", "--peaks"], "nothing in free.py:Nothing states what it holds"),
        (["free.py:Free", "--input", "1x1x28x28", "--layers"], "free.py:Free has no closed form of what it saves"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, arguments, message):
    (tmp_path / "free.py").write_text(OWN)
    code, out, err = run("memory", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_what_does_not_fit_is_a_row_with_no_image(run):
    code, out, _ = run("memory", "e4net", "r18", "--fits", "20MiB", "-f", "json")
    assert code == 0
    small, large = json.loads(out)
    assert (small["model"], small["batch_size"] > 0) == ("e4net", True)
    assert (large["batch_size"], large["step_bytes"]) == (0, None)
    _, out, _ = run("memory", "r18", "-f", "json")
    assert large["next_step_bytes"] == json.loads(out)[0]["step_bytes"]


ATTENDS = """
from torch import nn

class Attends(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)
"""


def test_json_says_which_kernels_were_assumed(run, tmp_path, monkeypatch):
    (tmp_path / "attends.py").write_text(ATTENDS)
    monkeypatch.chdir(tmp_path)
    for device, more in (("cpu", "flash kernel"), ("cuda", "efficient kernel")):
        _, out, _ = run(
            "memory", "attends.py:Attends", "--pass", "forward", "--input", "2x2x4x8", "--device", device, "-f", "json"
        )
        (row,) = json.loads(out)
        assert row["kernels"] == device
        assert f"attention is assumed to run as on {device}: {more}" in row["notes"]
