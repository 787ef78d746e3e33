"""The peak of a layer by closed form equals the measured one exactly, or the layer says why it states none."""

from __future__ import annotations

from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from e4profile.errors import SettingError
from e4profile.groups import GRID_EXACT
from e4profile.layers import (
    LAYERS,
    E4Conv2d,
    GroupConv2d,
    LiftingConv2d,
    PointwiseConv2d,
    SteerableConv2d,
    set_execution,
)
from e4profile.layers.separable import SeparableGroupConv2d
from e4profile.layers.stock import STOCK
from e4profile.layers.storages import Step, Timeline, timeline_rows
from e4profile.ops import generated, irrep_planes, shifted
from e4profile.symbols import B, c_in
from e4profile.witnesses.memory.closed_form import predict_saved
from e4profile.witnesses.memory.fused_workspace import FusedSizes, backward_at_most, forward_at_most
from e4profile.witnesses.memory.layer_peak import (
    LayerPeak,
    measure_layer_peak,
    moments,
    no_peak_reason,
    predict_layer_peak,
)
from e4profile.witnesses.memory.peak import LiveStorages
from e4profile.witnesses.timing.passes import fixed_threads

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
REFUSED = {
    "AttentiveGroupConv2d": "timeline is not stated",
    "AttentiveLiftingConv2d": "timeline is not stated",
    "GroupSelfAttention2d": "a loop over the group's elements",
    "LiftingSelfAttention2d": "a loop over the group's elements",
}


def assert_exact(layer: nn.Module, input_shape: tuple[int, ...], **setting: Any) -> None:
    assert predict_layer_peak(layer, input_shape, **setting) == measure_layer_peak(layer, input_shape, **setting)


def channels_of(layer: nn.Module, fields: int) -> int:
    return fields * (layer.group.order if layer.field_in == "regular" else 1)


def samples_of(name: str, group: Any) -> list[tuple[nn.Module, tuple[int, ...]]]:
    found = []
    for sample in LAYERS[name].samples():
        layer = LAYERS[name](**sample.arguments, group=group)
        fields = sample.channels or sample.arguments.get("c_in") or sample.arguments["fields"]
        found.append((layer, (channels_of(layer, fields), *sample.size)))
    return found


@pytest.mark.parametrize("group", GRID_EXACT, ids=str)
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_registered_layer_states_its_peak_or_says_why_not(name, group):
    # every sample at every dtype and every batch size; which dtype goes with which batch size changes with the sample
    for turn, (layer, input_shape) in enumerate(samples_of(name, group), GRID_EXACT.index(group)):
        reason = no_peak_reason(layer, (2, *input_shape))
        if name in REFUSED or LAYERS[name].peak is None:
            assert reason is not None
            assert REFUSED.get(name, f"{name} states no timeline") in reason
            with pytest.raises(SettingError, match="no closed form of the peak"):
                predict_layer_peak(layer, input_shape)
            continue
        assert reason is None
        for place, (batch_size, granularity_bytes) in enumerate(((1, 512), (2, 1), (5, 1)), turn):
            dtype = DTYPES[place % len(DTYPES)]
            assert_exact(layer, input_shape, dtype=dtype, batch_size=batch_size, granularity_bytes=granularity_bytes)


@pytest.mark.parametrize("name", ["E4Conv2d", "GroupConv2d", "LiftingConv2d", "SeparableGroupConv2d"])
def test_what_is_live_between_the_passes_is_what_the_saved_terms_say(name):
    """Two closed forms that share no term: the input is there before, the output is kept by whoever follows."""
    for layer, input_shape in samples_of(name, GRID_EXACT[2]):
        for dtype in DTYPES:
            peak = predict_layer_peak(layer, input_shape, batch_size=3, dtype=dtype, granularity_bytes=1)
            saved = predict_saved(layer, input_shape, dtype=dtype, device="cpu")
            output = torch.Size(layer.output_shape((3, *input_shape))).numel() * dtype.itemsize
            assert peak.after_forward_bytes == saved.saved_bytes(3) + output


QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZES = st.tuples(st.integers(1, 8), st.integers(1, 8))
SETTINGS = st.fixed_dictionaries(
    {"dtype": st.sampled_from(DTYPES), "batch_size": st.integers(1, 4), "granularity_bytes": st.sampled_from([1, 512])}
)


@QUICK
@given(
    group=st.sampled_from(GRID_EXACT),
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
    workspace=st.booleans(),
    execution=st.sampled_from(["bank", "irreps"]),
    setting=SETTINGS,
)
def test_random_e4_layers(
    group, size, hidden, reduction, slices, per_slice, encoder_norm, workspace, setting, **arguments: Any
):
    # PyTorch refuses the statistics of a single value
    assume(not encoder_norm or setting["batch_size"] * group.order * size[0] * size[1] > 1)
    layer = E4Conv2d(
        hidden * reduction, slices * per_slice, group=group, reduction=reduction, slices=slices,
        encoder_norm=encoder_norm, **arguments,
    )  # fmt: skip
    assert_exact(layer, (hidden * reduction * group.order, *size), workspace=workspace, **setting)


@QUICK
@given(
    build=st.sampled_from([GroupConv2d, LiftingConv2d, SeparableGroupConv2d, PointwiseConv2d, SteerableConv2d]),
    group=st.sampled_from(GRID_EXACT),
    size=SIZES,
    fields=st.integers(1, 3),
    c_out=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(2, 3),
    bias=st.booleans(),
    by_pool=st.booleans(),
    kind=st.sampled_from(["g", "gc"]),
    execution=st.sampled_from(["factored", "naive"]),
    in_irreps=st.booleans(),
    setting=SETTINGS,
)
def test_random_convolutions(
    build, group, size, fields, c_out, kernel, stride, padding, bias, by_pool, kind, execution, in_irreps, setting
):
    arguments: dict[str, Any] = {"stride": stride, "bias": bias}
    if build is not PointwiseConv2d:
        arguments |= {"kernel": kernel, "padding": padding}
    if build is GroupConv2d and by_pool and min(size) + 2 * padding - kernel + 1 >= stride:
        arguments["stride_by"] = "max_pool"
    if build is SeparableGroupConv2d:
        arguments |= {"kind": kind, "execution": execution}
    if build is SteerableConv2d:
        arguments["kernel"] = kernel | 1
    layer = build(fields, c_out, group=group, **arguments)
    set_execution(layer, "irreps" if in_irreps else "bank")
    assert_exact(layer, (channels_of(layer, fields), *size), **setting)


@pytest.mark.parametrize("group", ["C1", "p4"])
@pytest.mark.parametrize("fields", [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("kernel", [1, 5])
def test_where_filters_are_more_than_maps(group, fields, kernel):
    """On a single output position the copies of the filters decide the peak."""
    layers = [build(*fields, kernel, group=group) for build in (GroupConv2d, LiftingConv2d, SteerableConv2d)]
    for kind in ("g", "gc"):
        for execution in ("factored", "naive"):
            layers.append(SeparableGroupConv2d(*fields, kernel, group=group, kind=kind, execution=execution))
    for layer in layers:
        for granularity_bytes in (1, 512):
            size = (channels_of(layer, fields[0]), kernel, kernel)
            assert_exact(layer, size, batch_size=1, granularity_bytes=granularity_bytes)


@pytest.mark.parametrize(
    "layer",
    [
        GroupConv2d(2, 3, 3, group="p4", padding=1, bias=True),
        GroupConv2d(5, 7, 1, group="p4"),  # maps are read where they are
        SteerableConv2d(2, 1, 3, group="C8", padding=1, bias=True),  # two fields of the elements on the grid
    ],
    ids=str,
)
def test_steps_of_the_irrep_basis(monkeypatch, layer):
    """The images of a step, fewer of the last, follow from sizes, dtype and threads."""
    monkeypatch.setattr(irrep_planes, "_RUN", 1 << 13)
    monkeypatch.setattr(irrep_planes, "_BLOCK_BYTES", 1 << 14)
    set_execution(layer, "irreps")
    several = 0
    # rows that are long enough, and images innermost
    for size, dtype in (((9, 17), torch.float32), ((9, 6), torch.bfloat16)):
        input_shape, setting = (channels_of(layer, layer.c_in), *size), {"batch_size": 17, "dtype": dtype}
        assert_exact(layer, input_shape, **setting)
        several += any("last images" in moment.step for moment in moments(layer, input_shape, **setting))
        with fixed_threads(2):
            more = measure_layer_peak(layer, input_shape, device="meta", **setting)
            assert predict_layer_peak(layer, input_shape, **setting) == more
    assert several
    assert_the_same_without_memory(layer, input_shape)


LARGE = {
    "wide": (GroupConv2d(64, 64, 3, group="p4", padding=1, bias=True), (256, 9, 8)),
    "pooled": (GroupConv2d(64, 64, 3, group="p4", padding=1, stride=2, stride_by="max_pool"), (256, 9, 8)),
    "one element": (GroupConv2d(256, 256, 3, group="C1", padding=1, bias=True), (256, 5, 4)),
    "encoder and squeeze": (E4Conv2d(192, 192, 3, group="p4", slices=96), (768, 4, 3)),
    "encoder only": (E4Conv2d(192, 192, 3, group="p4", slices=96, reduction=2), (768, 4, 3)),
    "squeeze only": (E4Conv2d(192, 192, 3, group="p4", slices=96, concatenate="kernel"), (768, 4, 3)),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_filter_banks(name):
    layer, input_shape = LARGE[name]
    assert_exact(layer, input_shape, batch_size=2)


def test_a_bank_much_larger_than_the_maps_is_refused_by_name():
    conv = GroupConv2d(64, 64, 3, group="p4", padding=1)
    with pytest.raises(SettingError, match=r"bank \(=589824 elements\).*\(1, 256, 3, 3\)"):
        predict_layer_peak(conv, (256, 3, 3))
    e4 = E4Conv2d(192, 192, 3, group="p4", slices=96)
    with pytest.raises(SettingError, match="encoder: the filter bank"):
        predict_layer_peak(e4, (768, 2, 2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("budget_bytes", [1 << 10, 1 << 12, 1 << 14, 1 << 21])
def test_blocks_of_the_fused_operator(monkeypatch, budget_bytes, dtype):
    monkeypatch.setattr(shifted, "CPU_BLOCK_BYTES", budget_bytes)
    for batch, order, hidden, slices, channels, kernel, stride in (
        (7, 4, 2, 1, 3, 3, 1),
        (5, 8, 1, 3, 1, 5, 2),
        (3, 2, 3, 2, 2, 1, 3),
        (11, 1, 2, 2, 1, 3, 1),
    ):
        h, w = 5, 6
        h_out, w_out = (h - 1) // stride + 1, (w - 1) // stride + 1
        sizes = FusedSizes(batch, order, hidden, slices, channels, h, w, h_out, w_out, kernel, stride)
        rows = slices * kernel**2
        inputs = [
            torch.zeros(shape, dtype=dtype)
            for shape in (
                (batch, order, hidden, h_out, w_out),
                (order, rows, hidden),
                (order, rows),
                (batch, slices, channels, order, h, w),
            )
        ]
        with LiveStorages(inputs, 1) as forward:
            output = generated.forward(*inputs, kernel, stride)
        gradient = torch.zeros_like(output)
        with LiveStorages([*inputs, gradient], 1) as backward:
            found = generated.backward(gradient, tuple(inputs), kernel, stride, [True] * 4)
        assert sum(forward_at_most(sizes, dtype, 1).values()) == forward.peak_bytes
        assert sum(backward_at_most(sizes, dtype, 1).values()) == backward.peak_bytes
        del found


def test_several_sizes_of_blocks_are_met():
    sizes = FusedSizes(7, 4, 2, 1, 3, 5, 6, 5, 6, 3, 1)
    assert len(set(sizes.blocks(torch.float32))) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shifted, "CPU_BLOCK_BYTES", 1 << 14)
        assert len(set(sizes.blocks(torch.float32))) > 1


def test_a_group_convolution_by_hand():
    conv = GroupConv2d(2, 3, 3, group="p4", padding=1)
    bank, weight, features, output = 2 * 3 * 16 * 9, 2 * 3 * 4 * 9, 2 * 2 * 4 * 5 * 5, 2 * 3 * 4 * 5 * 5
    found = predict_layer_peak(conv, (8, 5, 5), batch_size=2, granularity_bytes=1)
    forward, after = 4 * (bank + output), 4 * (output + features + weight)
    # at the convolution's backward: filters and their gradient, output, gradient of the input
    assert found == LayerPeak(forward, forward, forward + 4 * (features + bank), after)
    rounded = predict_layer_peak(conv, (8, 5, 5), batch_size=2)
    assert rounded.forward_peak_bytes == sum(-(-4 * size // 512) * 512 for size in (bank, output))
    at_peak = max(moments(conv, (8, 5, 5), batch_size=2, granularity_bytes=1), key=lambda m: m.live_bytes)
    assert (at_peak.phase, at_peak.step) == ("backward", "convolve, backward")
    assert at_peak.bytes_by_term == {
        "filters": 4 * bank,
        "output": 4 * output,
        "gradient of input": 4 * features,
        "gradient of filters": 4 * bank,
    }


STOCK_SETTINGS = {
    "linear": (nn.Linear(5, 7), (5,)),
    "linear without bias": (nn.Linear(5, 7, bias=False), (5,)),
    "convolution": (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), (4, 5, 6)),
    "batch norm": (nn.BatchNorm2d(4), (4, 5, 6)),
    "batch norm without pairs": (nn.BatchNorm2d(4, affine=False), (4, 5, 6)),
    "flat batch norm": (nn.BatchNorm1d(5), (5,)),
    "group norm": (nn.GroupNorm(2, 4), (4, 5, 6)),
    "max-pool": (nn.MaxPool2d(2), (4, 5, 6)),
    "average pool": (nn.AvgPool2d(2), (4, 5, 6)),
    "global average": (nn.AdaptiveAvgPool2d(1), (4, 5, 6)),
    "adaptive average": (nn.AdaptiveAvgPool2d(2), (4, 5, 6)),
    "global maximum": (nn.AdaptiveMaxPool2d(1), (4, 5, 6)),
    "relu": (nn.ReLU(), (4, 5, 6)),
    "silu": (nn.SiLU(), (4, 5, 6)),
    "gelu": (nn.GELU(), (4, 5, 6)),
    "elu": (nn.ELU(), (4, 5, 6)),
    "dropout": (nn.Dropout(0.3), (4, 5, 6)),
    "channel dropout": (nn.Dropout2d(0.3), (4, 5, 6)),
    "flatten": (nn.Flatten(), (4, 5, 6)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STOCK_SETTINGS)
def test_stock_layers(name, dtype):
    layer, input_shape = STOCK_SETTINGS[name]
    for granularity_bytes in (1, 512):
        assert_exact(layer, input_shape, dtype=dtype, batch_size=3, granularity_bytes=granularity_bytes)


def test_every_stock_layer_with_a_cost_has_a_timeline():
    stated = {kind for kind, form in STOCK.items() if form.peak is not None}
    assert stated == set(STOCK) - {nn.Identity}
    assert {type(layer) for layer, _ in STOCK_SETTINGS.values()} == stated
    refused = {
        nn.ReLU(inplace=True): "writes to its input",
        nn.Dropout(1.0): "p=1",
        nn.Dropout(0.0): "returns its input itself",
        nn.Identity(): "returns its input itself",
    }
    for layer, word in refused.items():
        with pytest.raises(SettingError, match=word):
            predict_layer_peak(layer, (4, 5, 6))


def test_the_closed_form_reads_no_tensor():
    with torch.device("meta"):
        layer = E4Conv2d(64, 64, 5, group="p4m", slices=8)
    found = predict_layer_peak(layer, (512, 224, 224), batch_size=1 << 16, workspace=True)
    assert found.peak_bytes > 1 << 40


def test_the_workspace_is_part_of_the_peak():
    layer = E4Conv2d(4, 4, 3, group="p4", slices=2)
    without, with_it = (predict_layer_peak(layer, (16, 8, 8), workspace=inside) for inside in (False, True))
    assert with_it.peak_bytes > without.peak_bytes
    assert with_it.after_backward_bytes == without.after_backward_bytes
    with pytest.raises(SettingError, match=r"workspace on device \(=meta\)"):
        measure_layer_peak(layer, (16, 8, 8), workspace=True, device="meta")


@pytest.mark.parametrize("name", ["E4Conv2d", "SeparableGroupConv2d"])
def test_a_run_without_memory_says_the_same(name):
    for layer, input_shape in samples_of(name, GRID_EXACT[2]):
        assert_the_same_without_memory(layer, input_shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "layer",
    [
        E4Conv2d(2, 2, 1, group="p4", stride=2, implementation="reference"),
        E4Conv2d(2, 2, 3, group="p4", stride=3, concatenate="none", implementation="reference"),
        E4Conv2d(2, 2, 3, group="p4", encoder_norm=True),
        nn.BatchNorm2d(8),
        nn.BatchNorm2d(8, affine=False),
        nn.BatchNorm2d(8, affine=False, track_running_stats=False),
        nn.LayerNorm(9),
        nn.Unfold(1, stride=2),
        nn.Sequential(nn.Unfold(1, stride=2), nn.Fold((4, 5), 1)),
    ],
    ids=lambda layer: str(layer).split("\n")[0],
)
def test_a_run_without_memory_has_the_storages_of_the_cpu(layer, dtype):
    assert_the_same_without_memory(layer, (8, 7, 9), dtype=dtype, granularity_bytes=1)


def assert_the_same_without_memory(layer, input_shape, **setting):
    on_cpu = measure_layer_peak(layer, input_shape, batch_size=2, **setting)
    assert measure_layer_peak(layer, input_shape, batch_size=2, device="meta", **setting) == on_cpu


def test_the_measured_layer_is_left_alone():
    layer = E4Conv2d(2, 2, 3, group="p4", encoder_norm=True).eval()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    measure_layer_peak(layer, (8, 4, 4), dtype=torch.bfloat16)
    assert not layer.training
    assert all(p.grad is None and p.dtype == torch.float32 for p in layer.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("name", sorted(name for name, layer in LAYERS.items() if layer.peak is not None))
def test_a_timeline_as_rows_says_all_of_it(name):
    timeline = LAYERS[name].peak
    rows = timeline_rows(timeline)
    made = [(row["pass"], row["step"], row["term"]) for row in rows if row["term"] is not None]
    assert made == [(phase, step.name, term) for phase, step in timeline.steps for term in step.makes]
    assert {row["term"]: row["unit"] for row in rows if row["unit"] != "compute"} == dict(timeline.units)
    assert {freed for row in rows for freed in row["frees"]} <= {term for _, _, term in made}


def test_errors_name_the_values():
    class Other(GroupConv2d):
        """Inherits a timeline that it may not honour."""

    with pytest.raises(SettingError, match="Other states no timeline"):
        predict_layer_peak(Other(1, 2, 3, group="p4"), (4, 4, 4))
    with pytest.raises(SettingError, match="Tanh states no timeline"):
        predict_layer_peak(nn.Tanh(), (4, 4, 4))
    with pytest.raises(SettingError, match="batch_size"):
        predict_layer_peak(GroupConv2d(1, 2, 3, group="p4"), (4, 4, 4), batch_size=0)
    with pytest.raises(SettingError, match=r"step 'two' frees 'b', which no step before it makes"):
        Timeline((Step("one", {"a": B * c_in}),), (Step("two", frees=("b",)),))
    with pytest.raises(SettingError, match="units of"):
        Timeline((Step("one", {"a": sp.S.One}),), (), units={"b": "index"})
