"""Networks of escnn and e2cnn, which read values while they run: as built, in either mode, and after a training step.

Both need an older numpy than the rest: ``make test-escnn`` runs this file in an environment of its own.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from e4profile.questions.guard.run import check_directly
from e4profile.subjects.inputs import as_example
from e4profile.witnesses.counts.measure import measure_module
from e4profile.witnesses.counts.training_step import count_training_step
from e4profile.witnesses.equivariance.witness import witness
from e4profile.witnesses.memory.saved import saved_for_backward
from e4profile.witnesses.memory.step import largest_batch, predict

# both warn while they are imported and built
pytestmark = pytest.mark.filterwarnings("ignore")
IMAGE = (1, 13, 13)


def network(library):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = f"{library} is not in this environment: make test-escnn"
        gspaces = pytest.importorskip(f"{library}.gspaces", reason=reason)
        layers = pytest.importorskip(f"{library}.nn", reason=reason)
        space = gspaces.rot2dOnR2(4) if library == "escnn" else gspaces.Rot2dOnR2(4)
        image, fields = (
            layers.FieldType(space, n * [one]) for n, one in ((2, space.trivial_repr), (4, space.regular_repr))
        )
        body = [layers.R2Conv(image, fields, 3, padding=1, bias=False), layers.InnerBatchNorm(fields)]
        body += [layers.ReLU(fields), layers.R2Conv(fields, fields, 3, padding=1)]
        body += [layers.PointwiseAvgPoolAntialiased(fields, sigma=0.66, stride=2), layers.GroupPooling(fields)]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = layers.SequentialModule(*body)
            self.head = nn.Linear(4, 3)

        def forward(self, features):
            found = self.body(layers.GeometricTensor(features.expand(-1, 2, -1, -1), image))
            return self.head(found.tensor.mean((2, 3)))

    torch.manual_seed(0)
    return Network()


def after(how, model):
    if how == "a step":
        model.train()(torch.randn(2, *IMAGE)).sum().backward()
        torch.optim.SGD(model.parameters(), 0.1).step()
    elif how != "as built":
        model.train(how == "train")
    return model


@pytest.mark.parametrize("how", ["as built", "train", "eval", "a step"])
@pytest.mark.parametrize("library", ["escnn", "e2cnn"])
def test_a_network_is_measured_and_as_it_was(library, how):
    model = after(how, network(library))
    state, mode = {name: value.clone() for name, value in model.state_dict().items()}, model.training
    found = measure_module(model, (1, *IMAGE))
    assert found.dispatch.macs > 0
    assert not found.dispatch.uncounted
    assert witness(model, as_example((1, *IMAGE), torch.float32), group="p4", dtype="float32").verdict == "equivariant"
    budgets = {"macs_max": found.dispatch.macs, "equivariance_error_max": 1e-5, "group": "p4"}
    assert check_directly(model, (1, *IMAGE), Path.cwd(), {}, {**budgets, "field_out": "invariant"})[1] == []
    saved = saved_for_backward(model, IMAGE, batch_size=2)
    assert saved.notes[0].startswith("run for real on cpu")
    assert saved.saved_bytes == saved_for_backward(model, IMAGE, batch_size=2, device="cpu").saved_bytes
    assert predict(model, IMAGE, 2).saved_bytes == saved.saved_bytes
    assert largest_batch(model, IMAGE, 1 << 22).batch_size > 1
    assert count_training_step(model, IMAGE, 2).backward > 0
    assert model.training == mode
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
