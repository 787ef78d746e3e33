"""Predicted saved bytes equal the measured ones exactly: every stated layer, random settings, whole networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from e4profile.errors import SettingError
from e4profile.groups import GRID_EXACT, Group
from e4profile.layers import (
    LAYERS,
    Chain,
    E4Conv2d,
    GroupConv2d,
    GroupSelfAttention2d,
    LiftingConv2d,
    LiftingSelfAttention2d,
    Residual,
    SpatialCrop,
)
from e4profile.layers.channel_pool import ChannelMaxPool
from e4profile.layers.separable import SeparableGroupConv2d
from e4profile.networks import NETWORKS
from e4profile.witnesses.memory.closed_form import predict_saved
from e4profile.witnesses.memory.saved import saved_for_backward

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def assert_exact(
    model: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype, device: str = "meta", batch: int = 2
) -> None:
    measured = saved_for_backward(model, input_shape, batch_size=batch, dtype=dtype, device=device)
    predicted = predict_saved(model, input_shape, dtype=dtype, device=device)
    paths = {layer.path for layer in predicted.layers}
    rolled_up: dict[str, list[int]] = {path: [0, 0] for path in paths}
    for module in measured.modules:
        path = module.path
        while path not in paths:
            path = path.rpartition(".")[0]
        rolled_up[path][0] += module.constant_bytes
        rolled_up[path][1] += module.per_image_bytes
    stated = {
        layer.path: [sum(layer.constant_bytes.values()), sum(layer.per_image_bytes.values())]
        for layer in predicted.layers
    }
    assert rolled_up == stated
    assert measured.saved_bytes == predicted.saved_bytes(batch)
    assert measured.input_bytes == batch * predicted.input_bytes_per_image


def between_stock_layers(layer: nn.Module, channels: int) -> Chain:
    """The layer's input needs a gradient and is kept by it alone; what follows keeps its own output."""
    return Chain(stem=nn.Conv2d(channels, channels, 1), layer=layer, relu=nn.ReLU())


def channels_of(layer: nn.Module, fields: int, group: Group) -> int:
    return fields * (group.order if layer.field_in == "regular" else 1)


# a group without reflections and one with both; random layers have all
@pytest.mark.parametrize("group", [one for one in GRID_EXACT if one.alias in ("p4", "p4m")], ids=str)
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_registered_layer(name, group):
    # over the groups every sample has several dtypes
    for turn, sample in enumerate(LAYERS[name].samples(), GRID_EXACT.index(group)):
        layer = LAYERS[name](**sample.arguments, group=group)
        fields = sample.channels or sample.arguments.get("c_in") or sample.arguments["fields"]
        channels = channels_of(layer, fields, group)
        if LAYERS[name].saved is None:
            with pytest.raises(SettingError, match=f"layer: .*{name}"):
                predict_saved(between_stock_layers(layer, channels), (channels, *sample.size))
            continue
        dtype = DTYPES[turn % len(DTYPES)]
        assert_exact(between_stock_layers(layer, channels), (channels, *sample.size), dtype)


@pytest.mark.parametrize("arguments", [(8, [4]), (8, [1]), (16, [4, 2, 1], [1, 1, 2]), (8, [1, 2], [1, 1])])
def test_channel_max_pool(arguments):
    for dtype in DTYPES:
        assert_exact(between_stock_layers(ChannelMaxPool(*arguments), arguments[0]), (arguments[0], 4, 5), dtype)


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
GROUPS = st.sampled_from(GRID_EXACT)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(
    group=GROUPS,
    size=SIZES,
    hidden=st.integers(1, 3),
    reduction=st.integers(1, 3),
    slices=st.integers(1, 3),
    per_slice=st.integers(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    concatenate=st.sampled_from(["both", "kernel", "encoder", "none"]),
    encoder_norm=st.booleans(),
    squeeze_affine=st.sampled_from(["field", "channel"]),
    implementation=st.sampled_from(["auto", "reference"]),
    dtype=st.sampled_from(DTYPES),
    device=st.sampled_from(["meta", "cpu"]),
)
def test_random_e4_layers(group, size, hidden, reduction, slices, per_slice, dtype, device, **arguments: Any):
    c_in = hidden * reduction
    layer = E4Conv2d(c_in, slices * per_slice, group=group, reduction=reduction, slices=slices, **arguments)
    channels = c_in * group.order
    assert_exact(between_stock_layers(layer, channels), (channels, *size), dtype, device)


@pytest.mark.parametrize("build", [GroupSelfAttention2d, LiftingSelfAttention2d])
@pytest.mark.parametrize("size", [(4, 5), (1, 1), (1, 5), (5, 1)], ids=str)
def test_self_attention_of_a_single_head_image_or_pixel(build, size):
    # each two of these with every value of the other
    for heads, kernel, batch in ((1, 1, 1), (1, 3, 2), (2, 1, 2), (2, 3, 1)):
        layer = build(2, 3, kernel, group="z2" if heads == kernel else "p4", heads=heads, head_channels=4)
        channels = channels_of(layer, 2, layer.group)
        assert_exact(between_stock_layers(layer, channels), (channels, *size), torch.float32, batch=batch)


def test_unfold_keeps_a_storage_of_its_inputs_size():
    layer = E4Conv2d(2, 2, 1, group="p4", stride=2, implementation="reference")
    for device, unused in (("cpu", 8 * 4 * (7 * 7 - 4 * 4)), ("meta", 8 * 4 * (7 * 7 - 4 * 4))):
        assert_exact(between_stock_layers(layer, 8), (8, 7, 7), torch.bfloat16, device)
        (stated,) = predict_saved(layer, (8, 7, 7), dtype=torch.bfloat16, device=device).layers
        assert stated.per_image_bytes.get("reference columns, unused", 0) == unused


@QUICK
@given(
    build=st.sampled_from([GroupConv2d, LiftingConv2d, SeparableGroupConv2d]),
    group=GROUPS,
    size=SIZES,
    c_in=st.integers(1, 3),
    c_out=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(2, 3),
    bias=st.booleans(),
    by_pool=st.booleans(),
    kind=st.sampled_from(["g", "gc"]),
    execution=st.sampled_from(["factored", "naive"]),
    dtype=st.sampled_from(DTYPES),
)
def test_random_convolutions(
    build, group, size, c_in, c_out, kernel, by_pool, kind, execution, dtype, **arguments: Any
):
    if build is GroupConv2d and by_pool and min(size) + 2 * arguments["padding"] - kernel + 1 >= arguments["stride"]:
        arguments["stride_by"] = "max_pool"
    if build is SeparableGroupConv2d:
        arguments |= {"kind": kind, "execution": execution}
    layer = build(c_in, c_out, kernel, group=group, **arguments)
    channels = channels_of(layer, c_in, group)
    assert_exact(between_stock_layers(layer, channels), (channels, *size), dtype)


STOCK = {
    "group norm": nn.GroupNorm(2, 4),
    "plain batch norm": nn.BatchNorm2d(4, affine=False),
    "grouped convolution": nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "dropout": nn.Dropout(0.3),
    "dropout in place": nn.Dropout(0.3, inplace=True),
    "no dropout": nn.Dropout(0.0),
    "channel dropout": nn.Dropout2d(0.3),
    "identity": nn.Identity(),
    "max-pool": nn.MaxPool2d(2),
    "overlapping max-pool": nn.MaxPool2d(3, stride=2, padding=1),
    "average pool": nn.AvgPool2d(2),
    "global average": nn.AdaptiveAvgPool2d(1),
    "adaptive average": nn.AdaptiveAvgPool2d((2, 1)),
    "global maximum": nn.AdaptiveMaxPool2d(1),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STOCK)
def test_stock_layers(name, dtype, device):
    after_a_sum = Chain(stem=nn.Conv2d(3, 4, 3), layer=STOCK[name], tail=nn.GELU(), flatten=nn.Flatten())
    assert_exact(after_a_sum, (3, 8, 9), dtype, device)
    # before the first parameter nothing is kept
    assert_exact(Chain(layer=STOCK[name], flatten=nn.Flatten()), (4, 8, 9), dtype, device)


def test_a_feature_map_is_counted_once():
    shared = Residual(Chain(conv=nn.Conv2d(4, 4, 3, padding=1), relu=nn.ReLU()), nn.Conv2d(4, 4, 1))
    model = Chain(stem=nn.Conv2d(1, 4, 1), first=nn.ReLU(), block=shared, last=nn.Conv2d(4, 2, 1))
    assert_exact(model, (1, 6, 6), torch.float32, batch=3)
    by_path = {layer.path: layer for layer in predict_saved(model, (1, 6, 6)).layers}
    one_map = 4 * 6 * 6 * 4
    assert by_path["first"].per_image_bytes == {"output": one_map}
    for path in ("block.shortcut", "block.body.conv"):
        assert by_path[path].per_image_bytes == {}
        assert by_path[path].shared_bytes == {"input": one_map}
    # the sum is a new map, whatever the branch keeps of its own
    assert by_path["block.body.relu"].per_image_bytes == {"output": one_map}
    assert by_path["last"].per_image_bytes == {"input": one_map}


NETWORK_SETTINGS = {
    "e4": ("rot_mnist", {"group": "p4", "width": 4, "slices": 2}, (1, 28, 28)),
    "e4 printed": (
        "rot_mnist",
        {"group": "p4m", "width": 4, "reduction": 2, "encoder_norm": True, "squeeze_affine": "channel"},
        (1, 28, 28),
    ),
    "plain": ("separable_mnist", {"group": "z2", "width": 20}, (1, 28, 28)),
    "c": ("separable_mnist", {"group": "z2", "width": 57, "kind": "c"}, (1, 28, 28)),
    "full": ("separable_mnist", {"group": "p4", "width": 10}, (1, 28, 28)),
    "g": ("separable_mnist", {"group": "p4", "width": 10, "kind": "g"}, (1, 28, 28)),
    "gc": ("separable_mnist", {"group": "p4", "width": 10, "kind": "gc"}, (1, 28, 28)),
    "cifar": ("separable_cifar", {"group": "p4m", "widths": [2, 3, 4], "kind": "g", "depth": 2}, (3, 32, 32)),
    "resnet": ("basic_resnet", {"group": "p4", "width": 4}, (3, 32, 32)),
    "steerable": ("steerable_resnet", {"group": "D8", "width": 2, "classes": 10}, (3, 64, 64)),
    "self-attention": (
        "p4_sa",
        {
            "width": 3,
            "heads": 2,
            "head_channels": 4,
            "kernel": 3,
            "hidden": 2,
            "position_hidden": 3,
            "crops": [1, 0, 1],
        },
        (1, 14, 14),
    ),
    "attentive": ("alpha_p4_cnn", {"width": 4}, (1, 28, 28)),
    "implicit": ("basic_cnn", {"width": 32, "pool_sizes": [4, 2, 1], "ratio": [1, 1, 2]}, (1, 28, 28)),
    "e4 resnet": ("basic_resnet", {"group": "p4m", "width": 2, "layer": "e4"}, (3, 32, 32)),
}


IN_FLOAT32 = [(name, torch.float32) for name in NETWORK_SETTINGS]
IN_OTHERS = [(name, dtype) for name in ("e4 printed", "gc", "steerable", "self-attention") for dtype in DTYPES[2:]]


@pytest.mark.parametrize(("name", "dtype"), IN_FLOAT32 + IN_OTHERS)
def test_whole_networks(name, dtype):
    builder, arguments, shape = NETWORK_SETTINGS[name]
    with torch.device("meta"):
        model = NETWORKS[builder](**arguments)
    assert_exact(model, shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["e4", "g"])
def test_networks_on_real_tensors(name, dtype):
    builder, arguments, shape = NETWORK_SETTINGS[name]
    assert_exact(NETWORKS[builder](**arguments), shape, dtype, device="cpu")


def test_a_part_used_twice_keeps_twice():
    relu, conv = nn.ReLU(), GroupConv2d(2, 2, 3, group="p4", padding=1)
    model = Chain(first=conv, one=relu, second=conv, two=relu)
    measured = saved_for_backward(model, (8, 5, 5), batch_size=3)
    predicted = predict_saved(model, (8, 5, 5))
    assert [layer.path for layer in predicted.layers] == ["first", "one", "second", "two"]
    assert measured.saved_bytes == predicted.saved_bytes(3)


def test_what_has_no_table_is_named():
    class Unknown(nn.Module):
        pass

    class Other(GroupConv2d):
        """Inherits a table that it may not honour."""

    with pytest.raises(SettingError, match="tail: Unknown has no closed form"):
        predict_saved(Chain(stem=nn.Conv2d(1, 2, 1), tail=Unknown()), (1, 4, 4))
    with pytest.raises(SettingError, match="layer: Other states no saved terms"):
        predict_saved(Chain(layer=Other(1, 2, 3, group="p4")), (4, 4, 4))
    with pytest.raises(SettingError, match="silu: no closed form for what SiLU"):
        predict_saved(Chain(stem=nn.Conv2d(1, 2, 1), silu=nn.SiLU(inplace=True)), (1, 4, 4))
    cropped = Chain(stem=nn.Conv2d(1, 4, 1), crop=SpatialCrop(1, 1, group="p4"), tail=nn.Conv2d(4, 1, 1))
    with pytest.raises(SettingError, match="tail: keeps the part of a map that crop passes on"):
        predict_saved(cropped, (1, 4, 4))
    with pytest.raises(SettingError, match="p=1"):
        predict_saved(Chain(stem=nn.Conv2d(1, 2, 1), drop=nn.Dropout(1.0)), (1, 4, 4))
