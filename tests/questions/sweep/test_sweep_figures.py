"""What each figure of a sweep shows: costs, ratios, named terms, counters; what it cannot show; the same bytes."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from program import says
from sweep_sample import row, sweep

import e4profile.questions.sweep.figures as figures
from e4profile.errors import SettingError
from e4profile.networks.cards import all_cards
from e4profile.questions.sweep.figures import FIGURES, counter_rows, draw_sweep, gcnn_rows, studies, term_rows
from e4profile.questions.sweep.plans import make_plan
from e4profile.questions.sweep.sweeps import Sweep
from e4profile.records.store import RecordStore
from e4profile.show.paper import COLUMN_CM
from e4profile.show.style import Plot, paper_style
from e4profile.witnesses.counts.closed_form import count_closed_form

SMALL = sweep((3, 5), (1,), (2,))
ALL_FIGURES = {f"{name}.{ending}" for name in FIGURES for ending in ("svg", "png", "csv")}


def study(rows):
    (only,) = studies(rows)
    return only


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn but not written: their files are named, and empty."""

    def touch(plots: list[Plot], folder: Path) -> list[Path]:
        folder.mkdir(exist_ok=True)
        files = [folder / f"{plot.name}.svg" for plot in plots]
        for file in files:
            file.touch()
        return files

    monkeypatch.setattr(figures, "save_plots", touch)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The figures of the whole grid."""
    return draw_sweep(sweep(), tmp_path_factory.mktemp("drawn") / "new" / "folder")


def draw(name: str, rows):
    with paper_style():
        return FIGURES[name](study(rows), "figure")


def test_a_grid_gives_every_figure_in_three_formats(drawn: list[Path]):
    assert {path.name for path in drawn} == ALL_FIGURES
    assert {path.name for path in drawn[0].parent.iterdir()} == ALL_FIGURES
    for path in drawn:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
        elif path.suffix == ".svg":
            width = ElementTree.fromstring(content).attrib["width"]
            assert float(width.removesuffix("pt")) / 72 * 2.54 == pytest.approx(COLUMN_CM, abs=0.01)


def test_the_same_rows_give_the_same_bytes_whatever_the_readers_own_style(tmp_path: Path):
    import matplotlib as mpl

    first = draw_sweep(SMALL, tmp_path / "first")
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": None, "axes.facecolor": "red", "savefig.dpi": 17}):
        second = draw_sweep(SMALL, tmp_path / "second")
        assert mpl.rcParams["font.size"] == 20
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
        assert b"dc:date" not in one.read_bytes()
        assert mpl.__version__.encode() not in one.read_bytes()


def test_drawing_needs_neither_torch_nor_pyplot(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from e4profile.questions.sweep.figures import draw_sweep\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from sweep_sample import sweep\n"
        "draw_sweep(sweep((3, 5), (1,), (2,)), Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=Path(__file__).parent)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path, monkeypatch):
    draw_sweep(SMALL, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(SettingError, match="disk full"):
        draw_sweep(sweep((3, 7), (1,), (2,)), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([row(5, 1, 2)], {"cost-against-settings", "e4-against-gcnn"}),
        (sweep((5,), (1,), (2,)), {"cost-against-settings"}),
        (sweep((5,), (1, 2), (2,)), set()),
        ([{**item, "fvcore": None, "thop": None, "gaps": {}} for item in SMALL], {"stock-counters"}),
        ([], set(FIGURES)),
        ([row(5, None, None)], set(FIGURES)),
    ],
    ids=["one row", "one E4", "one axis", "no counters", "no row", "baseline only"],
)
def test_what_the_rows_cannot_fill_is_left_out(named: None, tmp_path: Path, rows, missing):
    assert {path.stem for path in draw_sweep(rows, tmp_path)} == set(FIGURES) - missing


def test_several_models_and_groups_have_figures_of_their_own(named: None, tmp_path: Path):
    paths = draw_sweep(sweep((3, 5), (1,), (2,)) + sweep((3, 5), (1,), (2,), group="p4m"), tmp_path)
    expected = {f"{name}-e4net-{group}" for name in FIGURES for group in ("p4", "p4m")}
    assert {path.stem for path in paths} == expected


def test_a_model_named_by_a_path_cannot_leave_the_folder(named: None, tmp_path: Path):
    path = "../cards/mine.toml"
    rows = [*SMALL, {**row(5, 1, 2), "model": path, "card": path}]
    paths = draw_sweep(rows, tmp_path / "out")
    assert {path.parent for path in paths} == {tmp_path / "out"}
    assert "named-terms-..-cards-mine.toml-p4.svg" in {path.name for path in paths}


def test_the_table_beside_a_figure_holds_exact_numbers(drawn: list[Path]):
    with (drawn[0].parent / "cost-against-settings.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9
    base = row(5, 1, 2)
    (found,) = [r for r in rows if (r["setting"], r["value"]) == ("kernel", "5")]
    assert int(found["macs_closed"]) == base["macs_formula"]
    assert int(found["macs_printed"]) == base["macs_printed_form"]
    assert int(found["gcnn_macs"]) == row(5, None, None)["macs_formula"]


def test_cost_shows_printed_exact_gcnn_and_measured_along_each_axis():
    plot = draw("cost-against-settings", sweep())
    macs = plot.figure.axes[:3]
    assert [axes.get_xlabel() for axes in plot.figure.axes[3:]] == ["reduction r", "slices s", "kernel k"]
    for axes, values, settings in zip(
        macs,
        ((1, 2, 4), (1, 2, 4), (3, 5, 7)),
        ([(5, r, 2) for r in (1, 2, 4)], [(5, 1, s) for s in (1, 2, 4)], [(k, 1, 2) for k in (3, 5, 7)]),
        strict=True,
    ):
        rows = [row(*setting) for setting in settings]
        printed, exact, gcnn, *measured = axes.get_lines()
        assert tuple(exact.get_xdata()) == values
        assert list(exact.get_ydata()) == [item["macs_formula"] / 1e6 for item in rows]
        assert list(printed.get_ydata()) == [item["macs_printed_form"] / 1e6 for item in rows]
        assert list(gcnn.get_ydata()) == [row(k, None, None)["macs_formula"] / 1e6 for k, _, _ in settings]
        assert [(*m.get_xdata(), *m.get_ydata()) for m in measured] == [
            (value, item["macs_measured"] / 1e6) for value, item in zip(values, rows, strict=True)
        ]
    caption = " ".join(" ".join(texts(plot.figure)).split())
    assert says(caption, "held", "kernel k=5, reduction r=1, slices s=2; p4")
    assert "disagrees" not in caption


def test_a_setting_that_disagrees_is_marked():
    rows = sweep()
    wrong = next(item for item in rows if (item["kernel"], item["reduction"], item["slices"]) == (7, 1, 2))
    wrong.update(macs_measured=1, agrees=False)
    plot = draw("cost-against-settings", rows)
    assert [line.get_marker() for line in plot.figure.axes[2].get_lines()[3:]] == ["o", "o", "X"]
    assert "measured, disagrees" in texts(plot.figure)


def test_without_the_papers_setting_the_first_value_is_held():
    base = study(sweep((7, 9), (2, 4), (8, 16))).base
    assert (base["kernel"], base["reduction"], base["slices"]) == (7, 2, 8)


def test_width_has_a_panel_when_it_varies():
    plot = draw("cost-against-settings", sweep((5,), (1,), (2,)) + sweep((5,), (1,), (2,), width=32))
    assert [axes.get_xlabel() for axes in plot.figure.axes] == ["", "width c"]


def test_each_setting_stands_beside_its_own_baseline():
    plot = draw("e4-against-gcnn", sweep())
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
    plot = draw("e4-against-gcnn", rows)
    assert "0.33×" in texts(plot.figure.axes[0])
    assert [item["macs_ratio"] for item in plot.data][1] == 1 / 3
    assert str([item["macs_ratio"] for item in plot.data][1]) == "0.3333333333333333"
    assert "–" in texts(plot.figure.axes[1])
    assert "0.33×" not in texts(plot.figure.axes[1])


def test_settings_without_a_baseline_are_left_out_and_said_so():
    rows = [item for item in sweep() if (item["kernel"], item["reduction"]) != (7, None)]
    assert {item["kernel"] for item in gcnn_rows(study(rows))} == {3, 5}
    plot = draw("e4-against-gcnn", rows)
    assert any("18 of 27 settings: those with a baseline." in text for text in texts(plot.figure))


def test_bars_stack_the_named_terms_to_the_whole():
    plot = draw("named-terms", sweep((3, 5, 7), (1, 2), (2,)))
    (axes,) = plot.figure.axes
    settings = [(k, None, None) for k in (3, 5, 7)] + list(itertools.product((3, 5, 7), (1, 2), (2,)))
    macs: dict[str, int] = {}
    for item in plot.data:
        macs[item["model"]] = macs.get(item["model"], 0) + item["macs"]
    assert list(macs.values()) == [row(*setting)["macs_formula"] for setting in settings]
    assert {patch.get_x() + patch.get_width() <= 100.001 for patch in axes.patches} == {True}
    assert "17.64 M" in texts(plot.figure)
    assert "linear (< 0.3%)" in texts(plot.figure)


def test_terms_that_are_not_the_macs_are_refused():
    with pytest.raises(AssertionError, match="are not the 17640160 MACs"):
        term_rows(study([{**row(5, 1, 2), "terms": {"encoder": 5}}]))


def test_many_settings_are_thinned_to_one_changed_value_at_a_time():
    plot = draw("named-terms", sweep())
    assert list(dict.fromkeys(item["model"] for item in plot.data)) == [
        *(f"G-CNN k={k}" for k in (3, 5, 7)),
        "k=3 r=1 s=2", "k=5 r=1 s=1", "k=5 r=1 s=2", "k=5 r=1 s=4", "k=5 r=2 s=2", "k=5 r=4 s=2", "k=7 r=1 s=2",
    ]  # fmt: skip
    assert any("7 of 27 settings: one value varied at a time." in text for text in texts(plot.figure))


def test_counters_are_shares_of_what_runs():
    rows = {(item["model"], item["counter"]): item for item in counter_rows(study(sweep((5,), (1,), (2,))))}
    for label, setting in (("G-CNN k=5", row(5, None, None)), ("e4net", row(5, 1, 2))):
        fvcore, thop = rows[label, "fvcore"], rows[label, "thop"]
        macs = setting["macs_measured"]
        assert fvcore["reported_share"] == setting["fvcore"] / macs
        assert fvcore["seen"] == macs - setting["terms"].get("aggregation", 0)
        assert thop["seen"] == setting["terms"]["linear"]
        assert thop["besides"] + thop["seen"] == setting["thop"]


def test_a_counter_that_gave_nothing_is_not_mistaken_for_zero():
    rows = sweep((5,), (1,), (2,))
    rows[1]["thop"], rows[1]["gaps"] = None, {"fvcore": rows[1]["gaps"]["fvcore"]}
    plot = draw("stock-counters", rows)
    assert "–" in texts(plot.figure)
    assert any("the counter gave no figure" in text for text in texts(plot.figure))
    assert [item["reported"] for item in plot.data if item["counter"] == "thop"] == [rows[0]["thop"], None]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_its_convention_and_nothing_overlaps_or_leaves_the_page(name: str):
    long = "a-long-name-e4r18-as-printed"
    rows = [{**item, "model": str(item["model"]).replace("e4net", long), "card": long} for item in sweep()]
    wide = {**rows[14], "width": 32, "terms": {"gate of the attended values": rows[14]["macs_formula"]}}
    plot = draw(name, [*rows, wide])
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


@pytest.mark.parametrize("name", [name for name, card in all_cards().items() if not card.builder])
def test_the_named_terms_of_every_card_are_its_macs(name: str):
    card = all_cards()[name]
    count = count_closed_form(card.build("meta"), card.input_shape())
    assert sum(count.macs_by_term.values()) == count.macs
    assert min(count.macs_by_term.values()) > 0


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordStore, list[dict[str, Any]]]:
    store = RecordStore(tmp_path_factory.mktemp("sweep") / "records.jsonl")
    running = Sweep(make_plan(["p4-sa", "g-p4cnn"]), store)
    list(running.run())
    return store, running.rows_for_figures()


def test_a_sweep_draws_the_macs_of_its_table_and_no_negative_term(swept, tmp_path: Path):
    _, rows = swept
    draw_sweep(rows, tmp_path)
    for name, macs in (("p4-sa", 223_882_496), ("g-p4cnn", 13_462_810)):
        with (tmp_path / f"named-terms-{name}-p4.csv").open(newline="") as stream:
            drawn = [int(item["macs"]) for item in csv.DictReader(stream)]
        assert sum(drawn) == macs
        assert min(drawn) > 0
    assert len(drawn) == 4


def test_a_record_whose_terms_are_not_its_macs_is_measured_again(swept, tmp_path: Path):
    store, rows = swept
    first, second = store.path.read_text().splitlines()
    old = json.loads(first)
    old["counts"]["terms"]["norm charges"] = -5
    path = tmp_path / "records.jsonl"
    path.write_text(f"{json.dumps(old)}\n{second}\n")
    running = Sweep(make_plan(["p4-sa", "g-p4cnn"]), RecordStore(path))
    assert {outcome.setting.model: outcome.resumed for outcome in running.run()} == {"p4-sa": False, "g-p4cnn": True}
    assert running.rows_for_figures() == rows
