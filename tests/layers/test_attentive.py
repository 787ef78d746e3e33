"""Attentive convolutions against the definition spelled out in loops, and against what runs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from e4profile.errors import SettingError
from e4profile.groups import as_group
from e4profile.layers.attentive import AttentiveGroupConv2d, AttentiveLiftingConv2d
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise


def turned(weight, s):
    return torch.rot90(weight, s, (-2, -1))


def gated_sum(layer, responses, gate_index, measure):
    """Steps 2 to 4 for one image: responses[o][s][i][t] is one map, gate_index(s, t) the gate's weights."""
    c_out, order, c_in = len(responses), len(responses[0]), len(responses[0][0])
    sources = len(responses[0][0][0])
    outputs = []
    for o in range(c_out):
        for s in range(order):
            total = 0.0
            for t in range(sources):
                maps = torch.stack([responses[o][s][i][t] for i in range(c_in)])
                j = gate_index(s, t)
                squeeze, excite = layer.channel_squeeze[o, :, :, j], layer.channel_excite[o, :, :, j]
                logits = sum(
                    excite @ F.relu(squeeze @ statistic)
                    for statistic in (maps.mean((1, 2)), maps.flatten(1).max(1).values)
                )
                gated = torch.sigmoid(logits)[:, None, None] * maps
                planes = torch.stack([gated.mean(0), gated.max(0).values])
                kernel = turned(layer.spatial_gate[o, :, j], s)
                spatial = F.conv2d(planes[None], kernel[None], padding=layer.gate_kernel // 2)[0]
                total = total + (maps - torch.sigmoid(spatial) * gated).sum(0)
            outputs.append(measure * total)
    return torch.stack(outputs)


def by_definition(layer, image):
    """One image (channels, h, w) through a layer of the group C4."""
    lifting = isinstance(layer, AttentiveLiftingConv2d)
    sources = 1 if lifting else 4
    fields = image.unflatten(0, (layer.c_in, sources))

    def gate_index(s, t):
        return 0 if lifting else (t - s) % 4

    def response(o, s, i, t):
        kernel = turned(layer.weight[o, i, gate_index(s, t)], s)
        return F.conv2d(fields[i, t][None, None], kernel[None, None], padding=layer.padding)[0, 0]

    responses = [
        [[[response(o, s, i, t) for t in range(sources)] for i in range(layer.c_in)] for s in range(4)]
        for o in range(layer.c_out)
    ]
    return gated_sum(layer, responses, gate_index, 1.0 if lifting else 2 * math.pi / 4)


@pytest.mark.parametrize("kind", [AttentiveLiftingConv2d, AttentiveGroupConv2d])
@pytest.mark.parametrize(
    "sizes",
    [
        {"c_in": 2, "c_out": 3, "kernel": 3, "gate_kernel": 5, "reduction": 2},
        {"c_in": 4, "c_out": 2, "kernel": 2, "gate_kernel": 3, "reduction": 2, "padding": 1},
        {"c_in": 1, "c_out": 2, "kernel": 3, "gate_kernel": 7},
    ],
)
def test_equals_the_definition(kind, sizes):
    layer = randomise(kind(**sizes, group="p4").double(), seed=5)
    torch.manual_seed(6)
    channels = layer.c_in * (1 if kind is AttentiveLiftingConv2d else 4)
    images = torch.randn(2, channels, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([by_definition(layer, image) for image in images])
        torch.testing.assert_close(layer(images), expected, rtol=1e-12, atol=1e-12)


SETTINGS = st.fixed_dictionaries({
    "hidden": st.integers(1, 2),
    "reduction": st.integers(1, 3),
    "c_out": st.integers(1, 3),
    "kernel": st.integers(1, 4),
    "padding": st.integers(0, 1),
    "gate_kernel": st.sampled_from((1, 3, 5)),
})  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from((AttentiveLiftingConv2d, AttentiveGroupConv2d)),
    sizes=SETTINGS,
    group=st.sampled_from(("C1", "C2", "C4", "D1", "D2", "D4")),
    shape=st.tuples(st.integers(1, 2), st.integers(4, 6), st.integers(4, 6)),
)
def test_closed_form_is_what_runs_and_turning_commutes(kind, sizes, group, shape):
    sizes = dict(sizes)
    sizes["c_in"] = sizes.pop("hidden") * sizes["reduction"]
    layer = randomise(kind(**sizes, group=group).double().eval(), seed=7)
    sources = 1 if kind is AttentiveLiftingConv2d else layer.group.order
    batch, rows, columns = shape
    images = torch.randn(batch, layer.c_in * sources, rows, columns, dtype=torch.float64)
    cost, counted = layer.cost(images.shape), count_dispatch(layer, (images,))
    assert counted.operations == cost.operations
    assert cost.total_params == sum(parameter.numel() for parameter in layer.parameters())
    errors = equivariance_errors(layer, images, as_group(group), layer.field_in, "regular")
    assert max(errors) < 1e-11


def test_each_term_is_its_own_operator():
    layer = AttentiveGroupConv2d(4, 3, 3, group="p4", reduction=2, gate_kernel=5)
    images = torch.randn(2, 16, 7, 7)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(images)
    flops = {str(operator): amount for operator, amount in counter.get_flop_counts()["Global"].items()}
    macs = layer.cost(images.shape).macs
    assert flops == {
        "aten.convolution": 2 * (macs["convolution"] + macs["spatial gate"]),
        "aten.bmm": 2 * macs["channel gate"],
    }
    # 2 statistics, 2 layers of 4 x 2 weights, 3 * 4 * 4 gates, 2 images
    assert macs["channel gate"] == 2 * 2 * 4 * 2 * 3 * 16 * 2


def test_gates_keep_part_of_every_response():
    """With gates held at one half by zero weights the layer is 3/4 of a group convolution times 2 pi / 4."""
    layer = AttentiveGroupConv2d(2, 3, 3, group="p4", gate_kernel=3).double()
    for gate in (layer.channel_squeeze, layer.channel_excite, layer.spatial_gate):
        torch.nn.init.zeros_(gate)
    images = torch.randn(1, 8, 5, 5, dtype=torch.float64)
    with torch.no_grad():

        def filters(i, t):
            kernels = [turned(layer.weight[o, i, (t - s) % 4], s) for o in range(3) for s in range(4)]
            return torch.stack(kernels)[:, None]

        plain = sum(F.conv2d(images[:, i * 4 + t, None], filters(i, t)) for i in range(2) for t in range(4))
        torch.testing.assert_close(layer(images), 0.75 * math.pi / 2 * plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reduction": 3}, r"reduction \(=3\) must divide c_in \(=4\)"),
        ({"gate_kernel": 4}, r"gate_kernel \(=4\) must be odd"),
        ({"padding": -1}, r"padding \(=-1\)"),
        ({"c_out": 0}, r"c_out \(=0\)"),
        ({"group": "C8"}, "45 degrees"),
    ],
)
def test_refuses_what_cannot_be(changed, message):
    arguments = {"c_in": 4, "c_out": 2, "kernel": 3, "group": "p4", **changed}
    with pytest.raises(SettingError, match=message):
        AttentiveGroupConv2d(**arguments)


def test_refuses_maps_smaller_than_the_kernel():
    with pytest.raises(SettingError, match=r"kernel \(=4\) is larger"):
        AttentiveGroupConv2d(1, 1, 4, group="p4").cost((1, 4, 3, 3))
