"""The drawings: given rows, they show these values, keep their labels apart and fit a paper's column."""

from __future__ import annotations

import pytest
from matplotlib.text import Annotation, Text

from e4profile.errors import SettingError
from e4profile.questions.count.figure import counters_plot
from e4profile.questions.formula.figure_ratio_map import ratio_plot
from e4profile.questions.formula.figure_terms import REST, terms_plot
from e4profile.questions.memory.figure import memory_plot
from e4profile.questions.sweep.figure_accuracy import accuracy_plot
from e4profile.questions.sweep.figure_cost import cost_plot
from e4profile.questions.time.figure import share_plot
from e4profile.questions.time.figure_roofline import roofline_plots
from e4profile.questions.training.figure import training_plot
from e4profile.show.labels import label_points
from e4profile.show.paper import COLUMN_CM
from e4profile.show.style import SPARE_COLOURS, TERM_COLOURS, log_axis, new_figure, paper_style, readable_on


@pytest.fixture(autouse=True)
def style():
    with paper_style():
        yield


def texts(plot) -> list[str]:
    return [text.get_text() for text in plot.figure.findobj(Text) if text.get_text() and text.get_visible()]


def cost_row(setting: str, value: int, **changed):
    row = {
        "model": "net", "group": "p4", "setting": setting, "value": value, "own": value == 2, "agrees": True,
        "params_printed": 1000 * value, "params_closed": 1100 * value, "params_measured": 1100 * value,
        "macs_printed": 10**6 * value, "macs_closed": 2 * 10**6 * value, "macs_measured": 2 * 10**6 * value,
        "gcnn_params": 5000, "gcnn_macs": 10**7,
    }  # fmt: skip
    return {**row, **changed}


def test_cost_draws_printed_exact_gcnn_and_measured():
    plot = cost_plot("cost", [cost_row("slices", value) for value in (4, 1, 2)])
    macs, params = plot.figure.axes
    printed, exact, gcnn, *points = macs.get_lines()
    assert list(printed.get_xydata().flatten()) == [1, 1, 2, 2, 4, 4]
    assert list(exact.get_ydata()) == [2, 4, 8]
    assert list(gcnn.get_ydata()) == [10, 10, 10]
    assert [tuple(point.get_xydata()[0]) for point in points] == [(1, 2), (2, 4), (4, 8)]
    assert [point.get_markerfacecolor() for point in points] == ["white", "black", "white"]
    assert list(params.get_lines()[1].get_ydata()) == pytest.approx([1.1, 2.2, 4.4])
    assert macs.get_xscale() == macs.get_yscale() == "log"
    assert "slices s" in texts(plot)
    assert "thousand parameters" in texts(plot)


def test_cost_shows_a_disagreement():
    plot = cost_plot("cost", [cost_row("kernel", 1), cost_row("kernel", 3, agrees=False)])
    assert "measured, disagrees" in texts(plot)
    assert plot.figure.axes[0].get_lines()[-1].get_marker() == "X"


def test_ratio_map_writes_every_ratio_and_frames_the_network():
    rows = [
        {"model": "net", "quantity": quantity, "kernel": kernel, "group_order": 4, "ratio": ratio, "own": kernel == 5}
        for quantity in ("params", "macs")
        for kernel, ratio in ((3, 0.0512), (5, 0.25), (7, 1.5))
    ]
    plot = ratio_plot("map", rows)
    assert [text for text in texts(plot) if text in ("0.051", "0.25", "1.50")] == ["0.051", "0.25", "1.50"] * 2
    assert "E4 costs more" in texts(plot)
    frames = [patch for patch in plot.figure.axes[0].patches if not patch.get_fill()]
    assert [(frame.get_x() + 0.47, frame.get_y() + 0.47) for frame in frames] == [pytest.approx((1, 0))]


def test_terms_fill_the_bar_and_the_rest_is_named():
    names = ["encoder", *(f"other {i}" for i in range(12))]
    rows = [{"model": "net", "term": name, "macs": 100 - i, "share": (100 - i) / 1222} for i, name in enumerate(names)]
    assert sum(row["macs"] for row in rows) == 1222
    plot = terms_plot("terms", rows)
    bars = plot.figure.axes[0].patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(100)
    assert bars[0].get_width() == pytest.approx(100 * 100 / 1222)
    assert REST in texts(plot)
    assert len({bar.get_facecolor() for bar in bars}) == len(bars)
    assert len(plot.data) == 13


def test_every_term_with_a_bar_has_its_own_colour():
    assert len({*TERM_COLOURS.values(), *SPARE_COLOURS}) == len(TERM_COLOURS) + len(SPARE_COLOURS)
    rows = [{"model": "net", "term": name, "macs": 1, "share": 0.05} for name in [*TERM_COLOURS, *"abcdefghijkl"]]
    bars = terms_plot("terms", rows).figure.axes[0].patches
    assert len({bar.get_facecolor() for bar in bars}) == len(bars) == 16


def counter_row(counter: str, reported, seen, macs: int = 10**6):
    return {
        "model": "net", "counter": counter, "macs": macs, "reported": reported, "seen": seen,
        "reported_share": None if reported is None else reported / macs,
        "seen_share": None if seen is None else seen / macs,
    }  # fmt: skip


def test_counters_mark_what_is_seen_and_what_is_reported():
    plot = counters_plot("counters", [counter_row("fvcore", 919000, 880000), counter_row("thop", 2000, 1)])
    axes = plot.figure.axes[0]
    ends = [tuple(line.get_xdata()) for line in axes.get_lines()]
    assert (100, pytest.approx(0.0001)) in ends
    assert (pytest.approx(0.2),) in ends
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < 0.0001
    assert axes.get_xlim()[1] > 100
    for text in ("91.9%", "88.0%", "0.20%", "0.00010%"):
        assert text in texts(plot)


def test_counters_without_a_figure_and_with_nothing_seen():
    plot = counters_plot("counters", [counter_row("fvcore", None, None), counter_row("thop", 5000, 0)])
    assert "–" in texts(plot)
    assert "0%" in texts(plot)
    assert [line.get_marker() for line in plot.figure.axes[0].get_lines()].count("<") == 1
    with pytest.raises(SettingError, match="no stock counter"):
        counters_plot("counters", [counter_row("thop", None, None)])


def error_row(label: str, macs: int, error: float, on: bool):
    return {
        "series": "A 2021", "label": label, "test_error_percent": error, "spread_percent": 0.1, "params": 1000 * macs,
        "macs": 10**6 * macs, "on_macs_front": on, "on_params_front": on,
    }  # fmt: skip


def test_accuracy_draws_the_front_in_order_of_cost_and_hollow_points_off_it():
    rows = [error_row("dear", 9, 1.0, True), error_row("bad", 8, 3.0, False), error_row("cheap", 2, 2.0, True)]
    plot = accuracy_plot("accuracy", "MNIST", rows)
    for axes in plot.figure.axes:
        front = axes.get_lines()[0]
        assert front.get_drawstyle() == "steps-post"
        assert [tuple(point) for point in front.get_xydata()] == [(2, 2), (9, 1)]
        assert "published" in axes.get_ylabel()
    hollow = [line for line in plot.figure.axes[0].get_lines() if line.get_markerfacecolor() == "white"]
    assert [tuple(line.get_xydata()[0]) for line in hollow] == [(8, 3)]


def test_labels_keep_apart_and_inside_the_panel():
    figure = new_figure(2.5)
    axes = figure.subplots()
    log_axis(axes, "x", 1, 100)
    log_axis(axes, "y", 1, 10)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    points = [(x, 3.0, f"network {x}", "black") for x in (10, 11, 12, 13, 95)]
    label_points(axes, points, [(x, y) for x, y, *_ in points])
    renderer = figure.canvas.get_renderer()
    labels = [label for label in axes.texts if isinstance(label, Annotation) and label.get_text()]
    boxes = [label.get_window_extent(renderer) for label in labels]
    assert [label.get_text() for label in labels] == [f"network {x}" for x in (10, 11, 12, 13, 95)]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert box.x1 <= axes.get_window_extent(renderer).x1


def memory_row(model: str, batch: int, constant: int = 2**26):
    return {
        "model": model, "batch_size": batch, "constant_bytes": constant, "growing_bytes": batch * 2**23,
        "peak_bytes": constant + (batch + 1) * 2**23,
    }  # fmt: skip


def test_memory_marks_the_batch_at_which_both_parts_are_equal():
    plot = memory_plot("memory", [memory_row(model, batch) for model in "abcd" for batch in (2, 8, 32)])
    shown = [axes for axes in plot.figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list("abcd")
    constant, growing, peak, equal = shown[0].get_lines()
    assert list(constant.get_ydata()) == [64, 64, 64]
    assert list(growing.get_ydata()) == [16, 64, 256]
    assert list(peak.get_ydata()) == [88, 136, 328]
    assert list(equal.get_xdata()) == [8, 8]
    assert "B = 8" in texts(plot)
    assert not [text for text in texts(plot) if text.startswith("macs:")]


def test_memory_without_a_crossing_has_no_key_for_it():
    plot = memory_plot("memory", [memory_row("a", batch, constant=100) for batch in (2, 8)])
    assert "both parts equal" not in texts(plot)


def test_training_joins_inference_and_step():
    rows = [
        {"model": "net", "equivariance": kind, "params": 10**6, "inference_macs": inference, "step_macs": step,
         "step_to_inference": step / inference}
        for kind, inference, step in (("implicit", 10**9, 6 * 10**9), ("explicit", 4 * 10**9, 12 * 10**9))
    ]  # fmt: skip
    plot = training_plot("training", rows)
    lines = [tuple(line.get_xdata()) for line in plot.figure.axes[0].get_lines() if len(line.get_xdata()) == 2]
    assert lines == [(1, 6), (4, 12)]
    assert "6.00×" in texts(plot)
    assert "3.00×" in texts(plot)


def test_share_sets_the_time_under_the_macs():
    rows = [
        {"model": "net", "pass": "forward", "batch_size": 4, "device": "cpu", "dtype": "float32", "term": term,
         "mac_share": macs, "time_share": time}
        for term, macs, time in (("convolution", 0.9, 0.3), ("aggregation", 0.1, 0.5), ("unattributed", 0.0, 0.2))
    ]  # fmt: skip
    plot = share_plot("share", rows)
    widths: dict[float, list[float]] = {}
    for bar in plot.figure.axes[0].patches:
        widths.setdefault(bar.get_y(), []).append(bar.get_width())
    assert [[round(width) for width in one if width] for one in widths.values()] == [[90, 10], [30, 50, 20]]


def test_a_share_of_less_than_all_is_not_labelled_as_all():
    common = {"model": "net", "pass": "forward", "batch_size": 1, "device": "cpu", "dtype": "float32"}
    rows = [
        {**common, "term": term, "seconds": share, "macs": share, "mac_share": share, "time_share": share}
        for term, share in (("convolution", 0.997), ("linear", 0.003))
    ]
    assert texts(share_plot("share", rows)).count("99.7%") == 2
    assert "100%" not in texts(share_plot("share", rows))
    seen = texts(counters_plot("counters", [counter_row("fvcore", 10**6, 999_700)]))
    assert "99.97%" in seen
    assert "100.0%" in seen


def test_a_roof_has_a_figure_of_its_own():
    layer = {"path": "a", "layer": "Conv2d", "macs": 100, "bytes": 10, "measured_s": 1e-6}
    row = {"model": "net", "batch_size": 1, **layer}
    rows = [{**row, "roof": roof, "macs_per_s": 1e9, "bytes_per_s": 1e8} for roof in ("cpu", "gpu", "cpu")]
    plots = roofline_plots("roofline", rows)
    assert [plot.name for plot in plots] == ["roofline", "roofline-2"]
    assert [len(plot.data) for plot in plots] == [2, 1]


@pytest.mark.parametrize(
    "draw", [cost_plot, ratio_plot, terms_plot, memory_plot, training_plot, share_plot, roofline_plots]
)
def test_no_rows_are_refused(draw):
    with pytest.raises(SettingError, match=r"^no "):
        draw("figure", [])


def test_figures_are_one_column_wide_and_nothing_is_clipped():
    plot = counters_plot("counters", [counter_row("fvcore", 919000, 880000), counter_row("thop", 2000, 1)])
    figure = plot.figure
    assert figure.get_size_inches()[0] * 2.54 == pytest.approx(COLUMN_CM)
    figure.draw_without_rendering()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent(renderer)
            assert -1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1, text.get_text()


def test_a_name_with_dollars_is_drawn_as_it_is():
    # between two dollars matplotlib reads a formula, and refuses what is none
    rows = [{**counter_row("fvcore", 919000, 880000), "model": r"q$\frac$z.py"}]
    plot = counters_plot("counters", rows)
    plot.figure.draw_without_rendering()
    assert any(r"q$\frac$z.py" in text for text in texts(plot))


def test_no_tick_is_written_as_a_formula():
    for plot in (counters_plot("c", [counter_row("fvcore", 919000, 880000)]), cost_plot("c", [cost_row("slices", 2)])):
        plot.figure.draw_without_rendering()
        assert not any("$" in text for text in texts(plot))


@pytest.mark.parametrize(("colour", "text"), [("#000000", "white"), ("#F0E442", "black"), ("#0072B2", "white")])
def test_text_stands_out_on_its_bar(colour, text):
    assert readable_on(colour) == text


def boxes_of(axes, renderer):
    return {one.get_text(): one.get_window_extent(renderer) for one in axes.texts if one.get_text()}


def test_a_name_that_stands_nearer_to_another_marker_is_joined_to_its_own():
    figure = new_figure(2.5)
    axes = figure.subplots()
    log_axis(axes, "x", 1, 100)
    log_axis(axes, "y", 1, 10)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # the second point lies in a nest of markers, the first alone
    nest = [(10 * 1.04**i, 3 * 1.02**j) for i in range(-4, 5) for j in range(-4, 5)]
    label_points(axes, [(60, 6, "alone", "black"), (10, 3, "crowded", "black")], [(60, 6), *nest])
    renderer = figure.canvas.get_renderer()
    joins = [one for one in axes.texts if not one.get_text()]
    assert [one.xy for one in joins] == [(10, 3)]
    box = boxes_of(axes, renderer)["crowded"]
    assert not any(box.contains(*axes.transData.transform(point)) for point in nest)


def test_a_name_keeps_off_a_line():
    figure = new_figure(2.5)
    axes = figure.subplots()
    log_axis(axes, "x", 1, 100)
    log_axis(axes, "y", 1, 10)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # every first choice to the right of the point is crossed by an upright line
    line = [(11, 10 ** (i / 200)) for i in range(200)]
    label_points(axes, [(10, 3, "beside", "black")], [(10, 3)], line)
    box = boxes_of(axes, figure.canvas.get_renderer())["beside"]
    assert box.x1 < axes.transData.transform((11, 3))[0]
