"""What each figure of a sweep shows: costs, ratios, named terms, counters."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from sweep_sample import row, sweep

from e4profile.questions.sweep.plot_cost import cost_against_settings
from e4profile.questions.sweep.plot_counters import stock_counters
from e4profile.questions.sweep.plot_gcnn import e4_against_gcnn
from e4profile.questions.sweep.plot_terms import named_terms
from e4profile.questions.sweep.plots import FIGURES
from e4profile.questions.sweep.sweep_rows import studies
from e4profile.show.style import TERM_COLOURS, paper_style

SMALL = sweep((3, 5), (1,), (2,))
ALL_FIGURES = {f"{name}.{ending}" for name in FIGURES for ending in ("svg", "png", "csv")}


def study(rows):
    (only,) = studies(rows)
    return only


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def draw(function, rows):
    with paper_style():
        return function(study(rows), "figure")


def test_cost_shows_printed_exact_and_measured_along_each_axis():
    plot = draw(cost_against_settings, sweep())
    assert len(plot.figure.axes) == 6
    top = plot.figure.axes[:3]
    assert [axes.get_xlabel() for axes in plot.figure.axes[3:]] == ["kernel k", "reduction r", "slices s"]
    for axes, values, settings in zip(
        top,
        ((3, 5, 7), (1, 2, 4), (1, 2, 4)),
        ([(k, 1, 2) for k in (3, 5, 7)], [(5, r, 2) for r in (1, 2, 4)], [(5, 1, s) for s in (1, 2, 4)]),
        strict=True,
    ):
        rows = [row(*setting) for setting in settings]
        printed, exact, *measured = axes.get_lines()
        assert tuple(exact.get_xdata()) == values
        assert list(exact.get_ydata()) == [item["macs_formula"] / 1e6 for item in rows]
        assert list(printed.get_ydata()) == [item["macs_printed_form"] / 1e6 for item in rows]
        assert [(*m.get_xdata(), *m.get_ydata()) for m in measured] == [
            (value, item["macs_measured"] / 1e6) for value, item in zip(values, rows, strict=True)
        ]
    assert "M MACs" in texts(plot.figure)
    assert any("Held where not varied: k=5 r=1 s=2." in text for text in texts(plot.figure))
    assert not any("disagrees" in text for text in texts(plot.figure))


def test_the_papers_formula_for_the_parameters_is_drawn_when_the_rows_have_it():
    rows = [{**item, "params_printed_form": item["params_formula"] - 400} for item in sweep()]
    plot = draw(cost_against_settings, rows)
    printed, exact = plot.figure.axes[3].get_lines()[:2]
    differences = [b - a for a, b in zip(printed.get_ydata(), exact.get_ydata(), strict=True)]
    assert differences == pytest.approx([0.4] * 3)
    assert not any("MACs only" in text for text in texts(plot.figure))
    assert any("MACs only" in text for text in texts(draw(cost_against_settings, sweep()).figure))


def test_a_setting_that_disagrees_is_marked():
    rows = sweep()
    wrong = next(item for item in rows if (item["kernel"], item["reduction"], item["slices"]) == (7, 1, 2))
    wrong.update(macs_measured=1, agrees=False)
    plot = draw(cost_against_settings, rows)
    assert [line.get_marker() for line in plot.figure.axes[0].get_lines()[2:]] == ["o", "o", "X"]
    assert "measured, setting disagrees" in texts(plot.figure)
    exact = plot.figure.axes[0].get_lines()[1]
    assert list(exact.get_ydata()) == [row(k, 1, 2)["macs_formula"] / 1e6 for k in (3, 5, 7)]


def test_without_the_papers_setting_the_first_value_is_held():
    plot = draw(cost_against_settings, sweep((7, 9), (2, 4), (8, 16)))
    assert any("k=7 r=2 s=8" in text for text in texts(plot.figure))


def test_nearly_equal_costs_lie_well_inside_their_panel():
    rows = [{**item, "macs_measured": 1000, "macs_formula": 999, "params_measured": 0} for item in sweep()]
    for axes in draw(cost_against_settings, rows).figure.axes:
        top = max(y for line in axes.get_lines() for y in line.get_ydata())
        low, high = axes.get_ylim()
        assert low == 0
        assert top < 0.95 * high


def test_width_has_a_panel_when_it_varies():
    plot = draw(cost_against_settings, sweep((5,), (1,), (2,)) + sweep((5,), (1,), (2,), width=32))
    assert [axes.get_xlabel() for axes in plot.figure.axes] == ["", "width c"]


def test_each_setting_stands_beside_its_own_baseline():
    plot = draw(e4_against_gcnn, sweep())
    rows = {(item["kernel"], item["reduction"], item["slices"]): item for item in plot.data}
    assert len(rows) == 30
    for kernel in (3, 5, 7):
        baseline = row(kernel, None, None)
        for r, s in itertools.product((1, 2, 4), (1, 2, 4)):
            shown, setting = rows[kernel, r, s], row(kernel, r, s)
            assert shown["macs"] == setting["macs_formula"]
            assert shown["baseline_macs"] == baseline["macs_formula"]
            assert shown["baseline_params"] == baseline["params_formula"]
    labels = [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]
    assert labels[:3] == ["G-CNN k=3", "r=1 s=1", "r=1 s=2"]
    assert labels[10::10] == ["G-CNN k=5", "G-CNN k=7"]
    ratio = row(5, 1, 2)["macs_formula"] / row(5, None, None)["macs_formula"]
    assert f"{ratio:.2f}×" in texts(plot.figure.axes[0])
    assert all(axes.get_xscale() == "log" for axes in plot.figure.axes)


def test_ratios_may_be_exact_fractions_or_unknown():
    rows = sweep((5,), (1, 2), (2,))
    rows[1].update(macs_ratio=Fraction(1, 3), params_ratio=None)
    rows[2].update(macs_ratio=float("nan"))
    plot = draw(e4_against_gcnn, rows)
    assert "0.33×" in texts(plot.figure.axes[0])
    assert "–" in texts(plot.figure.axes[0])
    assert "–" in texts(plot.figure.axes[1])
    assert "0.33×" not in texts(plot.figure.axes[1])


def test_settings_without_a_baseline_are_left_out_and_said_so():
    rows = [item for item in sweep() if (item["kernel"], item["reduction"]) != (7, None)]
    plot = draw(e4_against_gcnn, rows)
    assert {item["kernel"] for item in plot.data} == {3, 5}
    assert any("18 of 27 settings: those with a baseline." in text for text in texts(plot.figure))


def test_bars_stack_the_named_terms_to_the_whole():
    plot = draw(named_terms, sweep((3, 5, 7), (1, 2), (2,)))
    from matplotlib.patches import Rectangle

    (axes,) = plot.figure.axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    settings = list(itertools.product((3, 5, 7), (1, 2), (2,)))
    ends = {}
    for bar in bars:
        place = round(bar.get_y() + bar.get_height() / 2)
        ends[place] = max(ends.get(place, 0), bar.get_x() + bar.get_width())
    assert list(ends.values()) == pytest.approx([row(*setting)["macs_formula"] / 1e6 for setting in settings])
    by_colour = {bar.get_facecolor() for bar in bars}
    assert len(by_colour) == 6
    assert "linear (< 0.3%)" in texts(plot.figure)
    baseline = row(5, None, None)["macs_formula"] / 1e6
    assert f"The G-CNN k=5 takes {baseline:.2f} M MACs." in "\n".join(texts(plot.figure))


def test_many_settings_are_thinned_to_one_changed_value_at_a_time():
    plot = draw(named_terms, sweep())
    shown = {(item["kernel"], item["reduction"], item["slices"]) for item in plot.data}
    assert shown == {(3, 1, 2), (5, 1, 2), (7, 1, 2), (5, 2, 2), (5, 4, 2), (5, 1, 1), (5, 1, 4)}
    assert any("7 of 27 settings: one value varied at a time." in text for text in texts(plot.figure))


def test_terms_without_a_colour_of_their_own_are_told_apart():
    rows = [{**row(5, 1, 2), "terms": {"gate": 5, "values": 4, "encoder": 3}}]
    plot = draw(named_terms, rows)
    colours = [patch.get_facecolor() for patch in plot.figure.axes[0].patches]
    assert len(set(colours)) == 3
    assert [item["term"] for item in plot.data] == ["encoder", "gate", "values"]


def test_colours_of_terms_differ():
    assert len(set(TERM_COLOURS.values())) == len(TERM_COLOURS)


def test_counters_are_fractions_of_what_runs():
    rows = sweep((5,), (1,), (2,))
    plot = draw(stock_counters, rows)
    fractions = {(item["model"], item["counter"]): item["fraction"] for item in plot.data}
    gcnn, e4 = row(5, None, None), row(5, 1, 2)
    assert fractions["e4net-gcnn", "thop"] == gcnn["thop"] / gcnn["macs_measured"]
    assert fractions["e4net", "fvcore"] == e4["fvcore"] / e4["macs_measured"]
    assert 0 < fractions["e4net-gcnn", "thop"] < 0.01
    (axes,) = plot.figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < 100 * fractions["e4net-gcnn", "thop"]
    assert f"{100 * fractions['e4net-gcnn', 'thop']:.2f}%" in texts(plot.figure)
    assert f"{100 * fractions['e4net', 'fvcore']:.1f}%" in texts(plot.figure)


def test_a_counter_that_gave_nothing_or_zero_is_not_mistaken_for_the_other():
    rows = sweep((5,), (1,), (2,))
    rows[0]["thop"], rows[1]["thop"] = 0, None
    plot = draw(stock_counters, rows)
    assert "0%" in texts(plot.figure)
    assert "–" in texts(plot.figure)
    assert any("the counter gave no figure" in text for text in texts(plot.figure))
    reported = {(item["model"], item["counter"]): item["reported"] for item in plot.data}
    assert reported["e4net-gcnn", "thop"] == 0
    assert reported["e4net", "thop"] is None


@pytest.mark.parametrize("function", FIGURES.values(), ids=FIGURES)
def test_every_figure_names_its_convention_and_nothing_overlaps_or_leaves_the_page(function):
    rows = [{**item, "model": str(item["model"]).replace("e4net", "a-long-name-e4r18-as-printed")} for item in sweep()]
    plot = draw(function, [*rows, {**rows[14], "width": 32, "terms": {"gate of the attended values": 9}}])
    assert any(text.startswith("macs: multiply-accumulates") for text in texts(plot.figure))
    figure = plot.figure
    (legend,) = figure.legends
    title, note = figure._suptitle, figure.texts[-1]
    page = figure.bbox
    boxes = [title.get_window_extent(), legend.get_window_extent(), note.get_window_extent()]
    panels = [axes.get_tightbbox() for axes in figure.axes]
    for box in (*boxes, *panels):
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1 + 1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1 + 1
    assert boxes[0].y0 >= max(panel.y1 for panel in panels) - 1
    assert boxes[1].y1 <= min(panel.y0 for panel in panels) + 1
    assert boxes[2].y1 <= boxes[1].y0 + 1
