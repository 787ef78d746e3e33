"""The registry and the command: every kind by name, the same bytes each time, one line for a mistake."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

import e4profile.questions
from e4profile.cli.main import main
from e4profile.errors import SettingError, UnknownNameError
from e4profile.networks.cards import find_card
from e4profile.questions.figures import NothingRecorded, draw, draw_all, figures, find_figure
from e4profile.questions.time.figure import breakdown_record, share_plot, share_rows
from e4profile.questions.time.figure_roofline import roofline_plots, roofline_record, roofline_rows
from e4profile.questions.time.roofline import LayerRoofline, LayerTraffic, Roofline
from e4profile.records.store import Record, RecordStore
from e4profile.subjects.subject import resolve
from e4profile.witnesses.timing.breakdown import Breakdown, TermShare
from e4profile.witnesses.timing.peaks import Peaks
from e4profile.witnesses.timing.samples import Samples

WHOLE = Samples(
    seconds=(0.1, 0.1), dropped=0, first_call_s=0.2, warm_up_calls=1, warm_up_stable=True, stopped_by="noise",
    stopped_because="stable",
)  # fmt: skip


def breakdown(name: str = "e4net", convolution_s: float = 0.03) -> Record:
    terms = (
        TermShare("convolution", convolution_s, convolution_s / 0.1, 900, 0.9),
        TermShare("aggregation", 0.05, 0.5, 100, 0.1),
    )
    found = Breakdown(name, "forward", "eval", (4, 1, 28, 28), terms, 0.02, 0.1, 5, WHOLE)
    return breakdown_record(found, "cpu", "float32", 1, {"device": "A CPU"})


def roofline(name: str = "e4net") -> Record:
    peaks = Peaks(1e9, 1e8, "cpu", "float32", 1, {"device": "A CPU"})
    layer = LayerRoofline(LayerTraffic("layer1", "Conv2d", 1000, 100), 1e-5, peaks)
    return roofline_record(Roofline(name, (4, 1, 28, 28), peaks, (layer,), WHOLE))


def test_measured_shares_and_layers_have_their_spread() -> None:
    """Quartiles are in the record, in the figure's numbers and drawn; records of before have none."""
    terms = (TermShare("convolution", 0.03, 0.3, 900, 0.9, (0.25, 0.4)), TermShare("linear", 0.05, 0.5, 100, 0.1))
    found = Breakdown("e4net", "forward", "eval", (4, 1, 28, 28), terms, 0.02, 0.1, 5, WHOLE)
    record = breakdown_record(found, "cpu", "float32", 1, {"device": "A CPU"})
    shares = share_plot("share", share_rows([record, breakdown("p4-cnn")]))
    assert [(row["time_share_q1"], row["time_share_q3"]) for row in shares.data[:2]] == [(0.25, 0.4), (None, None)]
    assert [list(line.get_xdata()) for line in shares.figure.axes[0].lines] == [[25.0, 40.0]]
    peaks = Peaks(1e9, 1e8, "cpu", "float32", 1, {"device": "A CPU"})
    layer = LayerRoofline(LayerTraffic("layer1", "Conv2d", 1000, 100), 1e-5, peaks, (8e-6, 2e-5))
    roofs = roofline_plots("roof", roofline_rows([roofline_record(Roofline("e4net", (4,), peaks, (layer,), WHOLE))]))
    assert (roofs[0].data[0]["measured_q1_s"], roofs[0].data[0]["measured_q3_s"]) == (8e-6, 2e-5)
    assert pytest.approx([1.25e8, 5e7]) in [list(line.get_ydata()) for line in roofs[0].figure.axes[0].lines]
    assert "measured_q1_s" not in roofline_plots("roof", roofline_rows([roofline()]))[0].data[0]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    store = RecordStore(tmp_path / "records" / "times.jsonl")
    for record in (breakdown(), breakdown("p4-cnn"), roofline(), roofline("e4net, reference")):
        store.append(record)
    return tmp_path / "records"


def test_the_kinds():
    # those without a place follow, by name
    assert [figure.kind for figure in figures().values() if figure.place < 100] == [
        "cost", "ratio-map", "terms", "counters", "accuracy", "executions", "share", "roofline", "memory",
        "training",
    ]  # fmt: skip
    for figure in figures().values():
        assert len(figure.meaning) < 100
        assert "\n" not in figure.meaning
        assert figure.records or figure.default_models()
        assert all(find_card(name).name == name for name in figure.default_models())


def test_finding_the_figures_loads_neither_torch_nor_matplotlib():
    script = (
        "import sys; from e4profile.questions.figures import figures\n"
        "assert figures()\n"
        "print(sorted({'torch', 'matplotlib', 'sympy', 'numpy'} & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_a_figure_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").write_text("")
    (tmp_path / "room" / "figure_new.py").write_text(
        "from e4profile.questions.figures import Figure\n"
        "FIGURE = Figure('new', 'what it shows', len, lambda name, rows: [])\n"
    )
    monkeypatch.setattr("e4profile.questions.__path__", [*e4profile.questions.__path__, str(tmp_path)])
    figures.cache_clear()
    try:
        assert "new" in figures()
    finally:
        figures.cache_clear()


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown figure 'counter'; did you mean counters"):
        find_figure("counter")


def test_three_files_with_the_same_bytes_each_time(tmp_path: Path):
    first = draw("ratio-map", ["e4net"], tmp_path / "a")
    second = draw("ratio-map", [resolve("e4net")], tmp_path / "b")
    assert [path.name for path in first] == [f"ratio-map-e4net.{ending}" for ending in ("svg", "png", "csv")]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with first[2].open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 40
    assert [row["e4"] for row in rows if row["own"] == "True" and row["quantity"] == "params"] == ["18156"]


def test_labelled_points_give_the_same_bytes_too(tmp_path: Path):
    first, second = (draw("accuracy", ["r18", "p4-r18"], tmp_path / name) for name in "ab")
    assert [path.name for path in first][::3] == ["accuracy-r18-p4-r18-cifar10.svg", "accuracy-r18-p4-r18-cifar100.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_files_are_named_after_at_most_three_networks(tmp_path: Path):
    paths = draw("terms", ["r18", "p4-cnn", "e4net", "p4-e4r18"], tmp_path, formats=["csv"])
    assert [path.name for path in paths] == ["terms-r18-p4-cnn-and-2-more.csv"]


def test_times_come_from_records_only(tmp_path: Path, records: Path):
    with pytest.raises(NothingRecorded, match="share: no record of kind 'breakdown' in empty"):
        draw("share", (), tmp_path, records=tmp_path / "empty")
    with pytest.raises(NothingRecorded, match="of e4net-large in records"):
        draw("roofline", ["e4net-large"], tmp_path, records=records)
    assert draw("share", ["p4-cnn"], tmp_path, records=records)[0].name == "share-p4-cnn.svg"
    (path,) = draw("roofline", ["e4net"], tmp_path, records=records, formats=["csv"])
    assert path.read_text().startswith("series,path,layer,")
    assert len(path.read_text().splitlines()) == 3


def test_shares_are_of_the_pass_and_of_its_macs_and_the_last_record_counts():
    rows = share_rows([breakdown(convolution_s=0.01), breakdown()])
    assert [(row["term"], row["time_share"], row["mac_share"]) for row in rows] == [
        ("convolution", pytest.approx(0.3), 0.9), ("aggregation", 0.5, 0.1), ("unattributed", pytest.approx(0.2), 0.0),
    ]  # fmt: skip
    assert {row["device"] for row in rows} == {"A CPU"}


def test_a_roofline_record_gives_its_layers_back():
    (row,) = roofline_rows([roofline(), breakdown()])
    assert (row["model"], row["path"], row["layer"], row["macs"], row["bytes"], row["measured_s"]) == (
        "e4net", "layer1", "Conv2d", 1000, 100, 1e-5,
    )  # fmt: skip
    assert (row["macs_per_s"], row["bytes_per_s"], row["roof"]) == (1e9, 1e8, "A CPU, float32, threads 1")


def test_a_record_without_its_values_is_named():
    broken = Record(kind="breakdown", card="net", arguments={}, counts={"terms": []}, counters={})
    with pytest.raises(SettingError, match="the breakdown of 'net' lacks"):
        share_rows([broken])


def test_draw_all_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Path):
    few = {kind: figures()[kind] for kind in ("ratio-map", "share", "roofline")}
    monkeypatch.setattr("e4profile.questions.figures.figures", lambda: few)
    notes: list[str] = []
    paths = draw_all(tmp_path / "reports" / "figures", notes=notes)
    assert {path.name.partition(".")[0] for path in paths} == {"ratio-map-e4net", "ratio-map-p4m-e4r18"}
    assert [note.partition(":")[0] for note in notes] == ["share", "roofline"]
    paths = draw_all(records / "figures")
    assert {"share.svg", "roofline.svg"} < {path.name for path in paths}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["e4profile", "plot", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        # the first line says the new name
        return int(ended.value.code or 0), captured.out, captured.err.partition("\n")[2]

    return run


def test_the_command_writes_and_prints_the_paths(command, tmp_path: Path):
    code, out, _ = command("terms", "e4net", "--set", "width=32", "--format", "csv", "--out", str(tmp_path))
    assert (code, out) == (0, f"{tmp_path / 'terms-e4net-width-32.csv'}\n")
    assert "e4net width=32,encoder," in (tmp_path / "terms-e4net-width-32.csv").read_text()


def test_the_command_lists_every_kind_in_whole_words(command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = command("--list")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 60
    words = " ".join(out.split())
    for figure in figures().values():
        assert f"{figure.kind} {figure.meaning} default: " in words
    assert "\u2026" not in out
    assert words.count("cards only") == sum(bool(figure.only_cards) for figure in figures().values()) > 0


NETS = """
import torch
from torch import nn
from e4profile.layers import Chain, GroupConv2d, GroupMaxPool, LiftingConv2d

class Two(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3, bias=False), nn.Linear(5, width, bias=False)

    def forward(self, image, extra):
        return self.a(image).mean((2, 3)) + self.b(extra)

def ours():
    return Chain(lift=LiftingConv2d(3, 2, 3, group="p4"), conv=GroupConv2d(2, 2, 3, group="p4"))

def plain(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.Flatten(), nn.Linear(36 * width, 5, bias=False))

def fails():
    return nn.Conv2d(9, 1, 3)
"""


@pytest.fixture
def own(command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)

    def run(*arguments: str) -> tuple[int, dict[str, list[dict[str, str]]], str]:
        code, out, err = command(*arguments, "-f", "csv", "--out", "figures")
        found = {}
        for line in out.splitlines():
            with Path(line).open() as stream:
                found[Path(line).name] = list(csv.DictReader(stream))
        return code, found, err

    return run


def test_terms_of_models_of_ones_own(own):
    code, found, _ = own("terms", "nets.py:ours", "nets.py:plain", "z2cnn", "--input", "1x3x8x8")
    assert code == 0
    (rows,) = found.values()
    macs = {(row["model"], row["term"]): int(row["macs"]) for row in rows}
    # by topology where there is a closed form of the whole, by kind otherwise
    assert macs["nets.py:ours", "lifting"] == 27 * 8 * 36
    assert macs["nets.py:ours", "group convolution"] == 8 * 8 * 9 * 16
    assert macs["nets.py:plain", "convolution"] == 27 * 4 * 36
    assert macs["nets.py:plain", "linear"] == 144 * 5
    assert any(model == "z2cnn" for model, _ in macs)


def test_counters_of_models_of_ones_own(own):
    code, found, _ = own("counters", "nets.py:Two", "--input", "2x3x8x8", "--input", "2x5", "--arg", "width=4")
    assert code == 0
    rows = found["counters-nets.py-Two-width-4.csv"]
    assert {row["model"] for row in rows} == {"nets.py:Two width=4"}
    assert {row["macs"] for row in rows} == {str(2 * (27 * 4 * 36 + 20))}


def test_memory_of_models_of_ones_own(own):
    code, found, _ = own("memory", "nets.py:Two", "--input", "1x3x8x8", "--input", "1x5")
    assert code == 0
    (rows,) = found.values()
    assert [row["batch_size"] for row in rows] == ["2", "8", "32", "128", "512"]
    assert int(rows[-1]["peak_bytes"]) > 10 * int(rows[0]["peak_bytes"])
    code, _, err = own("memory", "nets.py:Two", "--input", "1x3x8x8", "--input", "2x5")
    assert code == 2
    assert "must be the batch, which the figure varies" in err


def test_what_a_model_of_ones_own_raises_names_its_module(own):
    for kind in ("terms", "counters", "memory"):
        code, found, err = own(kind, "nets.py:fails", "--input", "1x3x8x8")
        assert (code, found) == (2, {})
        assert "in the network itself (Conv2d): RuntimeError" in err.splitlines()[0]


def test_recorded_models_of_ones_own_are_drawn_without_running_them(own, records: Path):
    RecordStore(records / "times.jsonl").append(breakdown("none.py:gone"))
    code, found, _ = own("share", "none.py:gone", "--records", str(records))
    assert code == 0
    assert {row["model"] for row in found["share-none.py-gone.csv"]} == {"none.py:gone"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cots",), "unknown figure 'cots'; did you mean cost"),
        ((), "which figure? KIND is one of cost, ratio-map"),
        (("cost", "e4nt"), "unknown model 'e4nt'; did you mean e4net"),
        (("terms", "e4net", "--set", "widht=3"), "unknown argument of e4net 'widht'; did you mean width?"),
        (("accuracy", "--set", "width=3"), "--set: accuracy shows what was published"),
        (("terms", "--format", "eps"), "unknown figure format 'eps'"),
        (("ratio-map", "r18"), "r18 has no E4 layers"),
        (("share", "--records", "nowhere"), "share: no record of kind 'breakdown' in nowhere"),
        (("cost", "nets.py:build"), "cost cannot show nets.py:build, a user-defined model: it varies a card's group"),
        (("ratio-map", "nets.py:build"), "ratio-map cannot show nets.py:build, a user-defined model: "),
        (("accuracy", "nets.py:build"), "accuracy cannot show nets.py:build, a user-defined model: it shows published"),
        (("training", "nets.py:build"), "training cannot show nets.py:build, a user-defined model: "),
        (("share", "nets.py:build", "--input", "1x3"), "share is drawn from records, which no --input or argument"),
        (("memory", "--input", "1x3x8x8"), "--input applies to a user-defined model: name it"),
        (("counters", "nets.py:build"), "nets.py:build needs its inputs"),
        (("terms", "r18", "--arg", "widht=3"), "unknown argument of r18 'widht'; did you mean width"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(command, arguments, message, tmp_path: Path):
    code, out, err = command(*arguments, *(["--out", str(tmp_path)]))
    assert (code, out) == (2, "")
    assert err.startswith(f"e4profile: {message}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_below_a_file_is_refused_before_anything_is_drawn(command, tmp_path: Path, monkeypatch):
    (tmp_path / "afile").write_text("")
    monkeypatch.setattr("e4profile.questions.figures.draw", lambda *_, **__: pytest.fail("drawn all the same"))
    code, _, err = command("terms", "--out", str(tmp_path / "afile" / "x"))
    assert code == 2
    assert "afile is a file; name another folder" in err


def test_a_command_draws_what_it_shows(monkeypatch, capsys, tmp_path: Path):
    from program import caller

    run = caller(capsys, monkeypatch)
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    for command, kinds in (("count", ("terms", "counters")), ("memory", ("memory",))):
        found = run(command, "p4-cnn", "--plot", beside, "-f", "json")
        assert found.code == 0
        for kind in kinds:
            for path in draw(kind, [resolve("p4-cnn")], alone):
                assert (beside / path.name).read_bytes() == path.read_bytes()
                assert f"wrote {beside / path.name}" in found.err
    for _ in range(2):  # a file that is there is written anew
        found = run("count", "p4-cnn", "--plot", tmp_path / "x.pdf", "-f", "json")
        assert (found.code, sorted(path.name for path in tmp_path.glob("*.pdf"))) == (
            0,
            ["x-counters.pdf", "x-terms.pdf"],
        )
    found = run("memory", "p4-cnn", "--plot", beside, "--pass", "forward")
    assert (found.code, found.out) == (2, "")
    assert "omit --pass forward" in found.err


RECIPE = "training_images=60000,epochs=1,batch_size=64,optimiser=sgd"


def test_other_commands_draw_what_they_show(monkeypatch, capsys, tmp_path: Path):
    from program import caller

    run = caller(capsys, monkeypatch)
    for command, drawn in (
        (("training", "basiccnn-r4", "--recipe", RECIPE), "training-basiccnn-r4"),
        (("formula", "e4", "--of", "e4net"), "ratio-map-e4net"),
        (("time", "p4-cnn", "--breakdown", "--max-run-time-s", "0.01"), "share-p4-cnn"),
    ):
        assert run(*command, "--plot", tmp_path).code == 0
        assert {path.suffix for path in tmp_path.glob(f"{drawn}.*")} == {".svg", ".png", ".csv"}
    assert run("published", "gcnn-2016", "--plot", tmp_path).code == 0
    assert list(tmp_path.glob("accuracy-*-cifar10.csv"))
    for command, said in ((("training", "e4net"), "e4net is not one"), (("formula", "e4"), "name it, --of e4net")):
        found = run(*command, "--plot", tmp_path)
        assert (found.code, found.out) == (2, "")
        assert said in found.err
