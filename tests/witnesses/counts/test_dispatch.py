from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from e4profile.conventions import AGGREGATION, LINEAR
from e4profile.layers import E4Conv2d
from e4profile.witnesses.counts import ledger
from e4profile.witnesses.counts.contractions import ATTENTIONS, CONVOLUTIONS, MATRIX_PRODUCTS
from e4profile.witnesses.counts.dispatch import count_dispatch, families


class Net(nn.Module):
    """A functional part, a loose parameter and a loose buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.loose = nn.Parameter(torch.ones(4, 4, 1, 1))
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.conv(x), self.loose) + self.shift


def test_functional_operations_and_loose_parameters_belong_to_their_module() -> None:
    counted = count_dispatch(Net(), (torch.empty(2, 3, 6, 6),))
    layers = {layer.path: layer for layer in counted.layers}
    assert layers["conv"].operations == {"convolution": 2 * 3 * 4 * 9 * 16}
    assert layers[""].operations == {"convolution": 2 * 4 * 4 * 16}
    assert (layers["conv"].params, layers[""].params) == (112, 16)
    assert counted.uncounted == {}


def test_dropout_multiplies_and_no_mac_is_counted() -> None:
    net = nn.Sequential(nn.Dropout(0.5), E4Conv2d(1, 2, 3, group="z2", implementation="reference"))
    shape = (1, 1, 5, 5)
    counted = count_dispatch(net, (torch.empty(shape),), training=True)
    assert counted.free.get("aten::mul", 0) + counted.free.get("aten::native_dropout", 0) > 0
    assert counted.operations == net[1].cost(shape).operations
    assert counted.operations[AGGREGATION] == 2 * 9 * 25


def test_a_product_counts_only_inside_the_module_that_says_so() -> None:
    class Product(nn.Module):
        counts_products = True

        def forward(self, x: Tensor) -> Tensor:
            return x * x

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x

    x = torch.empty(3, 4)
    assert count_dispatch(Square(), (x,)).macs == 0
    assert count_dispatch(nn.Sequential(Product(), Square(), nn.ReLU()), (x,)).operations == {AGGREGATION: 12}


def test_an_unknown_operator_is_unknown_never_zero_and_says_where() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.matrix_exp(x)

    counted = count_dispatch(nn.Sequential(nn.ReLU(), Odd(), Odd()), (torch.empty(4, 4),))
    assert counted.uncounted["aten::linalg_matrix_exp"] == 2
    assert counted.uncounted_in["aten::linalg_matrix_exp"] == ("1", "2")


def test_the_kinds_of_matrix_products() -> None:
    class Products(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("ij,jk->ik", x, x) @ x + torch.bmm(x[None], x[None])[0]

    counted = count_dispatch(Products(), (torch.empty(5, 5),))
    assert counted.operations == {LINEAR: 3 * 125}


def test_nothing_is_allocated_and_nothing_computed() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(10**6, 10**6), nn.ReLU(), nn.Linear(10**6, 10**6))
    assert count_dispatch(net, (torch.empty(1, 10**6, device="meta"),)).macs == 2 * 10**12
    real = nn.Linear(100, 100)
    assert count_dispatch(real, (torch.empty(10**10, 100, device="meta"),)).macs == 10**14


def test_inference_mode_hides_no_convolution() -> None:
    with torch.inference_mode():
        assert count_dispatch(nn.Conv2d(1, 1, 1), (torch.empty(1, 1, 3, 3),)).macs == 9


def test_the_same_count_whatever_the_mode_it_was_left_in() -> None:
    layer, x = E4Conv2d(2, 4, 3, group="p4m", encoder_norm=True), torch.empty(2, 16, 5, 5)
    counts = [count_dispatch(m, (x,), training=t) for m in (layer.train(), layer.eval()) for t in (False, True)]
    assert all(count.operations == counts[0].operations for count in counts)


def test_a_shared_module_and_a_shared_parameter_count_once_in_parameters() -> None:
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    counted = count_dispatch(nn.Sequential(first, second, first), (torch.empty(1, 4),))
    assert counted.params == 16
    assert counted.macs == 48


def test_free_operators_and_formulas_do_not_overlap() -> None:
    counted = {name.removeprefix("aten::") for name in ledger.FORMULAS}
    products = {**MATRIX_PRODUCTS, **CONVOLUTIONS, **ATTENTIONS}
    assert not (counted | set(products)) & set(ledger.FREE)


def test_an_odd_number_of_flops_is_unknown_and_not_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.matrix_exp(x)

    for flops, macs, uncounted in ((6, 3, {}), (7, 0, {"aten::linalg_matrix_exp": 1})):
        monkeypatch.setitem(flop_registry, torch.ops.aten.linalg_matrix_exp, lambda *_, out_val, n=flops, **__: n)
        counted = count_dispatch(Odd(), (torch.empty(3, 3),))
        assert (counted.macs, counted.uncounted) == (macs, uncounted)


def test_a_registered_operator_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.matrix_exp(x)

    monkeypatch.setattr(ledger, "FORMULAS", dict(ledger.FORMULAS))
    ledger.register_operator("aten::linalg_matrix_exp", lambda x, out: {LINEAR: 7 * x.numel()})
    assert count_dispatch(Odd(), (torch.empty(3, 3),)).operations == {LINEAR: 63}


def test_a_count_calls_no_more_functions_than_pytorchs_own() -> None:
    with torch.device("meta"):
        part = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        net, image = (
            nn.Sequential(*(nn.Sequential(part, nn.Dropout()) for _ in range(20))).eval(),
            torch.empty(1, 8, 6, 6),
        )

    def theirs() -> None:
        with torch.no_grad(), FlopCounterMode(display=False):
            net(image)

    def calls(work: Callable[[], object]) -> int:
        work()
        with cProfile.Profile() as profile:
            work()
        return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]

    assert calls(lambda: count_dispatch(net, (image,))) <= calls(theirs)


def test_distances_without_products_are_free() -> None:
    class Distances(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return torch.cdist(points, points, p=1)

    counted = count_dispatch(Distances(), (torch.empty(5, 3),))
    assert (counted.macs, counted.free["aten::_cdist_forward"]) == (0, 1)
    assert families(counted)["element by element"] == 1


def test_one_parameter_under_two_names_of_a_module_counts_once() -> None:
    layer = nn.Linear(4, 4, bias=False)
    layer.again = layer.weight
    assert count_dispatch(layer, (torch.empty(1, 4),)).params == 16
