"""What a network weighs: the state dict by terms and as it is, in either mode, and the model as it was found."""

from __future__ import annotations

import io
import json

import pytest
import torch

from e4profile.networks.cards import built_in_cards
from e4profile.subjects.subject import of_card, resolve
from e4profile.witnesses.memory.files import measure_files, state_formula_bytes

ONE_OF_EACH = {
    (card.network, str(card.arguments.get("group")), card.argument("kind"), card.argument("encoder_norm")): card
    for card in built_in_cards().values()
    if card.network
}


@pytest.mark.parametrize("card", ONE_OF_EACH.values(), ids=lambda card: card.name)
def test_the_terms_weigh_what_the_state_dict_has(card):
    model = card.build("meta")
    held = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert state_formula_bytes(model, card.input_shape()) == held


EXPANDING = """
import torch
from torch import nn

class Expanding(nn.Module):
    # a steerable layer as libraries write them: the filter is a buffer in evaluation mode
    def __init__(self, width=4):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(width, 3, 2))
        self.register_buffer("basis", torch.ones(2, 9), persistent=False)

    def expanded(self):
        return (self.weights @ self.basis).unflatten(2, (3, 3))

    def train(self, mode=True):
        if mode:
            self._buffers.pop("filter", None)
        else:
            self.register_buffer("filter", self.expanded().detach())
        return super().train(mode)

    def forward(self, images):
        return nn.functional.conv2d(images, self.expanded() if self.training else self.filter)

MODEL = Expanding()
"""


@pytest.mark.parametrize("name", ["Expanding", "MODEL"])
def test_filters_that_appear_in_evaluation_mode_are_in_its_state_dict_only(tmp_path, name):
    path = tmp_path / "net.py"
    path.write_text(EXPANDING)
    subject = resolve(f"{path}:{name}", inputs=["3x8x8"])
    model = subject.build("cpu")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    found = measure_files(subject)
    weights, filters, basis = 4 * 24, 4 * 4 * 3 * 9, 4 * 18
    assert (found.state_bytes, found.eval_state_bytes) == (weights, weights + filters)
    assert (found.beside_bytes, found.state_formula_bytes) == (basis, None)
    assert (found.construct_s is None) == (name == "MODEL")
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(tensor, before[key]) for key, tensor in after.items())


def test_filters_that_are_cached_lie_beside_it():
    card = built_in_cards()["e4net"].with_arguments({"width": 2, "reduction": 1, "slices": 1})
    found = measure_files(of_card(card))
    model = card.build("cpu")
    model(torch.zeros(1, 1, 28, 28))
    with torch.no_grad():
        filters = [layer.filters().nbytes for layer in model.modules() if hasattr(layer, "filter_index")]
    tables = sum(one.nbytes for one in {id(one): one for one in model.buffers()}.values())
    kept = sum(model.state_dict()[name].nbytes for name, _ in model.named_buffers() if name in model.state_dict())
    assert found.beside_bytes == sum(filters) + tables - kept
    written = io.BytesIO()
    torch.save(model.state_dict(), written)
    assert found.file_bytes == len(written.getvalue())
    assert found.construct_s > 0 < found.first_forward_s


def test_count_shows_them_beside_the_counts(run):
    (row,) = json.loads(run("count", "z2cnn", "--counter", "dispatch", "--with", "files", "--format", "json").out)
    assert row["files"]["state_bytes"] == row["files"]["state_formula_bytes"] == row["files"]["eval_state_bytes"]
    assert row["totals"]["params"] * 4 < row["files"]["state_bytes"] < row["files"]["file_bytes"]
