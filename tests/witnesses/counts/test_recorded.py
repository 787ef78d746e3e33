"""The breakdown and the roofline of networks without a closed form: what runs, module by module."""

from __future__ import annotations

import functools

import pytest
import torch
from program import says
from torch import nn

from e4profile.errors import SettingError
from e4profile.layers import Chain, E4Conv2d, GroupConv2d
from e4profile.questions.time.roofline import measure_roofline, network_traffic, network_work
from e4profile.subjects.inputs import Example, as_example
from e4profile.witnesses.counts.measure import measure_module
from e4profile.witnesses.counts.recorded import recorded_work
from e4profile.witnesses.timing.breakdown import macs_by_witness
from e4profile.witnesses.timing.clock import Reading, Work
from e4profile.witnesses.timing.peaks import Peaks
from e4profile.witnesses.timing.samples import StopRule

PEAKS = Peaks(1000.0, 100.0, "cpu", "float32", 1, {})


class Foreign(nn.Module):
    """Layers of ours and of PyTorch, one of them twice, and a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = GroupConv2d(1, 2, 3, group="p4", padding=1)
        self.e4 = E4Conv2d(2, 2, 3, group="p4", slices=1)
        self.twice = nn.Conv2d(8, 8, 1, bias=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.unused = nn.Linear(3, 3)
        self.weight = nn.Parameter(torch.zeros(8, 5))

    def forward(self, maps, *, scale=1):
        maps = self.twice(self.twice(self.e4(self.lift(maps)))).relu()
        tokens = maps.flatten(2).transpose(1, 2)
        tokens, _ = self.attention(tokens, tokens, tokens)
        return tokens.mean(1) @ self.weight * scale


@pytest.fixture
def foreign() -> tuple[Foreign, Example]:
    return Foreign().eval(), Example((torch.randn(3, 4, 5, 5),), {"scale": 2})


TWICE, PRODUCT = 3 * 2 * 64 * 25, 3 * 8 * 5
ATTENTION = 3 * (25 * 4 * 64 + 2 * 25 * 25 * 8)


def test_every_mac_is_in_a_layer_or_between_them(foreign) -> None:
    network, example = foreign
    found = recorded_work(network, example)
    assert list(found.macs) == ["lift", "e4", "twice", "attention"]
    assert [call.path for call in found.calls] == ["lift", "e4", "twice", "twice", "attention"]
    assert (found.macs["twice"], found.macs["attention"]) == (TWICE, ATTENTION)
    assert found.total_macs - sum(found.macs.values()) == PRODUCT
    assert any(says(note, f"{PRODUCT:,} MACs", "functional code", "the network itself") for note in found.notes)


def test_bytes_are_what_goes_in_and_out_with_expanded_filters(foreign) -> None:
    network, example = foreign
    work = network_work(network, example, 4)
    layers = {layer.path: layer for layer in work.layers}
    maps = 4 * 3 * 8 * 25
    assert layers["twice"].bytes == 2 * (2 * maps + 4 * 64)
    for path, shape in (("lift", (3, 4, 5, 5)), ("e4", (3, 8, 5, 5))):
        (_, alone) = network_traffic(network.get_submodule(path), shape, 4)[0]
        assert (layers[path].bytes, layers[path].macs) == (alone.bytes, alone.macs)
    assert (work.witness, work.other_macs) == ("dispatch", PRODUCT)


def test_a_closed_form_is_preferred() -> None:
    network = Chain(conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU())
    example = as_example((2, 3, 8, 8), torch.float32)
    work = network_work(network, example, 4)
    assert (work.witness, work.other_macs, work.layers[0].macs) == ("closed form", 0, 2 * 27 * 4 * 36)
    assert macs_by_witness(network, example) == ({"convolution": 2 * 27 * 4 * 36}, "closed form", ())


def test_macs_go_to_the_terms_that_the_time_goes_to(foreign) -> None:
    network, example = foreign
    found, witness, notes = macs_by_witness(network, example)
    generator = network_traffic(network.e4, (3, 8, 5, 5), 4)[0][1].macs
    assert (witness, notes) == ("dispatch", ())
    assert found["attention"] == ATTENTION
    assert found["linear"] == PRODUCT
    assert found["aggregation"] == 3 * 2 * 4 * 9 * 25
    assert found["generator"] > 0
    lifted = network_traffic(network.lift, (3, 4, 5, 5), 4)[0][1].macs
    assert found["convolution"] + found["generator"] + found["aggregation"] == lifted + generator + TWICE


class _Second:
    name = "a second each"

    def read(self, work: Work) -> Reading:
        work.call(work.prepare())
        return Reading(1.0)


class _Marks:
    def __init__(self) -> None:
        self.count = 0

    def mark(self) -> int:
        self.count += 1
        return self.count

    def synchronize(self) -> None:
        return None

    def seconds(self, start: int, end: int) -> float:
        return float(end - start)


def test_a_layer_that_runs_twice_is_one_row_with_both_times(foreign) -> None:
    network, example = foreign
    rule = StopRule(min_run_time_s=0.0, max_run_time_s=0.0)
    found = measure_roofline(network, example, peaks=PEAKS, rule=rule, clock=_Second(), marks=_Marks())
    assert [(layer.traffic.path, layer.measured_s) for layer in found.layers] == [
        ("lift", 1.0), ("e4", 1.0), ("twice", 2.0), ("attention", 1.0),
    ]  # fmt: skip
    assert (found.input_shape, found.witness, found.other_macs) == ((3, 4, 5, 5), "dispatch", PRODUCT)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_module_inside_and_outside_of_a_layer_is_left_to_the_whole_pass() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = E4Conv2d(2, 2, 3, group="p4")

        def forward(self, maps):
            return self.block(maps).sum() + self.block.encoder(maps).sum()

    work = network_work(Odd().eval(), as_example((1, 8, 5, 5), torch.float32), 4)
    assert [layer.path for layer in work.layers] == ["block"]


def test_a_network_that_moves_nothing_has_no_roofline() -> None:
    class Nothing(nn.Module):
        def forward(self, n):
            return n

    with pytest.raises(SettingError, match="no layer of this network moves data"):
        measure_roofline(Nothing(), Example((3,)), peaks=PEAKS, rule=StopRule(max_run_time_s=0.5))


def test_unknown_operators_are_told() -> None:
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.matrix_exp(x)

    _, _, notes = macs_by_witness(nn.Sequential(nn.Conv1d(4, 4, 1), Odd()), as_example([(1, 4, 4)], torch.float32))
    assert len(notes) == 1
    assert says(notes[0], "missing", "aten::linalg_matrix_exp", "register_operator")


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("of", ["inputs", "weights"])
def test_a_layer_beside_its_tangents_has_no_closed_form(of: str) -> None:
    class Tangents(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(3, 3, bias=False), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weights = {"weight": self.inner.weight}
            run = functools.partial(torch.func.functional_call, self.inner)
            if of == "inputs":
                value, tangent = torch.func.jvp(lambda one: run(weights, one), (x,), (x,))
            else:
                value, tangent = torch.func.jvp(lambda one: run(one, x), (weights,), (weights,))
            return self.outer(value + tangent)

    found = measure_module(Tangents(), (5, 3), counters=())
    assert [layer.path for layer in found.closed.layers] == ["outer"]
    assert found.differences == []
    assert found.dispatch.macs > found.closed.macs + 5 * 3 * 3
    assert "no closed form: inner: Linear: it runs in forward-mode differentiation" in " ".join(found.notes)
