from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from e4profile.errors import SettingError
from e4profile.layers import Chain, E4Conv2d, FieldBatchNorm2d, GroupConv2d, GroupMaxPool, PointwiseConv2d
from e4profile.networks.cards import find_card
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.timing.breakdown import macs_by_term, measure_breakdown
from e4profile.witnesses.timing.clock import MeasurementError, Reading, Work
from e4profile.witnesses.timing.operators import TERMS, term_of
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.profiled import MODULE_SCOPE, PASS_SCOPE, profile_passes, time_by_term
from e4profile.witnesses.timing.samples import StopRule

E4 = E4Conv2d(2, 2, 3, group="p4", encoder_norm=True)
NETWORK = Chain(
    conv=GroupConv2d(1, 2, 3, group="p4", padding=1),
    norm=FieldBatchNorm2d(2, group="p4"),
    e4=E4,
    pool=GroupMaxPool(2, group="p4"),
    classifier=nn.Linear(2, 3),
)


@pytest.mark.parametrize(
    ("operators", "modules", "term"),
    [
        (["aten::conv2d", "aten::convolution"], [E4.encoder, E4], "convolution"),
        (["aten::conv2d", "aten::convolution"], [E4], "generator"),
        (["aten::index_select"], [E4.encoder, E4], "filter expansion"),
        (["aten::index_select"], [E4], "generator"),
        (["aten::relu", "aten::clamp_min"], [E4], "activation"),
        (["aten::group_norm", "aten::empty"], [E4.squeeze_norm, E4], "norm"),
        (["aten::repeat_interleave"], [E4.squeeze_norm, E4], "norm"),
        (["aten::view"], [E4.encoder_norm, E4], "norm"),
        (["aten::batch_norm"], [E4.encoder_norm.norm, E4.encoder_norm, E4], "norm"),
        (["e4profile::aggregate", "aten::zeros"], [E4.aggregation, E4], "aggregation"),
        (["e4profile::generate_aggregate", "aten::bmm"], [E4], "generator"),
        (["e4profile::generate_aggregate", "aten::copy_"], [E4], "aggregation"),
        (["e4profile::generate_aggregate_backward", "aten::baddbmm_"], [], "generator"),
        (["e4profile::generate_aggregate_backward", "aten::addcmul_"], [], "aggregation"),
        (["aten::im2col"], [E4.aggregation, E4], "aggregation"),
        (["aten::mul"], [E4.aggregation, E4], "aggregation"),
        (["aten::max_pool2d", "aten::max_pool2d_with_indices"], [NETWORK.conv, NETWORK], "pooling"),
        (["aten::amax"], [NETWORK.pool, NETWORK], "pooling"),
        (["aten::copy_"], [NETWORK.conv, NETWORK], "filter expansion"),
        (["aten::conv2d"], [PointwiseConv2d(2, 2, group="p4")], "convolution"),
        (["aten::matmul", "aten::bmm"], [PointwiseConv2d(2, 2, group="p4")], "convolution"),
        (["aten::linear", "aten::addmm"], [NETWORK.classifier, NETWORK], "linear"),
        (["aten::dropout"], [NETWORK], "other"),
        (["aten::add"], [], "other"),
    ],
)
def test_operators_find_their_term(operators, modules, term):
    assert term_of(operators, modules) == term


@dataclass
class _Event:
    """What the profiler says about one operator, in microseconds."""

    name: str
    start: float
    end: float
    cpu_parent: _Event | None = None
    self_cpu_time_total: float = 0.0
    self_device_time_total: float = 0.0
    sequence_nr: int = -1
    device_type: str = "DeviceType.CPU"
    time_range: Any = field(init=False)

    def __post_init__(self) -> None:
        self.time_range = SimpleNamespace(start=self.start, end=self.end)


def _pass() -> list[_Event]:
    """Two forward operators in one layer, their backward, and an operator before the pass."""
    top = _Event(PASS_SCOPE, 0, 100, None, 7.0)
    layer = _Event(MODULE_SCOPE + "conv", 5, 40, top, 3.0)
    gather = _Event("aten::index_select", 10, 16, layer, 6.0, 60.0, 4)
    conv = _Event("aten::conv2d", 20, 38, layer, 1.0, 0.0, 5)
    convolution = _Event("aten::convolution", 21, 38, conv, 17.0, 170.0, 5)
    node = _Event("autograd::engine::evaluate_function: ConvolutionBackward0", 50, 80, top, 2.0, 0.0, 5)
    backward = _Event("aten::convolution_backward", 51, 79, node, 28.0, 280.0)
    gathered = _Event("autograd::engine::evaluate_function: IndexSelectBackward0", 80, 90, top, 0.0, 0.0, 4)
    added = _Event("aten::index_add_", 81, 90, gathered, 9.0, 90.0)
    reset = _Event("autograd::engine::evaluate_function: AccumulateGrad", 90, 95, top, 5.0, 0.0, 99)
    loss = _Event("aten::cross_entropy_loss", 41, 47, top, 6.0, 0.0, 6)
    free = _Event("aten::empty", 95, 111, top, 16.0)
    before = _Event("aten::randn", -20, -10, None, 1000.0, 1000.0)
    kernel = _Event("kernel", 30, 40, None, 0.0, 500.0, -1, "DeviceType.CUDA")
    return [top, layer, gather, conv, convolution, node, backward, gathered, added, reset, loss, free, before, kernel]


def test_backward_operators_belong_to_the_forward_operator_that_made_them():
    found = time_by_term(_pass(), {"conv": NETWORK.conv}, on_device=False)
    microseconds = {term: round(seconds * 1e6, 6) for term, seconds in found.terms_s.items()}
    assert microseconds == {"filter expansion": 15.0, "convolution": 48.0, "other": 27.0}
    assert found.unattributed_s == pytest.approx(10e-6)
    assert found.total_s == pytest.approx(100e-6)


def test_on_a_device_kernels_count_and_the_rest_is_unattributed():
    found = time_by_term(_pass(), {"conv": NETWORK.conv}, on_device=True)
    assert found.terms_s == pytest.approx({"filter expansion": 150e-6, "convolution": 450e-6})
    assert found.unattributed_s == pytest.approx(-500e-6), "total minus kernels, whatever the stub says"


def test_a_profile_without_a_pass_is_an_error():
    with pytest.raises(MeasurementError, match="no pass"):
        time_by_term([_Event("aten::add", 0, 1)], {}, on_device=False)


def test_a_real_profile_adds_up_and_leaves_no_hooks():
    images = torch.randn(2, 4, 6, 6)

    def step(_: Any) -> torch.Tensor:
        loss = NETWORK.pool(NETWORK.e4(NETWORK.norm(NETWORK.conv(images)))).sum()
        loss.backward()
        return loss

    Work(step).call(None)
    events = profile_passes(NETWORK, Work(step), 2, torch.device("cpu"))
    found = time_by_term(events, dict(NETWORK.named_modules()), on_device=False)
    assert sum(event.name == PASS_SCOPE for event in events) == 2
    assert {"filter expansion", "convolution", "generator", "aggregation", "norm", "pooling"} <= set(found.terms_s)
    assert sum(found.terms_s.values()) + found.unattributed_s == pytest.approx(found.total_s, rel=1e-6)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in NETWORK.modules())


def test_scopes_close_when_the_forward_raises():
    def fail(_: Any) -> None:
        NETWORK.conv(torch.zeros(1, 3, 5, 5))

    with pytest.raises(RuntimeError, match="channels"):
        profile_passes(NETWORK, Work(fail), 1, torch.device("cpu"))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in NETWORK.modules())


@pytest.mark.parametrize("name", ["e4net", "p4-sa", "gc-p4cnn"])
def test_the_terms_macs_add_up_to_the_closed_form(name):
    card = find_card(name)
    model, shape = card.build("meta"), card.input_shape(2)
    found = macs_by_term(model, shape)
    assert sum(found.values()) == count_closed_form(model, shape).macs
    assert set(found) <= set(TERMS)


def test_e4nets_macs_are_split_by_term():
    card = find_card("e4net")
    found = macs_by_term(card.build("meta"), card.input_shape())
    positions = 28 * 28 + 2 * 14 * 14 + 3 * 7 * 7
    assert found["aggregation"] == 16 * 4 * 25 * positions
    assert found["generator"] == 16 * 2 * 25 * 4 * positions
    assert found["linear"] == 160


class _Milliseconds:
    name = "a millisecond each"

    def read(self, work: Work) -> Reading:
        work.call(work.prepare())
        return Reading(0.001)


@pytest.mark.parametrize(("pass_", "mode"), [("forward", "eval"), ("backward", "train"), ("step", "train")])
def test_shares_add_up_to_the_whole_pass(pass_, mode):
    card = find_card("e4net").with_arguments({"width": 2})
    model = card.build("cpu")
    found = measure_breakdown(
        model, card.input, PassSetting(pass_, mode), passes=2, clock=_Milliseconds(), rule=StopRule(min_run_time_s=0.0)
    )
    shares = sum(term.time_share for term in found.terms) + found.unattributed_share
    assert shares == pytest.approx(1.0, rel=1e-6)
    assert sum(term.mac_share for term in found.terms) == pytest.approx(1.0)
    by_term = {term.term: term for term in found.terms}
    assert {"aggregation", "convolution", "generator", "norm"} <= set(by_term)
    assert min(term.seconds for term in found.terms) >= 0
    quartiles = [term.share_quartiles for term in found.terms]
    assert all(pair is not None and 0 <= pair[0] <= pair[1] <= 1 for pair in quartiles)
    assert any(low < high for low, high in filter(None, quartiles))
    assert (by_term["aggregation"].macs, by_term["norm"].macs) == (
        macs_by_term(card.build("meta"), card.input_shape())["aggregation"], 0,
    )  # fmt: skip
    assert found.whole.median_s == 0.001
    assert not model.training


def test_at_least_one_pass_is_profiled():
    with pytest.raises(SettingError, match=r"passes \(=0\)"):
        measure_breakdown(NETWORK, (4, 6, 6), passes=0)
