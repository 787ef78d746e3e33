"""Index tables that no state dict holds: they survive the meta device, loading and every move."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from e4profile.layers import LAYERS, EquivariantLayer

CASES = [
    (layer, sample)
    for layer in LAYERS.values()
    if layer.field_in in ("regular", "trivial")
    for sample in list(layer.samples())[:2]
]


def made(layer: type[EquivariantLayer], arguments: dict[str, object]) -> EquivariantLayer:
    try:
        return layer(**arguments, group="p4")
    except TypeError:
        return layer(**arguments)


def tables(layer: nn.Module) -> dict[str, torch.Tensor]:
    saved = layer.state_dict()
    return {name: buffer for name, buffer in layer.named_buffers() if name not in saved}


WITH_TABLES = [case for case in CASES if tables(made(case[0], case[1].arguments))]


@pytest.mark.parametrize(("layer", "sample"), WITH_TABLES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_layer_made_on_the_meta_device_gets_its_tables_back(layer: type[EquivariantLayer], sample: object) -> None:
    arguments = sample.arguments  # type: ignore[attr-defined]
    real = made(layer, arguments)
    wanted = tables(real)
    with torch.device("meta"):
        assigned, emptied = made(layer, arguments), made(layer, arguments)
    state = torch.random.get_rng_state()
    assigned.load_state_dict(real.state_dict(), assign=True)
    emptied.to_empty(device="cpu").load_state_dict(real.state_dict())
    assert torch.equal(torch.random.get_rng_state(), state)
    copies = copy.deepcopy(assigned), pickle.loads(pickle.dumps(emptied)), copy.deepcopy(real).double()
    for one in (assigned, emptied, *copies):
        found = tables(one)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(("layer", "sample"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_layer_can_be_told_to_work_on_channels_last(layer: type[EquivariantLayer], sample: object) -> None:
    one = made(layer, sample.arguments)  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in one.state_dict().items()}
    one.to(memory_format=torch.channels_last)
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())
