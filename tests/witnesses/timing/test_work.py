"""The operations of a forward pass, from the closed form alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from e4profile.conventions import MAC_KINDS
from e4profile.errors import SettingError
from e4profile.layers import Chain, E4Conv2d, GroupConv2d, operators
from e4profile.layers.drawn import drawing
from e4profile.layers.many import Columns, values_of
from e4profile.networks.cards import find_card
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.timing.references import REFERENCES
from e4profile.witnesses.timing.work import NAMED_TERMS, forward_operations

CARDS = (
    "p4-cnn", "alpha-p4-cnn", "e4net", "gc-p4cnn", "g-p4m-resnet44", "p4m-e4r18", "r18", "c8resnet18", "resnet50",
    "implicit-vgg-r4", "basiccnn-r4", "p4-sa",
)  # fmt: skip


def test_every_mac_of_a_card_belongs_to_a_kind_that_a_calibration_times() -> None:
    timed = set()
    with torch.device("meta"):
        for one in REFERENCES:
            timed |= {operation.kind for operation in forward_operations(one.build(), (one.batch, *one.image))}
    assert timed == set(operators.OPERATORS)
    for name in CARDS:
        for execution in ("bank", "irreps"):
            card = find_card(name).with_arguments({"execution": execution})
            model, shape = card.build(), card.input_shape(2)
            found = forward_operations(model, shape)
            counted = count_closed_form(model, shape).operations
            assert sum(one.macs for one in found) == sum(counted.get(kind, 0) for kind in MAC_KINDS), name
            assert {one.kind for one in found} <= timed, name
            assert {one.term for one in found} <= set(NAMED_TERMS), name
            assert all(one.bytes >= 0 and one.calls > 0 for one in found), name
            assert all(one.bytes for one in found if one.kind != operators.VIEW), name


def test_an_e4_layer_by_hand() -> None:
    layer = E4Conv2d(4, 6, 3, group="p4", reduction=2, slices=3, stride=2)
    *parts, between = forward_operations(layer, (5, 16, 8, 8), bytes_per_element=2)
    found = {one.kind + (" 2" if one.macs == 5 * 4 * 2 * 16 * 16 else ""): one for one in parts}
    # small maps are convolved image by image: (c A) of input and output, then the filters (c A)^2
    assert found["small 1x1 convolution"].bytes == 2 * 5 * ((16 + 24) * 64 + 16 * 24)
    assert found["small 1x1 convolution"].calls == 5
    assert found["small 1x1 convolution 2"].bytes == 2 * 5 * ((16 + 8) * 16 + 16 * 8)
    assert found["generator"].bytes == 2 * 4 * (5 * (2 + 27) * 16 + 27 * 2)
    assert found["aggregation"].bytes == 2 * 5 * 4 * (6 * 64 + (6 + 27) * 16)
    assert found["aggregation"].macs == 5 * 24 * 9 * 16
    assert found["group norm"].bytes == 2 * 2 * 5 * 8 * 16
    assert (between.kind, between.calls, between.bytes) == ("between layers", 1, 2 * 5 * 16 * 64)


@pytest.mark.parametrize(
    ("layer", "shape", "kinds"),
    [
        (nn.Conv2d(8, 8, 3), (1, 8, 50, 50), ["small convolution"]),
        (nn.Conv2d(8, 8, 3), (1, 8, 60, 60), ["k x k convolution"]),
        (nn.Conv2d(8, 8, 5), (1, 8, 9, 9), ["k x k convolution"]),
        (nn.Conv2d(8, 8, 3, 2), (1, 8, 9, 9), ["strided convolution"]),
        (nn.Conv2d(8, 8, 1), (8, 8, 60, 60), ["1x1 convolution"]),
        (nn.Conv2d(8, 8, 3, groups=4), (1, 8, 9, 9), ["grouped convolution"]),
        (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 9, 9), ["depthwise convolution"]),
        (nn.Linear(8, 3), (2, 8), ["matrix product"]),
        (nn.Flatten(), (2, 8, 3, 3), ["view"]),
        (nn.GELU(), (2, 8, 3, 3), ["smooth activation"]),
        (nn.AdaptiveAvgPool2d(1), (2, 8, 3, 3), ["reduction"]),
        (
            GroupConv2d(2, 3, 3, group="p4", padding=1, stride=2, stride_by="max_pool", execution="irreps"),
            (1, 8, 6, 6),
            ["irrep products", "irrep transform", "irrep transform", "kept filters", "max-pool"],
        ),
    ],
)  # fmt: skip
def test_kinds(layer: nn.Module, shape: tuple[int, ...], kinds: list[str]) -> None:
    *found, _ = forward_operations(layer, shape)
    assert [one.kind for one in found] == kinds


def test_what_has_no_closed_form_is_refused() -> None:
    with pytest.raises(SettingError, match="lstm: LSTM has no closed form"):
        forward_operations(Chain(lstm=nn.LSTM(3, 3)), (1, 3))


def test_operations_of_many_settings_are_those_of_each() -> None:
    widths = np.array([16, 24, 32])
    card = find_card("e4net")
    with drawing():
        numbers = Columns({"width": widths})
        drawn = forward_operations(card.with_arguments(numbers.given).build(), card.input_shape(2))
    arrays = [[values_of(size, len(widths)) for size in (one.macs, one.bytes, one.calls)] for one in drawn]
    for place, width in enumerate(widths):
        built = forward_operations(card.with_arguments({"width": int(width)}).build(), card.input_shape(2))
        assert [(one.kind, one.macs, one.bytes, one.calls) for one in built] == [
            (one.kind, *(int(sizes[place]) for sizes in of_one)) for one, of_one in zip(drawn, arrays, strict=True)
        ]
