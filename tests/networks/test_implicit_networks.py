"""The plain networks of the implicit-equivariance paper: sizes, taps, closed form against what runs."""

from __future__ import annotations

from decimal import Decimal

import pytest
import torch
from torch import nn

from e4profile.errors import SettingError
from e4profile.layers import trace
from e4profile.layers.channel_pool import ChannelMaxPool, channel_max_pool, channel_parts
from e4profile.networks import NETWORKS
from e4profile.networks.cards import Card, all_cards
from e4profile.networks.implicit import basic_cnn, implicit_resnet18, implicit_vgg
from e4profile.questions.published.implicit import NETWORKS as IMPLICIT
from e4profile.witnesses.counts.base import differences
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.dispatch import count_dispatch

CARDS = [card for card in all_cards().values() if card.network in IMPLICIT]

# millions of parameters and giga-MACs of an independent computation, as rounded there
REFERENCE = {
    "basiccnn-r4": ("10.88", "0.879"),
    "basiccnn-r4-2-1": ("5.16", "0.416"),
    "implicit-resnet18-r4": ("50.44", "14.43"),
    "implicit-resnet18-r8": ("100.48", "28.75"),
    "implicit-resnet18-r4-reflection": ("100.48", "28.75"),
    "implicit-resnet18-r8-4-2-1": ("45.38", "12.98"),
    "implicit-resnet18-r4-2-1": ("21.14", "6.045"),
    "implicit-vgg-r4": ("38.57", "2.541"),
    "implicit-vgg-r8": ("73.93", "4.892"),
    "implicit-vgg-r4-reflection": ("73.93", "4.892"),
    "implicit-vgg-r8-4-2-1": ("30.94", "2.040"),
    "implicit-vgg-r4-2-1": ("18.45", "1.204"),
}


def _rounded(exact: int, digits: str, exponent: int) -> str:
    return str((Decimal(exact) / 10**exponent).quantize(Decimal(digits)))


def test_every_variant_has_a_card() -> None:
    assert {card.name for card in CARDS} == set(REFERENCE)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_full_size_parameters_and_inference_macs(card: Card) -> None:
    model = card.build()
    count = count_closed_form(model, card.input_shape())
    params, macs = REFERENCE[card.name]
    assert _rounded(count.params, params, 6) == params
    assert _rounded(count.macs, macs, 9) == macs
    assert count.params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_closed_form_is_what_runs_layer_by_layer(card: Card) -> None:
    model = card.build()
    shape = card.input_shape(2)
    measured = count_dispatch(model, [torch.empty(shape, device="meta")])
    assert differences(count_closed_form(model, shape), measured) == []
    assert not measured.uncounted


@pytest.mark.parametrize(
    ("card", "taps"),
    [(card, {"basic_cnn": 6, "implicit_resnet18": 4, "implicit_vgg": 8}[card.network]) for card in CARDS],
    ids=lambda value: getattr(value, "name", None),
)
def test_taps_are_modules_whose_maps_the_pool_fits(card: Card, taps: int) -> None:
    model = card.build()
    assert len(set(model.taps)) == taps
    paths = dict(model.named_modules())
    for tap in model.taps:
        module = paths[tap]
        outputs: list[torch.Size] = []
        with module.register_forward_hook(lambda _, __, output, outputs=outputs: outputs.append(output.shape)):
            model(torch.empty(card.input_shape(), device="meta"))
        ((_, channels, rows, columns),) = outputs
        assert rows == columns
        assert channel_parts(channels, model.pool_sizes, model.ratio)


@pytest.mark.parametrize(
    ("shared", "whole"),
    [
        ("basiccnn-r4-2-1", "basiccnn-r4"),
        ("implicit-resnet18-r8-4-2-1", "implicit-resnet18-r8"),
        ("implicit-resnet18-r4-2-1", "implicit-resnet18-r4"),
        ("implicit-vgg-r8-4-2-1", "implicit-vgg-r8"),
        ("implicit-vgg-r4-2-1", "implicit-vgg-r4"),
    ],
)
def test_shared_out_channels_are_over_30_percent_fewer(shared: str, whole: str) -> None:
    few, many = all_cards()[shared].arguments["width"], all_cards()[whole].arguments["width"]
    percent = Decimal(100 * (many - few)) / many
    assert percent > 30
    assert any(f"{few} instead of {many} are {percent:.1f}% fewer" in note for note in all_cards()[shared].notes)


def test_map_sizes_of_basic_cnn() -> None:
    with torch.device("meta"):
        model = basic_cnn(width=8)
    _, steps = trace(model, (1, 1, 28, 28))
    sizes = [step.input_shape[2] for step in steps if isinstance(step.module, nn.Conv2d)]
    assert sizes == [28, 24, 12, 12, 6, 6]
    assert dict(model.named_modules())["classifier.hidden"].in_features == 8  # 4 * 8 / 4


def test_the_second_convolution_strides_and_the_shortcut_starts_after_the_activation() -> None:
    with torch.device("meta"):
        model = implicit_resnet18(width=8)
    modules = dict(model.named_modules())
    assert modules["stage2.block1.residual.body.conv1"].stride == (1, 1)
    assert modules["stage2.block1.residual.body.conv2"].stride == (2, 2)
    assert modules["stage2.block1.residual.shortcut"].kernel_size == (1, 1)
    assert modules["stage2.block2"].shortcut is None
    assert modules["stage1.block1"].shortcut is None


@pytest.mark.parametrize("name", sorted(IMPLICIT))
def test_networks_run_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name](width=16, mode="R8")
    channels, size = (1, 28) if name == "basic_cnn" else (3, 33)
    scores = model(torch.randn(2, channels, size, size))
    scores.square().sum().backward()
    assert scores.shape == (2, 10 if name == "basic_cnn" else 100)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_channel_pool_takes_the_maximum_of_consecutive_channels() -> None:
    features = torch.arange(22.0).reshape(1, 22, 1, 1)
    pooled = channel_max_pool(features, (4, 2, 1), (8, 2, 1)).flatten().tolist()
    assert pooled == [3, 7, 11, 15, 17, 19, 20, 21]
    assert channel_max_pool(features[:, :8], (4,)).flatten().tolist() == [3, 7]
    layer = ChannelMaxPool(22, (4, 2, 1), (8, 2, 1))
    assert layer(features).shape == layer.output_shape((1, 22, 1, 1)) == (1, 8, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 9}, r"width \(=9\) must be even"),
        ({"width": 8, "mode": "R6"}, r"mode \(='R6'\)"),
        ({"width": 8, "pool_sizes": (3,)}, r"pool size \(=3\) must divide its channels \(=8 of 8\)"),
        ({"width": 8, "pool_sizes": (4, 2)}, "one pool size"),
        ({"width": 8, "pool_sizes": (4, 2), "ratio": (2, 1)}, r"ratio's sum \(=3\) must divide the channels \(=8\)"),
        ({"width": 8, "ratio": (8, 2, 1)}, "each share needs one pool size"),
        ({"width": 8, "mode": "R8"}, r"pool size \(=8\) must divide its channels \(=12 of 12\)"),
        ({"width": 0}, r"width \(=0\) must be a positive integer"),
    ],
)
def test_errors_name_the_values(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        basic_cnn(**arguments)


def test_reflection_pools_over_eight() -> None:
    with torch.device("meta"):
        assert implicit_vgg(width=8, reflection=True).pool_sizes == (8,)
        assert implicit_vgg(width=8).pool_sizes == (4,)
