"""MACs of a training step: the closed form against PyTorch's counter, and where that counter is wrong."""

from __future__ import annotations

from decimal import Decimal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from e4profile.errors import SettingError
from e4profile.layers import Chain, E4Conv2d, GroupConv2d, LiftingConv2d, Residual
from e4profile.networks import NETWORKS
from e4profile.networks.cards import all_cards
from e4profile.subjects.inputs import Example
from e4profile.witnesses.counts.closed_form import count_closed_form, training_step_macs
from e4profile.witnesses.counts.training_step import count_training_step, measured_training_macs

# giga-MACs of forward and backward of two images, of an independent computation, as rounded there
REFERENCE = {
    "basiccnn-r4": "5.26",
    "basiccnn-r4-2-1": "2.49",
    "implicit-resnet18-r4": "86.5",
    "implicit-resnet18-r8": "172.5",
    "implicit-resnet18-r4-reflection": "172.5",
    "implicit-resnet18-r8-4-2-1": "77.9",
    "implicit-resnet18-r4-2-1": "36.2",
    "implicit-vgg-r4": "15.2",
    "implicit-vgg-r8": "29.3",
    "implicit-vgg-r4-reflection": "29.3",
    "implicit-vgg-r8-4-2-1": "12.2",
    "implicit-vgg-r4-2-1": "7.2",
}

WITHOUT_GROUPED_CONVOLUTIONS = [
    ("basic_resnet", {"group": "z2", "width": 4}, (2, 3, 16, 16)),
    ("basic_resnet", {"group": "p4", "width": 2}, (3, 3, 16, 16)),
    ("basic_resnet", {"group": "p4m", "width": 1, "stride_by": "conv"}, (1, 3, 17, 17)),
    ("rot_mnist", {"group": "p4", "width": 3, "layer": "group"}, (2, 1, 28, 28)),
    ("p4_cnn", {"width": 2}, (2, 1, 28, 28)),
    ("p4_sa", {"width": 2, "heads": 2, "head_channels": 4}, (2, 1, 28, 28)),
    ("basic_cnn", {"width": 8}, (2, 1, 28, 28)),
    ("implicit_resnet18", {"width": 8}, (2, 3, 17, 17)),
    ("implicit_vgg", {"width": 8}, (2, 3, 32, 32)),
]


def measured(model: nn.Module, shape: tuple[int, ...]) -> int:
    images = torch.empty(shape, device="meta")

    def loss() -> Tensor:
        return model(images).square().mean()

    return measured_training_macs(model, loss)


@pytest.mark.parametrize(("name", "arguments", "shape"), WITHOUT_GROUPED_CONVOLUTIONS)
def test_closed_form_is_what_runs(name: str, arguments: dict[str, object], shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = NETWORKS[name](**arguments)
    cost = training_step_macs(model, shape)
    assert cost.total == measured(model, shape)
    assert cost.forward == count_closed_form(model, shape).macs


@pytest.mark.parametrize("name", REFERENCE)
def test_steps_of_the_implicitly_equivariant_networks(name: str) -> None:
    card = all_cards()[name]
    cost = training_step_macs(card.build(), card.input_shape(), images_per_sample=2)
    printed = REFERENCE[name]
    assert str((Decimal(cost.total) / 10**9).quantize(Decimal(printed))) == printed
    assert cost.images == 2


@given(
    c_in=st.integers(1, 4), c_mid=st.integers(1, 4), kernel=st.integers(1, 3), batch=st.integers(1, 3),
    stride=st.integers(1, 2), size=st.integers(5, 8),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_plain_stacks(c_in: int, c_mid: int, kernel: int, batch: int, stride: int, size: int) -> None:
    with torch.device("meta"):
        model = Chain(
            first=nn.Conv2d(c_in, c_mid, kernel, stride),
            residual=Residual(Chain(conv=nn.Conv2d(c_mid, c_mid, 3, padding=1), relu=nn.ReLU())),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(c_mid, 3),
        )
    shape = (batch, c_in, size, size)
    cost = training_step_macs(model, shape)
    forward = count_closed_form(model, shape).macs
    first = cost.layers[0]
    assert first.backward_input == 0
    assert first.backward_weight == first.forward
    assert cost.backward == 2 * forward - first.forward
    assert cost.total == measured(model, shape)


def test_first_layers_are_those_that_no_parameter_precedes() -> None:
    """Both branches of a residual that comes first read the image; what follows reads features."""
    with torch.device("meta"):
        model = Chain(
            relu=nn.ReLU(),
            residual=Residual(
                Chain(a=nn.Conv2d(2, 3, 3, padding=1), b=nn.Conv2d(3, 3, 3, padding=1)), nn.Conv2d(2, 3, 1)
            ),
            last=nn.Conv2d(3, 1, 1),
        )
    shape = (2, 2, 6, 6)
    cost = training_step_macs(model, shape)
    inputs = {layer.path: layer.backward_input for layer in cost.layers}
    assert inputs["residual.body.a"] == inputs["residual.shortcut"] == 0
    assert inputs["residual.body.b"] == 2 * 9 * 9 * 36
    assert inputs["last"] == 2 * 3 * 36
    assert cost.total == measured(model, shape)


def test_a_norm_before_the_first_convolution_needs_the_gradient_of_its_output() -> None:
    with torch.device("meta"):
        model = Chain(norm=nn.BatchNorm2d(2), conv=nn.Conv2d(2, 3, 3))
    cost = training_step_macs(model, (2, 2, 6, 6))
    assert cost.layers[0].backward_input == cost.layers[0].forward
    assert cost.total == measured(model, (2, 2, 6, 6))


def test_a_shortcut_with_weights_around_a_body_without() -> None:
    with torch.device("meta"):
        model = Chain(residual=Residual(nn.MaxPool2d(3, 1, 1), nn.Conv2d(2, 2, 1)), conv=nn.Conv2d(2, 1, 3))
    cost = training_step_macs(model, (1, 2, 6, 6))
    assert [layer.backward_input > 0 for layer in cost.layers] == [False, True]
    assert cost.total == measured(model, (1, 2, 6, 6))


def test_an_identity_shortcut_around_the_first_layer() -> None:
    with torch.device("meta"):
        model = Chain(residual=Residual(nn.Conv2d(2, 2, 3, padding=1)), conv=nn.Conv2d(2, 1, 3))
    cost = training_step_macs(model, (1, 2, 6, 6))
    assert [layer.backward_input > 0 for layer in cost.layers] == [False, True]
    assert cost.total == measured(model, (1, 2, 6, 6))


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_pytorch_overcounts_the_backward_of_grouped_convolutions(groups: int) -> None:
    """By (1 + g) / 2 at torch 2.13. When this fails, the counter has been mended: drop the caveat."""
    with torch.device("meta"):
        model = Chain(first=nn.Conv2d(3, 8, 1), grouped=nn.Conv2d(8, 16, 3, groups=groups, bias=False))
    shape = (2, 3, 7, 7)
    cost = training_step_macs(model, shape)
    grouped = next(layer for layer in cost.layers if layer.path == "grouped")
    assert grouped.backward == 2 * grouped.forward
    excess = measured(model, shape) - cost.total
    assert 2 * (excess + grouped.backward) == (1 + groups) * grouped.backward


def test_the_true_backward_of_a_grouped_convolution_is_that_of_its_groups() -> None:
    """Run as separate plain convolutions, where PyTorch's counter is right."""
    shape, groups = (2, 3, 7, 7), 4
    with torch.device("meta"):
        whole = Chain(first=nn.Conv2d(3, 8, 1), grouped=nn.Conv2d(8, 16, 3, groups=groups, bias=False))

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 1)
            self.parts = nn.ModuleList(nn.Conv2d(2, 4, 3, bias=False) for _ in range(groups))

        def forward(self, images: Tensor) -> Tensor:
            chunks = self.first(images).chunk(groups, 1)
            return torch.cat([part(chunk) for part, chunk in zip(self.parts, chunks, strict=True)], 1)

    with torch.device("meta"):
        split = Split()
    assert training_step_macs(whole, shape).total == measured(split, shape)


def test_aggregation_costs_twice_its_forward_in_backward() -> None:
    with torch.device("meta"):
        model = Chain(lifting=LiftingConv2d(1, 4, 3, group="p4", padding=1), e4=E4Conv2d(4, 4, 3, group="p4", slices=2))
    cost = training_step_macs(model, (2, 1, 8, 8))
    lifting, e4 = cost.layers
    aggregation = 2 * 4 * 4 * 9 * 64
    assert e4.backward == 2 * e4.forward
    assert e4.forward - e4.backward_weight == aggregation
    assert e4.backward_input - e4.backward_weight == 2 * aggregation
    assert lifting.backward == lifting.forward


def test_an_e4_layer_that_comes_first_needs_no_gradient_of_its_input() -> None:
    with torch.device("meta"):
        layer = E4Conv2d(2, 4, 3, group="p4", slices=2)
    shape = (1, 8, 6, 6)
    cost = layer.cost(shape)
    (first,) = training_step_macs(Chain(e4=layer), shape).layers
    assert 2 * first.forward - first.backward == cost.macs["encoder"] + cost.macs["squeeze"]


def test_images_per_sample_scale_what_is_done_per_image() -> None:
    with torch.device("meta"):
        model = NETWORKS["basic_resnet"](group="p4", width=1)
    one, two = training_step_macs(model, (3, 3, 8, 8)), training_step_macs(model, (3, 3, 8, 8), 2)
    assert two.total == 2 * one.total
    assert (one.images, two.images) == (3, 6)
    with pytest.raises(SettingError, match=r"images_per_sample \(=0\)"):
        training_step_macs(model, (3, 3, 8, 8), 0)


def test_a_part_without_closed_form_is_named() -> None:
    with pytest.raises(SettingError, match=r"head: LSTM has no closed form"):
        training_step_macs(Chain(conv=nn.Conv2d(1, 1, 1), head=nn.LSTM(3, 3)), (1, 1, 4, 4))


def test_measuring_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Chain(conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), drop=nn.Dropout(0.5)).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images, random_state = torch.randn(2, 1, 5, 5), torch.random.get_rng_state()
    seen: list[bool] = []

    def loss() -> Tensor:
        seen.append(model.training)
        return model(images).sum()

    def broken() -> Tensor:
        loss()
        raise RuntimeError("broken loss")

    assert measured_training_macs(model, loss) == 2 * 2 * (9 * 2 * 9)
    with monkeypatch.context() as patch:
        patch.setitem(flop_registry, torch.ops.aten.convolution, lambda *_, **__: 7)
        with pytest.raises(SettingError, match=r"aten.convolution: 7 FLOPs are odd"):
            measured_training_macs(model, loss)
    with pytest.raises(RuntimeError, match="broken loss"):
        measured_training_macs(model, broken)
    assert seen == [True, True, True]
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(random_state, torch.random.get_rng_state())


def test_group_convolutions_after_the_first_cost_three_times_their_forward() -> None:
    with torch.device("meta"):
        model = Chain(lifting=LiftingConv2d(1, 2, 3, group="p4m"), conv=GroupConv2d(2, 2, 3, group="p4m", bias=True))
    shape = (2, 1, 9, 9)
    lifting, conv = training_step_macs(model, shape).layers
    assert (lifting.total, conv.total) == (2 * lifting.forward, 3 * conv.forward)
    assert lifting.total + conv.total == measured(model, shape)


def test_the_loss_of_a_classifier_adds_no_product() -> None:
    with torch.device("meta"):
        model = NETWORKS["basic_cnn"](width=8)
    images, labels = torch.empty(2, 1, 28, 28, device="meta"), torch.empty(2, dtype=torch.long, device="meta")
    macs = measured_training_macs(model, lambda: F.cross_entropy(model(images), labels))
    assert macs == training_step_macs(model, (2, 1, 28, 28)).total


class Modulus(nn.Module):
    def forward(self, features):
        return features.abs()


def test_a_convolution_without_a_complex_parameter_costs_four_in_backward():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.real, self.imaginary = (nn.Parameter(torch.ones(4, 4, 3, 3)) for _ in range(2))

        def forward(self, images):
            return nn.functional.conv2d(images, torch.complex(self.real, self.imaginary)).abs()

    found = count_training_step(Complex(), Example((torch.zeros(2, 4, 8, 8, dtype=torch.complex64),)))
    assert found.forward == found.backward == 4 * (2 * 6 * 6 * 4) * 4 * 9


@pytest.mark.parametrize("groups", [1, 2])
def test_a_training_step_of_complex_numbers_costs_four_of_real_ones(groups):
    def step(dtype):
        layers = [nn.Conv2d(4, 4, 3, groups=groups, dtype=dtype) for _ in range(2)]
        network = nn.Sequential(*layers, Modulus(), nn.Flatten(), nn.Linear(64, 2))
        found = count_training_step(network, Example((torch.zeros(2, 4, 8, 8, dtype=dtype),)))
        head = 2 * 64 * 2
        return found.forward - head, found.backward - 2 * head

    assert step(torch.complex64) == tuple(4 * macs for macs in step(torch.float32))
