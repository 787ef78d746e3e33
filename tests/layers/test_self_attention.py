"""Self-attention against the published order of its sums, and positions that turn."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from e4profile.conventions import ATTENTION_NAIVE, MAC_KINDS, NORM_KINDS
from e4profile.errors import SettingError
from e4profile.groups import Group, as_group
from e4profile.layers.norm import FieldLayerNorm
from e4profile.layers.positions import turned_positions
from e4profile.layers.self_attention import GroupSelfAttention2d, LiftingSelfAttention2d
from e4profile.layers.space import SpatialCrop, SpatialSum
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise


def position_features(network, coordinate):
    inner = network.inner.weight[:, 0] * coordinate + network.inner.bias
    normal = (inner - inner.mean()) / torch.sqrt(inner.var(unbiased=False) + 1e-12)
    normal = normal * network.norm.weight + network.norm.bias
    return network.outer.weight @ (normal * torch.sigmoid(normal)) + network.outer.bias


def published_order(layer, images, order):
    """The output maps and the multiply-accumulates of the einsums in the published order, for C_n.

    A separate account: positions by angles, patches by slicing, values applied before the sum over g.
    """
    rows, columns = images.shape[2:]
    lifting = isinstance(layer, LiftingSelfAttention2d)
    sources, k, heads, channels = 1 if lifting else order, layer.kernel, layer.heads, layer.head_channels
    features = layer.position_features
    maps = images.unflatten(1, (layer.c_in, sources))

    def project(conv):
        mapped = torch.tensordot(conv.weight[:, :, 0, 0], maps, dims=([1], [1])).movedim(0, 1)
        return (mapped + conv.bias[:, None, None, None]).unflatten(1, (heads, channels))

    def patches(projected):
        padded = F.pad(projected, (k // 2,) * 4)
        taps = [padded[..., dy : dy + rows, dx : dx + columns] for dy in range(k) for dx in range(k)]
        return torch.stack(taps, 4).flatten(-2)

    query = project(layer.query).flatten(-2)
    key, value = patches(project(layer.key)), patches(project(layer.value))
    inside = patches(torch.ones(1, 1, 1, 1, rows, columns))[0, 0, 0, 0] > 0
    steps = torch.linspace(-1, 1, k).tolist()
    outputs = []
    with FlopCounterMode(display=False) as counter:
        content = torch.einsum("bhdgx,bhdmpx->bhgmpx", query, key)
        for v in range(order):
            cos, sin = math.cos(2 * math.pi * v / order), math.sin(2 * math.pi * v / order)
            seen = [(cos * y + sin * x, cos * x - sin * y) for y in steps for x in steps]
            by_row = torch.stack([position_features(layer.embedding.rows, y) for y, _ in seen])
            by_column = torch.stack([position_features(layer.embedding.columns, x) for _, x in seen])
            scores = (
                content
                + (
                    torch.einsum("bhdgx,pd->bhgpx", query[:, :, :features], by_row)
                    + torch.einsum("bhdgx,pd->bhgpx", query[:, :, features : 2 * features], by_column)
                )[:, :, :, None]
            )
            if not lifting:
                shift = v if layer.relative_index == "published" else 0
                index = [[(m + shift - g) % order for m in range(order)] for g in range(order)]
                table = layer.group_table[torch.tensor(index)]
                from_table = torch.einsum("bhdgx,gmd->bhgmx", query[:, :, 2 * features :], table)
                scores = scores + from_table[:, :, :, :, None]
            scores = scores / math.sqrt(layer.c_in)
            scores = torch.where(inside, scores, torch.full_like(scores, -math.inf))
            weights = torch.softmax(scores.flatten(3, 4), 3).view_as(scores)
            attended = torch.einsum("bhgmpx,bhdmpx->bhdgx", weights, value).sum(3)
            outputs.append(attended.flatten(1, 2))
    flops = counter.get_flop_counts()["Global"]
    einsums = sum(amount for operator, amount in flops.items() if "bmm" in str(operator)) // 2
    heads_out = torch.stack(outputs, 2)
    mixed = torch.tensordot(layer.output.weight[:, :, 0, 0], heads_out, dims=([1], [1])).movedim(0, 1)
    mixed = mixed + layer.output.bias[:, None, None]
    return mixed.flatten(1, 2).unflatten(-1, (rows, columns)), einsums


LAYERS = [
    (LiftingSelfAttention2d, {"head_channels": 4}),
    (GroupSelfAttention2d, {"head_channels": 7, "relative_index": "published"}),
    (GroupSelfAttention2d, {"head_channels": 7, "relative_index": "equivariant"}),
]


@pytest.mark.parametrize("order", [2, 4, 8])
@pytest.mark.parametrize(("kind", "arguments"), LAYERS)
def test_equals_the_published_order_and_names_its_cost(kind, arguments, order):
    layer = randomise(kind(2, 3, 3, group=f"C{order}", heads=2, **arguments).double(), seed=8)
    torch.manual_seed(9)
    sources = 1 if kind is LiftingSelfAttention2d else order
    images = torch.randn(2, 2 * sources, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        expected, einsums = published_order(layer, images, order)
        torch.testing.assert_close(layer(images), expected, rtol=1e-11, atol=1e-11)
    assert layer.cost(images.shape).operations[ATTENTION_NAIVE] == einsums


SETTINGS = st.fixed_dictionaries({
    "c_in": st.integers(1, 3),
    "c_out": st.integers(1, 3),
    "kernel": st.sampled_from((1, 3, 5)),
    "heads": st.integers(1, 3),
    "position_hidden": st.integers(2, 4),
})  # fmt: skip
SHAPES = st.tuples(st.integers(1, 3), st.integers(2, 4), st.integers(2, 4))


def assert_closed_form_is_what_runs(layer, images):
    cost, counted = layer.cost(images.shape), count_dispatch(layer, (images,))
    compared = (*MAC_KINDS, *NORM_KINDS)
    assert counted.operations == {kind: n for kind, n in cost.operations.items() if kind in compared}
    assert cost.total_params == sum(parameter.numel() for parameter in layer.parameters())


@settings(max_examples=20, deadline=None)
@given(
    sizes=SETTINGS,
    half=st.integers(1, 3),
    group=st.sampled_from(("C1", "C2", "C4", "C8", "D1", "D2", "D4")),
    shape=SHAPES,
)
def test_lifting_closed_form_and_equivariance(sizes, half, group, shape):
    layer = LiftingSelfAttention2d(**sizes, head_channels=2 * half, group=group).double().eval()
    randomise(layer, seed=10)
    images = torch.randn(shape[0], layer.c_in, *shape[1:], dtype=torch.float64)
    assert_closed_form_is_what_runs(layer, images)
    if layer.inexact_on(images.shape) is None:
        assert max(equivariance_errors(layer, images, layer.group, "trivial", "regular")) < 1e-11
    else:
        assert group == "C8"


@settings(max_examples=20, deadline=None)
@given(
    sizes=SETTINGS,
    head_channels=st.integers(3, 8),
    group=st.sampled_from(("C1", "C2", "C4", "D1", "D2", "D4")),
    shape=SHAPES,
    published=st.booleans(),
)
def test_group_closed_form_and_equivariance(sizes, head_channels, group, shape, published):
    layer = GroupSelfAttention2d(
        **sizes, head_channels=head_channels, group=group,
        relative_index="published" if published else "equivariant",
    ).double().eval()  # fmt: skip
    randomise(layer, seed=11)
    order = layer.group.order
    images = torch.randn(shape[0], layer.c_in * order, *shape[1:], dtype=torch.float64)
    assert_closed_form_is_what_runs(layer, images)
    worst = max(equivariance_errors(layer, images, layer.group, "regular", "regular"))
    if published and order > 1:
        assert "relative_index='published'" in layer.inexact_on(images.shape)
    else:
        assert layer.inexact_on(images.shape) is None
        assert worst < 1e-11


def test_only_the_group_table_makes_the_published_index_inexact():
    torch.manual_seed(12)
    layer = GroupSelfAttention2d(2, 2, 3, group="p4", heads=2, head_channels=6, relative_index="published")
    randomise(layer.double(), seed=12)
    images = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    assert max(equivariance_errors(layer, images, as_group("p4"), "regular", "regular")) > 1e-3
    torch.nn.init.zeros_(layer.group_table)
    assert max(equivariance_errors(layer, images, as_group("p4"), "regular", "regular")) < 1e-13


def test_positions_turn_exactly_by_quarters():
    seen = turned_positions(as_group("C4"), 5)
    grid = torch.tensor(seen, dtype=torch.float64).view(4, 5, 5, 2)
    assert grid[0, :, 0, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert grid[0, 0, :, 1].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    for v in range(4):
        # what v sees at p is what the identity sees at v^-1 p: the coordinate maps turned by v
        assert torch.equal(grid[v], torch.rot90(grid[0], v, (0, 1)))


@pytest.mark.parametrize("order", [8, 16])
def test_a_quarter_turn_shifts_the_elements_of_a_finer_group(order):
    grid = torch.tensor(turned_positions(Group(order), 3), dtype=torch.float64).view(order, 3, 3, 2)
    turned = torch.rot90(grid, 1, (1, 2))
    torch.testing.assert_close(grid.roll(-order // 4, 0), turned, rtol=0, atol=1e-15)


@pytest.mark.parametrize("order", [8, 16])
def test_a_finer_group_is_exact_under_its_quarter_turns(order):
    layer = GroupSelfAttention2d(1, 2, 3, group=Group(order), heads=1, head_channels=3).double()
    randomise(layer, seed=13)
    images = torch.randn(1, order, 3, 4, dtype=torch.float64)

    def turn(features):
        fields = features.unflatten(1, (-1, order)).roll(order // 4, 2)
        return torch.rot90(fields, 1, (-2, -1)).flatten(1, 2)

    with torch.no_grad():
        torch.testing.assert_close(layer(turn(images)), turn(layer(images)), rtol=1e-11, atol=1e-11)
    assert f"C{order} rotates by" in layer.inexact_on(images.shape)


def test_positions_run_once_whatever_the_batch():
    layer = LiftingSelfAttention2d(1, 2, 3, group="p4", heads=1, head_channels=2, position_hidden=4)
    one, three = layer.cost((1, 1, 4, 4)), layer.cost((3, 1, 4, 4))
    assert three.macs["position networks"] == one.macs["position networks"] == 2 * 4 * 9 * (4 + 4)
    assert three.elements["position norms"] == one.elements["position norms"] == 2 * 4 * 9 * 4
    assert three.macs["content"] == 3 * one.macs["content"]
    assert three.elements["naive attention"] == 3 * one.elements["naive attention"]


def test_layer_norm_is_joint_over_fields_group_and_space():
    norm = randomise(FieldLayerNorm(3, group="p4").double(), seed=14)
    images = torch.randn(2, 12, 4, 5, dtype=torch.float64)
    flat = images.flatten(1)
    normal = (flat - flat.mean(1, keepdim=True)) / flat.std(1, unbiased=False, keepdim=True)
    fields = normal.view(2, 3, 4, 4, 5) * norm.weight[:, None, None, None] + norm.bias[:, None, None, None]
    torch.testing.assert_close(norm(images), fields.flatten(1, 2), rtol=1e-10, atol=1e-10)


def test_crop_and_sum():
    images = torch.arange(2 * 4 * 4 * 5.0).view(2, 4, 4, 5)
    crop, total = SpatialCrop(1, 1, group="p4"), SpatialSum(1, group="p4")
    assert torch.equal(crop(images), images[:, :, 1:3, 1:4])
    assert torch.equal(total(images)[..., 0, 0], images.sum((2, 3)))
    with pytest.raises(SettingError, match=r"margin \(=-1\)"):
        SpatialCrop(1, -1, group="p4")


def test_the_repair_costs_nothing():
    sizes = {"c_in": 2, "c_out": 2, "kernel": 3, "heads": 2, "head_channels": 5, "group": "p4"}
    costs = [
        GroupSelfAttention2d(**sizes, relative_index=index).cost((2, 8, 5, 5)) for index in ("published", "equivariant")
    ]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        (LiftingSelfAttention2d, {"head_channels": 3}, r"head_channels \(=3\) must be even"),
        (LiftingSelfAttention2d, {"kernel": 4}, r"kernel \(=4\) must be odd"),
        (GroupSelfAttention2d, {"head_channels": 2}, r"head_channels \(=2\) must be at least 3"),
        (GroupSelfAttention2d, {"relative_index": "fixed"}, "relative_index"),
        (GroupSelfAttention2d, {"heads": 0}, r"heads \(=0\)"),
    ],
)
def test_refuses_what_cannot_be(kind, changed, message):
    arguments = {"c_in": 2, "c_out": 2, "kernel": 3, "group": "p4", "heads": 1, "head_channels": 4, **changed}
    with pytest.raises(SettingError, match=message):
        kind(**arguments)
