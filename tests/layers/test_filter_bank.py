from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from e4profile.groups import GRID_EXACT, Group
from e4profile.layers import GroupConv2d, LiftingConv2d, SteerableConv2d
from e4profile.witnesses.counts.dispatch import count_dispatch

exact = pytest.mark.parametrize("group", GRID_EXACT, ids=str)
kernels = pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])


def acted(stencil: Tensor, group: Group, element: int) -> Tensor:
    mirror, rotation = divmod(element, group.rotations)
    stencil = stencil.flip(-1) if mirror else stencil
    return torch.rot90(stencil, rotation * (4 // group.rotations), (-2, -1))


def compose(group: Group, a: int, b: int) -> int:
    """a^-1 b as matrices, without the group's own product."""
    matrices = [torch.tensor(group.matrix(e)) for e in group.elements]
    wanted = torch.linalg.inv(matrices[a]) @ matrices[b]
    return next(e for e in group.elements if torch.allclose(matrices[e], wanted, atol=1e-6))


@exact
@kernels
def test_group_filters_equal_a_loop(group: Group, kernel: int) -> None:
    layer = GroupConv2d(2, 3, kernel, group=group)
    A = group.order
    wanted = torch.empty(3, A, 2, A, kernel, kernel)
    for o, i, a, b in itertools.product(range(3), range(2), range(A), range(A)):
        wanted[o, a, i, b] = acted(layer.weight[o, i, compose(group, a, b)].detach(), group, a)
    assert torch.equal(layer.expand_filters(), wanted.view(3 * A, 2 * A, kernel, kernel))


@exact
@kernels
def test_lifting_filters_equal_a_loop(group: Group, kernel: int) -> None:
    layer = LiftingConv2d(2, 3, kernel, group=group)
    wanted = torch.empty(3, group.order, 2, kernel, kernel)
    for o, a, i in itertools.product(range(3), group.elements, range(2)):
        wanted[o, a, i] = acted(layer.weight[o, i].detach(), group, a)
    assert torch.equal(layer.expand_filters(), wanted.flatten(0, 1))


def test_the_bank_is_one_gather() -> None:
    layer = GroupConv2d(2, 2, 3, group="p4m", padding=1)
    counted = count_dispatch(layer, (torch.empty(1, 16, 5, 5),), training=True)
    assert counted.free["aten::index_select"] == 1
    assert not {"aten::flip", "aten::rot90", "aten::copy_", "aten::zeros", "aten::cat"} & set(counted.free)


class Warm:
    """A layer in evaluation mode whose cache is filled."""

    def __init__(self, layer: GroupConv2d | LiftingConv2d) -> None:
        torch.manual_seed(0)
        self.layer = layer.eval()
        with torch.no_grad():
            # whole numbers: their sums do not round, so nothing shows a change by accident
            self.layer.weight.copy_(torch.randint(-9, 9, self.layer.weight.shape))
            self.first = self.layer.filters()
        assert self.kept is not None

    @property
    def kept(self) -> Tensor | None:
        """What the layer keeps."""
        return self.layer._cached_filters and self.layer._cached_filters[0]


def _step(layer: nn.Module) -> None:
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    layer(torch.ones(1, layer.c_in * layer.group.order, 4, 4)).square().sum().backward()  # type: ignore[operator, union-attr]
    optimiser.step()


def _load(layer: nn.Module) -> None:
    layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()})


def _data_swap(layer: nn.Module) -> None:
    # a permutation keeps the sum of the weights
    layer.weight.data.copy_(layer.weight.data.flip(0, 1))  # type: ignore[union-attr, operator]


def _data_replaced(layer: nn.Module) -> None:
    layer.weight.data = layer.weight.data + 2  # type: ignore[union-attr, operator]


def _numpy(layer: nn.Module) -> None:
    layer.weight.detach().numpy()[0] += 3  # type: ignore[union-attr, operator]


def _new_parameter(layer: nn.Module) -> None:
    layer.weight = nn.Parameter(torch.ones_like(layer.weight))  # type: ignore[arg-type]


def _init(layer: nn.Module) -> None:
    nn.init.normal_(layer.weight)  # type: ignore[arg-type]


def _nan(layer: nn.Module) -> None:
    layer.weight.data[0, 0] = float("nan")  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("change", [_step, _load, _data_swap, _data_replaced, _numpy, _new_parameter, _init, _nan])
def test_a_change_of_the_weights_is_noticed(change: Callable[[nn.Module], None]) -> None:
    warm = Warm(GroupConv2d(2, 3, 3, group="p4m", padding=1))
    change(warm.layer)
    with torch.no_grad():
        filters = warm.layer.filters()
        assert not torch.equal(filters, warm.first)
        assert torch.equal(filters.nan_to_num(77.0), warm.layer.expand_filters().nan_to_num(77.0))


@pytest.mark.parametrize("convert", [lambda m: m.double(), lambda m: m.half(), lambda m: m.to("meta")])
def test_a_change_of_dtype_or_device_is_noticed(convert: Callable[[Any], Any]) -> None:
    warm = Warm(GroupConv2d(2, 3, 3, group="p4"))
    layer = convert(warm.layer)
    with torch.no_grad():
        assert (layer.filters().dtype, layer.filters().device) == (layer.weight.dtype, layer.weight.device)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_a_cache_of_its_own_and_does_not_carry_it(copied: Callable[[Any], Any]) -> None:
    cold = len(pickle.dumps(GroupConv2d(2, 3, 3, group="p4m").eval()))
    warm = Warm(GroupConv2d(2, 3, 3, group="p4m"))
    kept = warm.kept
    assert len(pickle.dumps(warm.layer)) < cold + 200
    other = copied(warm.layer)
    with torch.no_grad():
        assert torch.equal(other.filters(), warm.first)
        other.weight.data.mul_(-1)
        assert torch.equal(other.filters(), -warm.first)
        assert torch.equal(warm.layer.filters(), warm.first)
        assert warm.kept is kept


def test_the_cache_lives_in_evaluation_mode_without_gradients_only() -> None:
    warm = Warm(GroupConv2d(2, 3, 3, group="p4"))
    layer, kept = warm.layer, warm.kept
    assert layer.filters().requires_grad
    layer.train()
    with torch.no_grad():
        layer.filters()
        assert warm.kept is None
        layer.eval().filters()
        assert warm.kept is not None
        kept = warm.kept
        layer.filters()
        assert warm.kept is kept
    assert set(layer.state_dict()) == {"weight"}
    layer.requires_grad_(False)
    layer.filters()
    assert warm.kept is kept


def test_filters_are_the_callers_own() -> None:
    layer = Warm(GroupConv2d(2, 3, 3, group="p4")).layer
    with torch.no_grad():
        expected = layer(torch.ones(1, 8, 4, 4))
        layer.filters().zero_()
        assert torch.equal(layer(torch.ones(1, 8, 4, 4)), expected)


def test_filters_of_each_autocast_dtype_are_kept_apart() -> None:
    layer = SteerableConv2d(2, 3, 3, group="C4").eval()
    with torch.no_grad():
        plain = layer.filters()
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                assert layer.filters().dtype == dtype
                with torch.autocast("cpu", enabled=False):
                    assert torch.equal(layer.filters(), plain)
        assert torch.equal(layer.filters(), plain)


def test_weights_that_are_computed_are_never_cached() -> None:
    layer = Warm(GroupConv2d(2, 3, 3, group="p4")).layer
    layer.clear_filter_cache()
    images = torch.ones(1, 8, 4, 4)
    with torch.no_grad():
        torch.func.functional_call(layer, {"weight": 2 * layer.weight}, (images,))
        nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())
        layer(images)
    assert layer._cached_filters is None


def test_filters_kept_in_inference_mode_do_not_block_a_later_backward() -> None:
    layer = GroupConv2d(1, 2, 3, group="p4").eval().requires_grad_(False)
    with torch.inference_mode():
        layer(torch.ones(1, 4, 5, 5))
    x = torch.ones(1, 4, 5, 5, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        built_here = GroupConv2d(1, 2, 3, group="p4").eval()
        assert torch.equal(built_here(x), built_here(x))


def test_the_cache_makes_no_difference_to_the_output() -> None:
    layer = Warm(GroupConv2d(2, 2, 3, group="p4m", padding=1, bias=True)).layer
    x = torch.randn(1, 16, 5, 5)
    with torch.no_grad():
        cached = layer(x)
    assert torch.equal(cached, layer.train()(x).detach())


def test_weights_that_stand_for_others_are_never_cached() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.func import functional_call, stack_module_state, vmap

    layers = [GroupConv2d(1, 2, 3, group="p4").eval() for _ in range(3)]
    x = torch.randn(1, 4, 5, 5)
    params, buffers = stack_module_state(layers)  # type: ignore[arg-type]
    with torch.no_grad():
        together = vmap(lambda p, b: functional_call(layers[0], (p, b), (x,)))(params, buffers)
        assert torch.allclose(together, torch.stack([layer(x) for layer in layers]), atol=1e-5)
    with FakeTensorMode(), torch.no_grad():
        fake = GroupConv2d(1, 2, 3, group="p4").eval()
        assert fake(torch.empty(1, 4, 5, 5)).shape == (1, 8, 3, 3)
