"""What the stock counters say on the built networks, and why; nothing is left unexplained and nothing absorbed."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from e4profile.conventions import MAC_KINDS
from e4profile.questions.count.rows import gap_notes
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.base import Count, LayerCount
from e4profile.witnesses.counts.gap import explain
from e4profile.witnesses.counts.measure import Measurement, measure
from e4profile.witnesses.counts.registry import REGISTRY

SMALL: dict[str, dict[str, Any]] = {
    "e4net": {},
    "e4net-printed": {"concatenate": "none"},
    "e4net-large": {"layer": "group", "kernel": 3},
    "r18": {"width": 8},
    "p4-r18": {"width": 4},
    "p4-e4r18": {"width": 4},
    "p4m-r18": {"width": 2},
    "p4m-e4r18-printed": {"width": 2},
}


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    return {name: measure(resolve(name).with_arguments(change)) for name, change in SMALL.items()}


@pytest.mark.parametrize("name", SMALL)
def test_causes_add_up_exactly_with_nothing_unexplained(measured: dict[str, Measurement], name: str) -> None:
    one = measured[name]
    assert set(one.gaps) == {"fvcore", "thop"}, one.failures
    for gap in one.gaps.values():
        assert gap.unexplained == gap.remainder == 0
        assert gap.truth + sum(cause.amount for cause in gap.causes) == gap.reported
        assert gap.truth == one.closed.macs
        assert all(cause.amount for cause in gap.causes)


def test_the_causes_are_what_they_say(measured: dict[str, Measurement]) -> None:
    one = measured["e4net"]
    kinds = one.dispatch.operations
    fvcore = {cause.name: cause.amount for cause in one.gaps["fvcore"].causes}
    assert fvcore["aggregation unseen"] == -kinds["aggregation"] == -2_116_800
    assert fvcore["norm operations charged"] == 2 * kinds["batch_norm"] + 5 * kinds["group_norm"]
    thop = {cause.name: cause.amount for cause in one.gaps["thop"].causes}
    assert thop["functional convolutions unseen"] == -kinds["convolution"] == -15_523_200
    assert one.total("fvcore") == one.raw["fvcore"].macs


def test_a_trace_makes_the_filters_that_evaluation_keeps() -> None:
    one = measure(resolve("c4resnet18").with_arguments({"width": 4}), counters=("fvcore",))
    gap = one.gaps["fvcore"]
    assert gap.unexplained == gap.remainder == 0
    causes = {cause.name: cause.amount for cause in gap.causes}
    assert causes["expansion of filters charged"] == one.closed.operations["expansion"] > 0


class Contractions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.mix = nn.Parameter(torch.ones(8, 13, 7)), nn.Parameter(torch.ones(17, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        fields = torch.einsum("bixy, gij -> bgjxy", images, self.weight)
        mixed = torch.einsum("bgj,og->boj", fields.sum((3, 4)), self.mix)
        # its best path has two steps
        return torch.einsum("boj,og,pg->bpj", mixed, self.mix, self.mix)


@pytest.mark.filterwarnings("ignore")
def test_what_numpy_rounds_of_an_einsum_has_its_name() -> None:
    from fvcore.nn import FlopCountAnalysis

    network = Contractions()
    images = torch.zeros(3, 13, 19, 23)
    one = measure(resolve(network, example=images), counters=("fvcore",))
    gap = one.gaps["fvcore"]
    assert one.raw["fvcore"].macs == FlopCountAnalysis(network, images).unsupported_ops_warnings(False).total()
    assert [cause.name for cause in gap.causes] == ["einsum costs rounded to four digits"]
    assert gap.unexplained == gap.remainder == 0
    assert gap.reported != gap.truth


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "equation", ["ab,bc,cd->ad", "ab,cd,bc->da", "ab,bc,cd,ef,fa->ed", "abc,ad,b,ce->de", "a,ab,b->b"]
)
def test_the_order_in_which_an_einsum_runs_has_its_name(equation: str) -> None:
    class Chain(nn.Module):
        def forward(self, *factors: torch.Tensor) -> torch.Tensor:
            return torch.einsum(equation, *factors)

    terms = equation.partition("->")[0].split(",")
    factors = [torch.zeros([3 + 7 * "cafbde".index(name) for name in term]) for term in terms]
    one = measure(resolve(Chain(), example=factors), counters=("fvcore",))
    gap = one.gaps["fvcore"]
    assert gap.unexplained == gap.remainder == 0
    assert {cause.name for cause in gap.causes} <= {
        "einsum contracted in another order",
        "einsum costs rounded to four digits",
    }


def test_known_shares_of_the_truth(measured: dict[str, Measurement]) -> None:
    one = measured["e4net"]
    assert one.raw["fvcore"].macs / one.dispatch.macs == pytest.approx(0.919, abs=0.0006)


def counts() -> tuple[Count, Count]:
    truth = Count("dispatch", "", (
        LayerCount("a", "Conv2d", 1, {"convolution": 100}),
        LayerCount("b", "E4Conv2d", 1, {"convolution": 50, "aggregation": 30}),
        LayerCount("c", "Linear", 1, {"linear": 10}),
    ))  # fmt: skip
    raw = Count("fvcore", "", (
        LayerCount("a", "Conv2d", 1, {"conv": 100}),
        LayerCount("b", "E4Conv2d", 1, {"conv": 50, "group_norm": 8}),
        LayerCount("c", "Linear", 1, {"linear": 10}),
    ), raw=True)  # fmt: skip
    return raw, truth


def altered(raw: Count, path: str, **operations: int) -> Count:
    layers = tuple(replace(one, operations=operations) if one.path == path else one for one in raw.layers)
    return replace(raw, layers=layers)


def test_a_deviation_that_no_cause_explains_is_a_remainder() -> None:
    raw, truth = counts()
    assert explain(raw, truth).unexplained_in == {}
    for path, operations, left in (
        ("a", {"conv": 103}, 3),
        ("a", {"conv": 60}, -40),
        ("b", {"conv": 49}, -31),
        ("b", {"conv": 81}, 1),
    ):
        gap = explain(altered(raw, path, **operations), truth)
        assert gap.unexplained_in == {path: left}
        assert (gap.remainder, gap.unexplained) == (left, abs(left))
    extra = replace(raw, layers=(*raw.layers, LayerCount("d", "X", 0, {"einsum": 5})))
    assert explain(extra, truth).unexplained_in == {"d": 5}


def test_errors_that_cancel_are_not_hidden() -> None:
    raw, truth = counts()
    gap = explain(altered(altered(raw, "a", conv=103), "c", linear=7), truth)
    assert gap.reported == gap.truth - 30 + 8
    assert gap.remainder == 0
    assert gap.unexplained == 6
    measured = Measurement(truth, truth, 0, 0, {"fvcore": altered(altered(raw, "a", conv=103), "c", linear=7)})
    (note,) = gap_notes(measured)
    assert note.endswith("unexplained 6 in a +3, c -3")
    assert f"reports {gap.reported:,} where {gap.truth:,} MACs run" in note
    held, same = gap_notes(measured, "printed")
    assert (held.endswith("not with the totals by printed"), same) == (True, note)


def test_layers_missed_whole_are_named_by_kind() -> None:
    raw, truth = counts()
    gap = explain(replace(raw, layers=()), truth)
    assert {cause.name: cause.amount for cause in gap.causes} == {
        "convolutions unseen": -100,
        "functional convolutions unseen": -50,
        "aggregation unseen": -30,
        "matrix products unseen": -10,
    }
    assert gap.reported == 0


@pytest.mark.parametrize("broken", ["fvcore", "thop"])
def test_a_broken_counter_costs_only_its_own_column(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_import(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == broken:
            raise ModuleNotFoundError(f"No module named {broken!r}")
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_import)
    one = measure(resolve("e4net").with_arguments({"width": 2}))
    (other,) = {"fvcore", "thop"} - {broken}
    assert one.failures == {broken: f"ModuleNotFoundError: No module named {broken!r}"}
    assert set(one.raw) == {other}
    assert one.agrees
    assert one.gaps[other].unexplained == 0


def test_a_counter_that_raises_says_so_in_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: Any) -> Any:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setitem(REGISTRY, "thop", replace(REGISTRY["thop"], count=raising))
    one = measure(resolve("e4net").with_arguments({"width": 2}))
    assert one.failures == {"thop": "ZeroDivisionError: first line"}


def test_a_network_too_large_to_run_is_not_run() -> None:
    one = measure(resolve("e4net").with_arguments({"width": 10**6, "slices": 1}))
    assert set(one.failures) == {"fvcore", "thop"}
    assert all("not run" in reason for reason in one.failures.values())
    assert one.agrees


def test_mac_kinds_have_causes() -> None:
    truth = Count("dispatch", "", (LayerCount("x", "Y", 0, dict.fromkeys(MAC_KINDS, 1)),))
    gap = explain(Count("fvcore", "", (), raw=True), truth)
    assert len(gap.causes) == len(MAC_KINDS)
    assert gap.unexplained == 0
