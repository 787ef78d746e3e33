"""Counting networks that were not made for it."""

from __future__ import annotations

import pytest
import torch
from program import says
from torch import nn

import e4profile
from e4profile.layers import Chain, GroupConv2d
from e4profile.witnesses.counts.measure import measure_module

EXACT = ("closed-form", "dispatch")


class Foreign(nn.Module):
    """A forward of its own around stock layers, with a layer that has no closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.twice = nn.Conv2d(4, 4, 1)
        self.odd = nn.Conv1d(4, 2, 1)
        self.unused = nn.Conv2d(9, 9, 9)
        self.chain = Chain(relu=nn.ReLU(), conv=nn.Conv2d(4, 5, 1))

    def forward(self, image):
        maps = self.twice(self.twice(self.conv(image)))
        return self.odd(maps.flatten(2)), self.chain(maps)


def test_recorded_shapes_give_each_layer_its_form() -> None:
    frame = e4profile.count(Foreign(), (2, 3, 8, 8), counters=EXACT)
    found = frame.set_index("path")
    assert frame.attrs["sizes"] == "recorded"
    assert any("shapes recorded from the run" in note for note in frame.attrs["notes"])
    assert found["closed_form"]["conv"] == 2 * 27 * 4 * 36
    assert found["closed_form"]["twice"] == 2 * 2 * 16 * 36
    assert found["params"]["twice"] == 16 + 4
    assert found["closed_form"]["chain.conv"] == 2 * 20 * 36
    for path in ("odd", "unused"):
        assert found["closed_form"].isna()[path]
        assert found["agrees"].isna()[path]
    assert found["dispatch"]["odd"] == 2 * 8 * 36
    assert found["agrees"].dropna().all()


def test_a_model_without_any_form_has_every_other_number() -> None:
    frame = e4profile.count(nn.Conv1d(4, 2, 1), [(1, 4, 9)])
    assert frame["closed_form"].isna().all()
    assert frame["dispatch"].sum() == frame["fvcore"].sum() == 72
    assert "Conv1d has no closed form" in frame.attrs["failures"]["closed-form"]


def test_the_topology_is_preferred() -> None:
    model = Chain(conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU())
    assert measure_module(model, (1, 3, 8, 8), EXACT).sizes == "topology"


def test_a_layer_that_runs_twice_has_its_parameters_once() -> None:
    layer = GroupConv2d(2, 2, 3, group="p4", padding=1, bias=False)
    once, twice = (measure_module(Chain(**dict.fromkeys(names, layer)), (1, 8, 5, 5)) for names in ("a", "ab"))
    assert twice.differences == []
    for one, times in ((once, 1), (twice, 2)):
        macs = times * one.dispatch.params * 4 * 25
        assert (one.closed.params, one.printed_params) == (layer.weight.numel(), layer.weight.numel())
        assert (one.closed.macs, one.printed_macs) == (macs, macs)
        assert one.raw["fvcore"].params == one.dispatch.params == layer.weight.numel()


def test_shared_weights_are_counted_once_and_explained() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    measured = measure_module(model, (1, 4), EXACT)
    assert measured.dispatch.params == 16
    assert measured.differences == []
    assert any("2: Linear shares parameters with 0" in note for note in measured.notes)


def test_a_linear_map_over_tokens_has_its_form() -> None:
    measured = measure_module(nn.Sequential(nn.Linear(4, 5)), (2, 7, 4), EXACT)
    assert measured.closed.macs == measured.dispatch.macs == 2 * 7 * 20


def test_a_half_written_protocol_says_what_it_lacks() -> None:
    class Half(nn.Conv2d):
        params = macs = elements = kinds = {}

        def dimensions(self, shape):
            return {}

    reason = measure_module(nn.Sequential(Half(1, 1, 1)), (1, 1, 2, 2), EXACT).failures["closed-form"]
    assert says(reason, "Half", "params, macs, elements, kinds, dimensions", "lacks printed, output_shape")


@pytest.mark.parametrize(
    ("names", "meant"),
    [(("macs",), False), (("params", "kinds", "macs"), False), (("macs", "printed"), True)],
    ids=["one", "one and words of any module", "two"],
)
def test_two_words_of_the_protocol_are_meant_and_one_may_be_a_coincidence(names: tuple[str, ...], meant: bool) -> None:
    conv = nn.Conv1d(1, 1, 1)
    for name in names:
        setattr(conv, name, {})
    reason = measure_module(nn.Sequential(conv), (1, 1, 2), EXACT).failures["closed-form"]
    assert ("but lacks" in reason) is meant


class Fussy(nn.Module):
    """Cannot run without values, and keeps something of its last run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.last = self.conv(x)
        if self.last.abs().sum().item() < 0:
            return None
        return self.last


def test_a_model_that_needs_values_runs_for_real_with_a_note() -> None:
    model = Fussy()
    measured = measure_module(model, (1, 1, 5, 5), ("closed-form", "dispatch", "thop"))
    assert measured.dispatch.macs == measured.closed.macs == 18 * 9
    assert any("run for real on cpu" in note for note in measured.notes)
    assert not hasattr(model, "last")
    assert model.calls == 0


def test_nothing_of_a_meta_run_stays_behind() -> None:
    class Caching(nn.Module):
        grid = None

        def forward(self, x):
            if self.grid is None:
                self.grid = torch.ones(x.shape[-1], device=x.device)
            return x * self.grid

    model = Caching()
    e4profile.count(model, (1, 1, 3, 3))
    assert model.grid is None
    assert model(torch.ones(1, 1, 3, 3)).sum() == 9


@pytest.mark.parametrize("reduce", [lambda p: p.sum(2), lambda p: p.permute(0, 1, 3, 2).reshape(1, 16, 9).mean(-1)])
def test_a_contraction_written_out_is_warned_of(reduce) -> None:
    class Written(nn.Module):
        def forward(self, x):
            columns = nn.functional.unfold(x, 3, padding=1).unflatten(1, (1, 9))
            return reduce(columns * torch.ones(1, 1, 9, 1, device=x.device))

    frame = e4profile.count(Written(), (1, 1, 4, 4), counters=EXACT)
    assert frame.attrs["summed_products"] == {"": 9 * 16}
    assert frame.attrs["totals"].get("dispatch", {"macs": 0})["macs"] == 0


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: (x * x).relu().sum(1),
        lambda x: (x * 2.0).sum(1),
        lambda x: x.sum(1) * x.mean(1),
        lambda x: (x * x).add_(1).sum(1),
    ],
    ids=["in-between", "by a number", "sum first", "changed in place"],
)
def test_products_that_are_not_contracted_are_free(forward) -> None:
    model = nn.Module()
    model.forward = forward  # type: ignore[method-assign]
    assert measure_module(model, (1, 3, 4, 4), EXACT).dispatch.summed_products == {}


def test_charged_products_are_not_warned_of() -> None:
    class Charged(nn.Module):
        operation_kind = "convolution"
        counts_products = True

        def forward(self, x):
            return (x * x.flip(1)).sum(1)

    counted = measure_module(Charged(), (1, 3, 4, 4), EXACT).dispatch
    assert (counted.operations, counted.summed_products) == ({"convolution": 48}, {})
