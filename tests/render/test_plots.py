"""The figures of a sweep: what they show, for whole grids and for degenerate ones, and the same bytes each time."""

from __future__ import annotations

import csv
import itertools
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sweep_sample import row, sweep

from e4profile.errors import SettingError
from e4profile.render.plot_cost import cost_against_settings
from e4profile.render.plot_counters import stock_counters
from e4profile.render.plot_gcnn import e4_against_gcnn
from e4profile.render.plot_terms import named_terms
from e4profile.render.plots import FIGURES, plot_sweep
from e4profile.render.style import COLUMN_CM, TERM_COLOURS, paper_style
from e4profile.render.sweep_rows import studies

SMALL = sweep((3, 5), (1,), (2,))
ALL_FIGURES = {f"{name}.{ending}" for name in FIGURES for ending in ("svg", "png", "csv")}


def study(rows):
    (only,) = studies(rows)
    return only


def names(paths: list[Path]) -> set[str]:
    return {path.name for path in paths}


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def draw(function, rows):
    with paper_style():
        return function(study(rows), "figure")


def test_a_grid_gives_every_figure_in_three_formats(tmp_path):
    paths = plot_sweep(sweep(), tmp_path / "new" / "folder")
    assert names(paths) == ALL_FIGURES
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == ALL_FIGURES
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
        elif path.suffix == ".svg":
            width = ElementTree.fromstring(content).attrib["width"]
            assert float(width.removesuffix("pt")) / 72 * 2.54 == pytest.approx(COLUMN_CM, abs=0.01)


def test_the_same_rows_give_the_same_bytes_whatever_the_readers_own_style(tmp_path):
    import matplotlib as mpl

    first = plot_sweep(SMALL, tmp_path / "first")
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": None, "axes.facecolor": "red", "savefig.dpi": 17}):
        second = plot_sweep(SMALL, tmp_path / "second")
        assert mpl.rcParams["font.size"] == 20
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_a_figure_carries_no_date_and_no_software_version(tmp_path):
    import matplotlib as mpl

    for path in plot_sweep(SMALL, tmp_path):
        content = path.read_bytes()
        assert b"dc:date" not in content
        assert mpl.__version__.encode() not in content


def test_drawing_needs_neither_torch_nor_pyplot(tmp_path):
    script = (
        "import sys; from pathlib import Path; from e4profile.render.plots import plot_sweep\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from sweep_sample import sweep\n"
        "plot_sweep(sweep((3, 5), (1,), (2,)), Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=Path(__file__).parent)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    import os

    plot_sweep(SMALL, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(SettingError, match="disk full"):
        plot_sweep(sweep((3, 7), (1,), (2,)), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([row(5, 1, 2)], {"cost-against-settings", "e4-against-gcnn"}),
        (sweep((5,), (1,), (2,)), {"cost-against-settings"}),
        (sweep((5,), (1, 2), (2,)), set()),
        ([{**item, "fvcore": None, "thop": None} for item in SMALL], {"stock-counters"}),
        ([{**item, "macs_measured": None, "params_measured": None} for item in SMALL], {"stock-counters"}),
        ([{**item, "macs_printed_form": None, "terms": {}} for item in SMALL], {"named-terms"}),
        ([], set(FIGURES)),
        ([row(5, None, None)], set(FIGURES)),
    ],
    ids=[
        "one row",
        "one E4",
        "one axis",
        "no counters",
        "nothing ran",
        "no terms",
        "no row",
        "baseline only",
    ],
)
def test_what_the_rows_cannot_fill_is_left_out(tmp_path, rows, missing):
    assert {path.stem for path in plot_sweep(rows, tmp_path)} == set(FIGURES) - missing


def test_several_models_and_groups_have_figures_of_their_own(tmp_path):
    paths = plot_sweep(sweep((3, 5), (1,), (2,)) + sweep((3, 5), (1,), (2,), group="p4m"), tmp_path)
    expected = {f"{name}-e4net-{group}" for name in FIGURES for group in ("p4", "p4m")}
    assert {path.stem for path in paths} == expected


def test_a_model_named_by_a_path_cannot_leave_the_folder(tmp_path):
    rows = [*sweep((3, 5), (1,), (2,)), {**row(5, 1, 2), "model": "../cards/mine.toml"}]
    paths = plot_sweep(rows, tmp_path / "out")
    assert {path.parent for path in paths} == {tmp_path / "out"}
    assert "named-terms-..-cards-mine.toml-p4.svg" in names(paths)


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


def test_the_printed_form_of_the_parameters_is_drawn_when_the_rows_have_it():
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
    rows = [
        {**item, "model": str(item["model"]).replace("e4net", "a-long-name-e4r18-as-printed")}
        for item in sweep()
    ]
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


def test_the_table_beside_a_figure_holds_exact_numbers(tmp_path):
    plot_sweep(sweep(), tmp_path)
    with (tmp_path / "cost-against-settings.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 18
    base = row(5, 1, 2)
    found = [r for r in rows if (r["quantity"], r["against"], r["kernel"]) == ("macs", "k", "5")]
    assert [int(r["closed_form"]) for r in found] == [base["macs_formula"]]
    assert [int(r["printed_form"]) for r in found] == [base["macs_printed_form"]]


def test_rows_that_went_through_a_data_frame_are_the_same_rows(tmp_path):
    import pandas as pd

    rows = sweep((3, 5), (1, 2), (2,))
    rows[1]["thop"] = None
    first = plot_sweep(rows, tmp_path / "first")
    second = plot_sweep(pd.DataFrame(rows).to_dict("records"), tmp_path / "second")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"macs_formula": 1.5}, r"macs_formula \(=1.5\) must be a whole number"),
        ({"thop": "many"}, r"thop \(='many'\) must be a number"),
        ({"terms": 7}, r"terms \(=7\) must map"),
    ],
)
def test_a_row_that_is_not_one_is_refused(tmp_path, change, message):
    with pytest.raises(SettingError, match=message):
        plot_sweep([{**row(5, 1, 2), **change}], tmp_path)


def test_a_missing_column_is_named(tmp_path):
    rows = [{name: value for name, value in row(5, 1, 2).items() if name != "fvcore"}]
    with pytest.raises(SettingError, match="a sweep row has no fvcore"):
        plot_sweep(rows, tmp_path)


def test_a_folder_below_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from e4profile.cli.main import main

    file = tmp_path / "afile"
    file.write_text("")
    with pytest.raises(SettingError, match=r"cannot write figures to .*afile.x: Not a directory"):
        plot_sweep(SMALL, file / "x")
    monkeypatch.setattr("e4profile.figures.draw", lambda *_, **__: pytest.fail("drawn all the same"))
    monkeypatch.setattr(sys, "argv", ["e4profile", "plot", "terms", "--out", str(file / "x")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
