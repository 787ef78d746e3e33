from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from e4profile.errors import SettingError, UnknownNameError
from e4profile.layers import Chain, E4Conv2d, GroupConv2d
from e4profile.networks.cards import find_card
from e4profile.questions.time.figure_roofline import roofline_plot
from e4profile.questions.time.roofline import (
    LayerRoofline,
    LayerTraffic,
    measure_roofline,
    network_traffic,
    with_implementation,
)
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.timing.clock import CpuClock, Reading, Work
from e4profile.witnesses.timing.layers import layer_samples
from e4profile.witnesses.timing.peaks import Peaks
from e4profile.witnesses.timing.samples import StopRule
from e4profile.witnesses.timing.statistics import median

PEAKS = Peaks(1000.0, 100.0, "cpu", "float32", 1, {})


def under_roof(macs: int, bytes: int, measured_s: float) -> LayerRoofline:
    return LayerRoofline(LayerTraffic("path", "Layer", macs, bytes), measured_s, PEAKS)


def test_a_layer_right_of_the_ridge_is_bound_by_arithmetic():
    layer = under_roof(2000, 100, 4.0)
    assert (layer.bound, layer.ideal_s, layer.achieved, layer.macs_per_s) == ("compute", 2.0, 0.5, 500.0)


def test_a_layer_left_of_the_ridge_is_bound_by_memory():
    layer = under_roof(2000, 400, 8.0)
    assert (layer.traffic.intensity, layer.bound, layer.ideal_s, layer.achieved) == (5.0, "memory", 4.0, 0.5)


def test_bytes_are_inputs_outputs_and_expanded_filters():
    conv = GroupConv2d(2, 3, 3, group="p4", padding=1)
    _, traffic = network_traffic(conv, (5, 8, 7, 6), 4)[0]
    images, features, filters = 5 * 8 * 7 * 6, 5 * 12 * 7 * 6, 12 * 8 * 9
    assert traffic.bytes == 4 * (images + features + filters)
    assert traffic.macs == 5 * filters * 7 * 6


def test_bytes_of_a_plain_layer_count_its_weights_and_bias():
    _, traffic = network_traffic(nn.Linear(10, 3), (2, 10), 2)[0]
    assert traffic.bytes == 2 * (20 + 6 + 33)


def test_layers_that_hand_their_input_on_move_nothing():
    net = Chain(relu=nn.ReLU(), dropout=nn.Dropout(), flatten=nn.Flatten())
    assert [traffic.path for _, traffic in network_traffic(net, (1, 2, 3, 4), 4)] == ["relu"]


def test_an_e4_layer_reads_its_branches_filters_expanded():
    e4 = E4Conv2d(2, 2, 3, group="p4")
    _, traffic = network_traffic(e4, (1, 8, 5, 5), 1)[0]
    branch = 2 * 2 * 16
    generator = 4 * 9 * 2
    assert traffic.bytes == 2 * 8 * 25 + 2 * branch + generator


@pytest.mark.parametrize("name", ["e4net", "p4-e4r18", "r18"])
def test_the_layers_macs_add_up_to_the_closed_form(name):
    card = find_card(name)
    model = card.build("meta")
    found = network_traffic(model, card.input_shape(3), 4)
    assert sum(traffic.macs for _, traffic in found) == count_closed_form(model, card.input_shape(3)).macs
    assert all(traffic.bytes > 0 for _, traffic in found)


class _CountedMarks:
    """Every mark is one second after the one before."""

    def __init__(self) -> None:
        self.count = 0
        self.synchronised = 0

    def mark(self) -> int:
        self.count += 1
        return self.count

    def synchronize(self) -> None:
        self.synchronised = self.count

    def seconds(self, start: int, end: int) -> float:
        assert end <= self.synchronised, "read before the device was done"
        return float(end - start)


def _ticking(step: float) -> Iterator[float]:
    time = 0.0
    while True:
        time += step
        yield time


def test_marks_enclose_each_layer_in_order_and_hooks_go_away():
    first, twice = nn.ReLU(), nn.Identity()
    net = Chain(outer=Chain(first=first), a=twice, last=nn.ReLU())
    work = Work(lambda _: twice(net(torch.ones(1))))
    marks = _CountedMarks()
    clock = _ticking(0.1)
    found = layer_samples([net.outer, first, twice, twice], work, marks, min_run_time_s=0.0, now=lambda: next(clock))
    assert [median(layer) for layer in found] == [3.0, 1.0, 1.0, 1.0]
    assert marks.count == 5 * 8
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize(("said", "message"), [(2, "ran 1 times, less often"), (0, None), (1, None)])
def test_a_layer_that_runs_other_than_said_is_named(said, message):
    layer = nn.ReLU()
    work = Work(lambda _: layer(torch.ones(1)))
    if message is None:
        assert len(layer_samples([layer] * said, work, _CountedMarks(), min_run_time_s=0.0)) == said
        return
    with pytest.raises(SettingError, match=message):
        layer_samples([layer] * said, work, _CountedMarks(), min_run_time_s=0.0)
    assert not layer._forward_hooks


def test_a_layer_that_runs_more_often_than_said_is_named():
    layer = nn.ReLU()
    work = Work(lambda _: layer(layer(torch.ones(1))))
    with pytest.raises(SettingError, match="ran 2 times, more often"):
        layer_samples([layer], work, _CountedMarks(), min_run_time_s=0.0)


def test_a_cap_ends_the_passes_after_one():
    runs = []
    clock = _ticking(100.0)
    layer_samples([], Work(runs.append), _CountedMarks(), max_run_time_s=1.0, now=lambda: next(clock))
    assert len(runs) == 1


def test_marks_of_the_cpu_are_nanoseconds():
    assert CpuClock().seconds(1_000, 3_000) == pytest.approx(2e-6)


class _Second:
    name = "a second each"

    def read(self, work: Work) -> Reading:
        work.call(work.prepare())
        return Reading(1.0)


def test_a_network_is_put_under_the_roof_and_left_as_it_was():
    card = find_card("e4net")
    model = card.build("cpu").train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = measure_roofline(
        model, card.input, batch_size=2, peaks=PEAKS, clock=_Second(), marks=_CountedMarks(),
        rule=StopRule(min_run_time_s=0.0, max_run_time_s=0.0),
    )  # fmt: skip
    assert found.input_shape == (2, 1, 28, 28)
    assert {layer.measured_s for layer in found.layers} == {1.0}
    assert found.layers_s == len(found.layers)
    assert found.ideal_s == pytest.approx(sum(layer.achieved for layer in found.layers))
    assert found.whole.median_s == 1.0
    assert model.training
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_peaks_of_another_dtype_are_refused():
    with pytest.raises(SettingError, match="peaks of cpu in float32 are no roof for cpu in float64"):
        measure_roofline(nn.ReLU(), (1, 2, 2), dtype="float64", peaks=PEAKS)


def test_another_implementation_is_put_into_a_copy():
    model = Chain(e4=E4Conv2d(2, 2, 3, group="p4"))
    twin = with_implementation(model, "reference")
    assert (model.e4.aggregation.implementation, twin.e4.aggregation.implementation) == ("auto", "reference")
    images = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(model(images), twin(images))
    with pytest.raises(SettingError, match="no aggregation"):
        with_implementation(nn.ReLU(), "reference")
    with pytest.raises(UnknownNameError, match="did you mean reference"):
        with_implementation(model, "referense")


def point(model: str, path: str, layer: str, macs: int, moved: int, seconds: float) -> dict[str, object]:
    roof = {"roof": "device", "macs_per_s": 1e10, "bytes_per_s": 1e9, "batch_size": 1}
    return {"model": model, "path": path, "layer": layer, "macs": macs, "bytes": moved, "measured_s": seconds, **roof}


POINTS = [
    point("auto", "a.conv", "E4Conv2d", 10**8, 10**7, 0.02),
    point("reference", "a.conv", "E4Conv2d", 10**8, 10**7, 0.2),
    point("auto", "a.relu", "ReLU", 0, 10**6, 0.01),
]


def test_the_figure_shows_layers_with_macs_and_lists_all():
    plot = roofline_plot("roof", "Network", POINTS)
    (axes,) = plot.figure.axes
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines[1:]]
    assert marks == [(10.0, 5e9), (10.0, 5e8)]
    roof = axes.lines[0]
    assert roof.get_xdata()[1] == 10.0
    assert list(roof.get_ydata()) == [5e9, 1e10, 1e10]
    assert [row["path"] for row in plot.data] == ["a.conv", "a.conv", "a.relu"]
    assert plot.data[1]["achieved"] == pytest.approx(0.05)
    assert any("1 layers without MACs" in " ".join(text.get_text().split()) for text in plot.figure.texts)


def test_nothing_to_draw_is_an_error():
    with pytest.raises(SettingError, match="no layer has MACs"):
        roofline_plot("roof", "Network", POINTS[2:])
