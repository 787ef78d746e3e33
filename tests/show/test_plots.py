"""The figures of a sweep: what they show, for whole grids and for degenerate ones, and the same bytes each time."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sweep_sample import row, sweep

from e4profile.errors import SettingError
from e4profile.questions.sweep.plots import FIGURES, plot_sweep
from e4profile.questions.sweep.sweep_rows import studies
from e4profile.show.style import COLUMN_CM, paper_style

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
        "import sys; from pathlib import Path; from e4profile.questions.sweep.plots import plot_sweep\n"
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
    ids=["one row", "one E4", "one axis", "no counters", "nothing ran", "no terms", "no row", "baseline only"],
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
    monkeypatch.setattr("e4profile.questions.plot.draw", lambda *_, **__: pytest.fail("drawn all the same"))
    monkeypatch.setattr(sys, "argv", ["e4profile", "plot", "terms", "--out", str(file / "x")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
