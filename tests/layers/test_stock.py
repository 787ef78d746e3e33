from __future__ import annotations

import math
from inspect import signature

import pytest
import torch
from torch import nn

from e4profile.conventions import MAC_KINDS, NORM_KINDS
from e4profile.errors import SettingError
from e4profile.layers import Chain, GroupConv2d, Residual, trace
from e4profile.layers.stock import STOCK, as_costed
from e4profile.witnesses.counts.closed_form import count_closed_form, count_forms
from e4profile.witnesses.counts.dispatch import count_dispatch

MAPS, FLAT = (2, 4, 9, 7), (2, 6)
CASES = [
    (nn.Conv2d(4, 6, 3), MAPS),
    (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 0), bias=False), MAPS),
    (nn.Conv2d(4, 8, 3, groups=2, padding=1), MAPS),
    (nn.Conv2d(4, 4, 3, groups=4, stride=2), MAPS),
    (nn.Linear(6, 5), FLAT),
    (nn.Linear(6, 5, bias=False), FLAT),
    (nn.BatchNorm2d(4), MAPS),
    (nn.BatchNorm2d(4, affine=False), MAPS),
    (nn.BatchNorm1d(6), FLAT),
    *([(nn.BatchNorm2d(4, bias=False), MAPS)] if "bias" in signature(nn.BatchNorm2d).parameters else []),
    (nn.GroupNorm(2, 4), MAPS),
    (nn.GroupNorm(4, 4, affine=False), MAPS),
    (nn.MaxPool2d(2), MAPS),
    (nn.MaxPool2d(3, stride=2, padding=1), MAPS),
    (nn.AvgPool2d(3), MAPS),
    (nn.AdaptiveAvgPool2d(1), MAPS),
    (nn.AdaptiveAvgPool2d((2, None)), MAPS),
    (nn.AdaptiveMaxPool2d(1), MAPS),
    (nn.Flatten(), MAPS),
    (nn.ReLU(inplace=True), MAPS),
    (nn.SiLU(), MAPS),
    (nn.GELU(), FLAT),
    (nn.ELU(), MAPS),
    (nn.Dropout(0.3), MAPS),
    (nn.Dropout2d(0.3), MAPS),
    (nn.Identity(), MAPS),
]


@pytest.mark.parametrize(("module", "shape"), CASES, ids=str)
def test_closed_form_equals_what_runs(module: nn.Module, shape: tuple[int, ...]) -> None:
    closed = count_closed_form(module, shape)
    for training in (False, True):
        counted = count_dispatch(module, (torch.empty(shape),), training=training)
        assert counted.uncounted == {}
        assert closed.operations == counted.operations
        assert closed.params == counted.params
    assert trace(module, shape)[0] == tuple(module.eval()(torch.zeros(shape)).shape)
    assert set(closed.operations) <= {*MAC_KINDS, *NORM_KINDS}


def test_every_stock_form_is_tested() -> None:
    assert set(STOCK) == {type(module) for module, _ in CASES}


def test_a_subclass_has_no_closed_form_because_it_may_do_anything() -> None:
    class Other(nn.Conv2d):
        pass

    assert as_costed(Other(1, 1, 1)) is None
    with pytest.raises(SettingError, match=r"^part: Other has no closed form"):
        trace(Chain(part=Other(1, 1, 1)), (1, 1, 2, 2))


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Conv2d(4, 4, 3, dilation=2), MAPS, "dilations"),
        (nn.Conv2d(4, 4, 3, padding="same"), MAPS, "string paddings"),
        (nn.MaxPool2d(2, ceil_mode=True), MAPS, "ceil_mode"),
        (nn.MaxPool2d(2, dilation=2), MAPS, "dilations"),
        (nn.Conv2d(3, 4, 3), MAPS, "takes 3 channels, not 4"),
        (nn.Conv2d(4, 4, 11), MAPS, r"kernel \(=11\) is larger than the padded map \(=9\+2\*0\)"),
        (nn.Linear(5, 5), FLAT, "Linear takes"),
        (nn.Linear(7, 5), MAPS, "Linear takes"),
        (nn.BatchNorm1d(5), FLAT, "BatchNorm1d takes"),
        (nn.Flatten(0), MAPS, "start_dim"),
    ],
    ids=str,
)
def test_what_is_not_covered_says_so(module: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        trace(Chain(first=module), shape)


def test_a_part_used_twice_runs_twice_and_has_its_parameters_once() -> None:
    relu, conv = nn.ReLU(), GroupConv2d(2, 2, 3, group="p4", padding=1)
    chain = Chain(conv1=conv, relu1=relu, conv2=conv, relu2=relu).eval()
    x = torch.randn(1, 8, 5, 5)
    with torch.no_grad():
        assert torch.equal(chain(x), relu(conv(relu(conv(x)))))
    closed, counted = count_closed_form(chain, (1, 8, 5, 5)), count_dispatch(chain, (x,))
    assert closed.params == counted.params == sum(p.numel() for p in chain.parameters())
    assert closed.macs == counted.macs == 2 * conv.cost((8, 5, 5)).total_macs
    assert [layer.path for layer in closed.layers if layer.params] == ["conv1"]
    assert count_forms(chain, (1, 8, 5, 5))[1:] == (conv.weight.numel(), closed.macs)


def test_a_residual_whose_arms_differ_says_where() -> None:
    net = Chain(block=Residual(nn.Conv2d(4, 4, 3), None))
    with pytest.raises(SettingError, match=r"block: body gives \(2, 4, 7, 5\) but shortcut gives \(2, 4, 9, 7\)"):
        trace(net, MAPS)


def test_paths_are_those_of_the_modules() -> None:
    net = Chain(a=Residual(nn.Conv2d(4, 4, 1), Chain(inner=nn.BatchNorm2d(4))), b=nn.ReLU(), gone=None)
    _, steps = trace(net, MAPS)
    assert {step.path for step in steps} == {"a.body", "a.shortcut.inner", "b"}
    assert all(net.get_submodule(step.path) is step.module for step in steps)
    assert math.prod(trace(net, MAPS)[0]) == math.prod(MAPS)
