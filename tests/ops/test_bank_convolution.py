"""Large filter banks: one step of autograd, and maps acted on in place of filters, against PyTorch's own chain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from e4profile.groups import GRID_EXACT, Group
from e4profile.layers import GroupConv2d
from e4profile.ops import filter_bank, huge_pages, turned_maps
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.memory.peak import allocator_emulation
from e4profile.witnesses.memory.saved import saved_for_backward

WINDOWS = [(1, 1, 0), (2, 1, 0), (3, 1, 1), (3, 2, 1), (5, 1, 2), (4, 2, 1)]
"""(kernel, stride, padding)"""


@pytest.fixture
def every_bank_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_bank, "_LARGE_BANK", 1)


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch, every_bank_is_large: None) -> list[str]:
    """Maps are acted on wherever that is exact; the names of what was."""
    used: list[str] = []
    for name in ("convolve", "weight_gradient"):
        real = getattr(turned_maps, name)

        def spy(*tensors: Tensor, _real: object = real, _name: str = name, **window: int) -> Tensor:
            used.append(_name)
            found: Tensor = _real(*tensors, **window)  # type: ignore[operator]
            return found

        monkeypatch.setattr(turned_maps, name, spy)
    monkeypatch.setattr(turned_maps, "FORWARD_ADVANTAGE", 1e-9)
    monkeypatch.setattr(turned_maps, "GRADIENT_ADVANTAGE", 1e-9)
    return used


def sample(layer: GroupConv2d, *size: int) -> Tensor:
    torch.manual_seed(1)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return torch.randn(2, layer.c_in * layer.group.order, *size, dtype=layer.weight.dtype, requires_grad=True)


def chain(layer: GroupConv2d, features: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.repeat_interleave(layer.group.order)
    return F.conv2d(features, layer.expand_filters(), bias, layer.stride, layer.padding)


def close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-12 * wanted.abs().max())


@pytest.mark.parametrize("group", GRID_EXACT, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_values_and_gradients_equal_the_plain_chain(
    group: Group, window: tuple[int, int, int], turned: list[str]
) -> None:
    kernel, stride, padding = window
    layer = GroupConv2d(3, 2, kernel, group=group, stride=stride, padding=padding, bias=True).double()
    size = 6 if (6 + 2 * padding - kernel) % stride == 0 else 5
    features = sample(layer, size, size)
    found, wanted = layer(features), chain(layer, features)
    assert close(found, wanted)
    gradient = torch.randn_like(wanted)
    inputs = (features, *layer.parameters())
    pairs = zip(*(torch.autograd.grad(out, inputs, gradient) for out in (found, wanted)), strict=True)
    assert all(close(*pair) for pair in pairs)
    with torch.no_grad():
        assert close(layer.eval()(features.detach()), wanted)
    assert turned == ["weight_gradient", "convolve"]


@pytest.mark.parametrize("size", [(5, 6), (6, 6)], ids=str)
def test_maps_that_are_not_symmetric_keep_the_bank(size: tuple[int, int], turned: list[str]) -> None:
    layer = GroupConv2d(2, 3, 3, group="p4", stride=2, padding=1).double()
    features = sample(layer, *size)
    found, wanted = layer(features), chain(layer, features)
    assert torch.equal(found, wanted)
    gradient = torch.randn_like(wanted)
    inputs = (features, layer.weight)
    pairs = zip(*(torch.autograd.grad(out, inputs, gradient) for out in (found, wanted)), strict=True)
    assert all(close(*pair) for pair in pairs)
    with torch.no_grad():
        assert torch.equal(layer.eval()(features.detach()), wanted)
    assert turned == []


@pytest.mark.parametrize("wanted", [(True, False), (False, True)], ids=["input only", "weight only"])
def test_only_the_gradients_asked_for(wanted: tuple[bool, bool], turned: list[str]) -> None:
    layer = GroupConv2d(2, 2, 3, group="p4m", padding=1).double()
    features = sample(layer, 4, 4).detach().requires_grad_(wanted[0])
    layer.weight.requires_grad_(wanted[1])
    layer(features).square().sum().backward()
    assert (features.grad is not None, layer.weight.grad is not None) == wanted
    assert ("weight_gradient" in turned) == wanted[1]


def test_gradients_of_gradients(turned: list[str]) -> None:
    layer = GroupConv2d(1, 2, 3, group="p4", padding=1, bias=True).double()
    features = sample(layer, 3, 3)

    def run(images: Tensor, weight: Tensor) -> Tensor:
        bias = torch.zeros(8, dtype=torch.float64)
        bank = filter_bank.Bank(layer.group, layer.filter_shape, 1, 1)
        return filter_bank.convolve(images, weight, bias, layer.filter_index, bank)

    assert torch.autograd.gradcheck(run, (features[:1], layer.weight))
    assert torch.autograd.gradgradcheck(run, (features[:1], layer.weight))


def test_counts_and_saved_bytes_are_those_of_the_chain(
    every_bank_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = GroupConv2d(4, 3, 3, group="p4m", padding=1)
    features = torch.empty(2, 32, 4, 4)

    def witnesses() -> tuple[object, object]:
        counted = count_dispatch(layer, (features,), training=True)
        saved = saved_for_backward(layer, (32, 4, 4), batch_size=2, device="cpu")
        return counted.operations, (saved.saved_bytes, saved.constant_bytes, saved.buffer_bytes)

    large = witnesses()
    monkeypatch.setattr(filter_bank, "_LARGE_BANK", 1 << 60)
    assert large == witnesses()


@pytest.mark.parametrize("training", [True, False])
def test_large_layers_by_their_own_sizes(training: bool) -> None:
    """The rule itself, without any patch: 96 fields of p4 on 4 x 4 at batch 1."""
    layer = GroupConv2d(96, 96, 3, group="p4", padding=1).double().train(training)
    bank = filter_bank.Bank(layer.group, layer.filter_shape, 1, 1)
    features = sample(layer, 4, 4).detach()[:1]
    assert bank.is_large
    assert bank.turns_maps(features.shape)
    assert not bank.turns_maps((64, *features.shape[1:]))
    with torch.set_grad_enabled(training):
        assert close(layer(features).detach(), chain(layer, features).detach())
    if not training:
        layer.weight.data.mul_(2)
        with torch.no_grad():
            assert close(layer(features), chain(layer, features))
        assert layer._cached_filters is None


def test_the_peak_on_the_meta_device_is_that_on_the_cpu() -> None:
    layer = GroupConv2d(96, 96, 3, group="p4", padding=1)
    # a first run keeps the tables of positions
    _, on_cpu, on_meta = (
        allocator_emulation(layer, (384, 4, 4), batch_size=1, loss="sum", device=device)
        for device in ("cpu", "cpu", "meta")
    )
    assert on_cpu.peak_bytes == on_meta.peak_bytes


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_what_is_not_a_plain_tensor_takes_the_chain(turned: list[str]) -> None:
    layer = GroupConv2d(2, 2, 3, group="p4", padding=1).double()
    features = sample(layer, 4, 4).detach()
    wanted = chain(layer, features)
    assert torch.equal(torch.func.vmap(layer)(features[:, None])[:, 0], wanted)
    values = dict(layer.named_parameters())
    gradient = torch.func.grad(lambda p: torch.func.functional_call(layer, p, (features,)).sum())(values)["weight"]
    assert close(gradient, torch.autograd.grad(wanted.sum(), layer.weight)[0])
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(features, torch.ones_like(features)))).tangent
    assert close(tangent, chain(layer, torch.ones_like(features)))
    assert torch.equal(torch.jit.trace(layer, features, check_trace=False)(features), wanted)
    assert turned == []
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(features.float()).dtype == torch.bfloat16
    assert turned == []


def test_inputs_that_the_layer_refuses_meet_the_same_error(every_bank_is_large: None) -> None:
    layer = GroupConv2d(2, 2, 3, group="p4", padding=1)
    with pytest.raises(RuntimeError, match="to have 8 channels"):
        layer(torch.randn(1, 4, 4, 4))
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        layer(torch.randn(1, 8, 4, 4, dtype=torch.float64))
    assert layer(torch.randn(8, 4, 4)).shape == (8, 4, 4)
    empty = torch.randn(0, 8, 4, 4, requires_grad=True)
    layer(empty).sum().backward()
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()
    with torch.no_grad():
        assert layer.eval()(empty).shape == (0, 8, 4, 4)


def test_positions_made_in_inference_mode_serve_training(turned: list[str]) -> None:
    turned_maps._kept.clear()
    layer = GroupConv2d(2, 2, 3, group="p4", padding=1).double()
    features = sample(layer, 4, 4)
    with torch.inference_mode():
        layer.eval()(features)
    layer.train()(features).sum().backward()
    assert turned == ["convolve", "weight_gradient"]


@pytest.mark.parametrize("elements", [0, 7, 3 << 20])
def test_memory_in_large_pages_is_ordinary_memory(elements: int) -> None:
    tensor = huge_pages.empty((elements,), torch.empty(0)).fill_(3)
    assert tensor.sum() == 3 * elements


def test_a_bank_in_its_own_inputs_history_is_differentiated_once(every_bank_is_large: None) -> None:
    """A shared layer, and a weight that depends on the features: the walk must end at this convolution's inputs."""
    layer = GroupConv2d(2, 2, 3, group="p4m", padding=1).double()
    features = sample(layer, 4, 4)

    def shared(run: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.autograd.grad(run(run(features)).square().sum(), layer.weight, create_graph=True)[0]

    assert close(shared(layer), shared(partial(chain, layer)))

    def of_features(run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        hidden = features.sin()
        output = run(hidden, layer.weight * hidden.mean())
        return torch.autograd.grad(output.square().sum(), features, create_graph=True)[0]

    def functional(hidden: Tensor, weight: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(layer, {"weight": weight}, (hidden,))
        return found

    def plain(hidden: Tensor, weight: Tensor) -> Tensor:
        filters = weight.flatten(1).index_select(1, layer.filter_index).view(layer.filter_shape)
        return F.conv2d(hidden, filters, padding=1)

    assert close(of_features(functional), of_features(plain))


def test_a_weight_may_be_stepped_before_backward_but_not_differentiated_twice(every_bank_is_large: None) -> None:
    layer = GroupConv2d(2, 2, 3, group="p4", padding=1).double()
    features = sample(layer, 4, 4)
    wanted = torch.autograd.grad(chain(layer, features).square().sum(), (features, layer.weight))
    value = layer(features).square().sum()
    with torch.no_grad():
        layer.weight.mul_(0.5)
    found = torch.autograd.grad(value, (features, layer.weight), retain_graph=True)
    assert all(close(*pair) for pair in zip(found, wanted, strict=True))
    with pytest.raises(RuntimeError, match="an inplace operation modified"):
        torch.autograd.grad(value, layer.weight, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_channels_last(every_bank_is_large: None, dtype: torch.dtype) -> None:
    layer = GroupConv2d(4, 4, 3, group="p4m", padding=1).to(dtype)
    features = sample(layer, 12, 12).detach().to(memory_format=torch.channels_last)
    layer(features).sum().backward()
    found = layer.weight.grad
    assert found is not None
    layer.weight.grad = None
    chain(layer, features.contiguous()).sum().backward()
    assert layer.weight.grad is not None
    assert torch.allclose(found, layer.weight.grad, rtol=1e-1 if dtype == torch.bfloat16 else 1e-4, atol=1)


def test_complex_numbers_take_the_chain(every_bank_is_large: None) -> None:
    layer = GroupConv2d(2, 2, 3, group="p4", padding=1)
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.complex64))
    layer(torch.randn(1, 8, 4, 4, dtype=torch.complex64)).abs().sum().backward()
    assert layer.weight.grad is not None


def test_a_fake_tensor_does_not_outlive_its_mode(turned: list[str]) -> None:
    turned_maps._kept.clear()
    layer = GroupConv2d(2, 2, 3, group="p4", padding=1).eval()
    features = torch.randn(1, 8, 3, 3)
    with torch.no_grad():
        with FakeTensorMode(allow_non_fake_inputs=True):
            layer(features)
        assert type(layer(features)) is Tensor


def test_a_bias_of_another_dtype_is_refused_as_ever(turned: list[str]) -> None:
    layer = GroupConv2d(2, 2, 3, group="p4", padding=1, bias=True).eval()
    layer.bias = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"dtype|type"):
        layer(torch.randn(1, 8, 4, 4))
