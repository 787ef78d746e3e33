"""The commands that run networks: what they print, keep and refuse. No duration is asserted."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
import torch
from program import says

from e4profile.errors import SettingError
from e4profile.questions.time import runs as time_runs
from e4profile.questions.time.roofline import LayerRoofline, LayerTraffic, Roofline
from e4profile.questions.time.roofline_table import _notes
from e4profile.records.store import RecordStore
from e4profile.records.times import from_record
from e4profile.witnesses.timing.passes import device_named
from e4profile.witnesses.timing.peaks import Peaks
from e4profile.witnesses.timing.samples import Samples

QUICK = ["--min-run-time-s", "0", "--max-run-time-s", "0.02"]
SMALL = ["e4net", "--set", "width=2"]


@pytest.fixture(autouse=True)
def small_peaks(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("e4profile.witnesses.timing.peaks.PRODUCT_SIZE", {"cpu": 8})
    monkeypatch.setattr("e4profile.witnesses.timing.peaks.COPY_BYTES", {"cpu": 1024})


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_pass_and_batch_is_a_row_and_a_record(run, tmp_path):
    file = tmp_path / "times.jsonl"
    code, out, _ = run(
        "time", *SMALL, "--batch-size", "1,2", "--pass", "forward,step", *QUICK, "--out", file, "-f", "csv"
    )
    assert code == 0
    found = [(row["pass"], row["mode"], row["batch_size"], row["execution"]) for row in rows(out)]
    expected = [(p, m, b, "eager") for b in "12" for p, m in (("forward", "eval"), ("step", "train"))]
    assert found == expected
    records = [from_record(record) for record in RecordStore(file).load()]
    assert [record.samples.seconds != () for record in records] == [True] * 4
    assert [str(record.median_s) for record in records] == [row["median_s"] for row in rows(out)]
    assert records[0].arguments["width"] == 2


def test_notes_go_to_stderr_and_json_to_stdout(run):
    code, out, err = run("time", *SMALL, *QUICK, "--format", "json")
    assert code == 0
    assert json.loads(out)[0]["network"] == "e4net width=2"
    assert "e4net width=2: forward, eval, batch of 1" in err


def test_rows_of_one_builder_say_the_arguments_they_were_given(run, tmp_path):
    file = tmp_path / "times.jsonl"
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef build(width=2):\n    return nn.Linear(3, width)\n")
    own = ("net.py:build", "--input", "1x3")
    run("time", *own, "--arg", "width=4", *QUICK, "--out", file)
    code, out, _ = run("time", *own, "--arg", "width=8", *QUICK, "--join", file, "-f", "json")
    assert code == 0
    assert [row["network"] for row in json.loads(out)] == ["net.py:build width=4", "net.py:build width=8"]
    (kept,) = RecordStore(file).load()
    assert (kept.card, kept.arguments) == ("net.py:build", {"width": 4})
    _, out, _ = run("time", *own, *QUICK, "--fits", "1us", "--arg", "width=4", "-f", "json")
    assert json.loads(out)[0]["network"] == "net.py:build width=4"
    _, out, _ = run("memory", *own, "--arg", "width=4", "-f", "json")
    assert json.loads(out)[0]["model"] == "net.py:build width=4"
    recipe = ("--recipe", "epochs=1,batch_size=1,training_images=1")
    _, out, _ = run("training", *own, "--arg", "width=4", *recipe, "-f", "json")
    assert json.loads(out)[0]["network"] == "net.py:build width=4"
    _, out, _ = run("time", *own, *QUICK, "-f", "json")
    assert json.loads(out)[0]["network"] == "net.py:build"


def test_a_breakdown_of_what_has_no_closed_form_says_so_in_its_record(run, tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef build():\n    return nn.Bilinear(3, 3, 2)\n")
    file = tmp_path / "breakdown.jsonl"
    own = ("net.py:build", "--input", "1x3", "--input", "1x3")
    code, _, err = run("time", *own, "--breakdown", *QUICK, "--out", file)
    assert code == 0, err
    assert RecordStore(file).load()[0].counts["witness"] == "dispatch"


def test_records_of_another_environment_are_refused_before_any_time_is_spent(run, tmp_path):
    file = tmp_path / "times.jsonl"
    run("time", *SMALL, *QUICK, "--out", file)
    code, out, err = run("time", *SMALL, *QUICK, "--threads", "2", "--join", file)
    assert (code, out) == (2, "")
    assert "threads: 1 against 2" in err
    assert "batch of" not in err
    code, out, _ = run("time", *SMALL, *QUICK, "--threads", "2", "--join", file, "--mixed", "-f", "csv")
    assert code == 0
    assert [row["environment"] for row in rows(out)] == ["A", "B"]
    code, out, _ = run("time", *SMALL, *QUICK, "--threads", "2", "--join", file, "--mixed")
    assert "2 threads; unlike A in threads: 1 against 2." in " ".join(out.split())
    assert out.count("unlike") == 1
    code, out, _ = run("time", *SMALL, *QUICK, "--join", file, "-f", "csv")
    assert [("environment" in row) for row in rows(out)] == [False, False]


def test_two_networks_are_compared_in_turn(run, tmp_path):
    file = tmp_path / "times.jsonl"
    code, out, _ = run("time", *SMALL, "--against", "e4net", *QUICK, "--out", file, "-f", "json")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["network"], row["against"]) == ("e4net width=2", "e4net")
    assert row["verdict"] in ("faster", "slower", "ambiguous")
    first, second = (from_record(record) for record in RecordStore(file).load())
    assert len(first.samples.seconds) == len(second.samples.seconds) == row["pairs"]
    assert (first.arguments["width"], second.arguments["width"]) == (2, 16)


def test_a_page_says_the_threads_that_were_used(run, tmp_path, two_threads):
    for threads, asked in (("1", ["--threads", "1"]), ("2", [])):
        # those of this PyTorch where none are asked for
        assert run("time", *SMALL, *QUICK, *asked, "--html", tmp_path / "page.html")[0] == 0
        text = (tmp_path / "page.html").read_text()
        assert set(re.findall(r"threads (\d),", text)) == {threads}


def test_a_breakdown_adds_up_in_its_table(run, tmp_path, two_threads):
    file = tmp_path / "breakdown.jsonl"
    code, out, _ = run("time", *SMALL, "--breakdown", *QUICK, "--threads", "1", "-f", "json", "--out", file)
    assert code == 0
    (kept,) = RecordStore(file).load()
    assert (kept.kind, kept.counts["total_s"]) == ("breakdown", json.loads(out)[-1]["seconds"])
    assert (kept.card, kept.counts["witness"]) == ("e4net width=2", "closed form")
    assert (kept.arguments["threads"], kept.environment["threads"]) == (1, 1)
    *terms, total = json.loads(out)
    assert total["term"] == "total"
    assert sum(row["seconds"] for row in terms) == pytest.approx(total["seconds"])
    assert sum(row["time_percent"] for row in terms) == pytest.approx(100)
    assert sum(row["macs"] or 0 for row in terms) == total["macs"]
    assert next(row for row in terms if row["term"] == "unattributed")["macs"] is None


def test_the_roofline_lists_layers_and_draws_them(run, tmp_path):
    code, out, err = run(
        "time", *SMALL, "--roofline", "--reference", "--max-run-time-s", "0.02", "--plot", tmp_path, "-f", "csv",
        "--out", tmp_path / "roofline.jsonl",
    )  # fmt: skip
    assert code == 0
    kept = RecordStore(tmp_path / "roofline.jsonl").load()
    names = ["e4net width=2", "e4net width=2, reference"]
    assert [(record.kind, record.card) for record in kept] == [("roofline", name) for name in names]
    found = rows(out)
    assert {row["network"] for row in found} == set(names)
    assert sum(row["path"] == "whole pass" for row in found) == 2
    assert {row["bound"] for row in found} <= {"compute", "memory", ""}
    assert sorted(path.suffix for path in tmp_path.glob("roofline-e4net-width-2-cpu-float32.*")) == [
        ".csv",
        ".png",
        ".svg",
    ]
    assert err.count("wrote ") == 3
    assert list((tmp_path / "cache").rglob("*.json"))


def test_budgets_stand_side_by_side(run):
    code, out, err = run("training", "e4net", "r18", "-f", "json")
    assert code == 0
    assert [(row["network"], row["steps"]) for row in json.loads(out)] == [("e4net", 15800), ("r18", 78200)]
    assert "a step of" not in err
    code, out, _ = run("training", "e4net", "--recipe", "r18", "--recipe", "epochs=1", "-f", "json")
    assert json.loads(out)[0]["steps"] == 391


def test_a_measured_budget_has_hours(run):
    values = ["--recipe", "batch_size=2", "--recipe", "epochs=1", "--recipe", "training_images=5"]
    code, out, err = run("training", *SMALL, *values, "--device", "cpu", "--max-run-time-s", "0.02", "-f", "json")
    assert code == 0
    (row,) = json.loads(out)
    assert row["hours"] == pytest.approx(3 * row["step_s"] / 3600)
    assert "a step of 2 images on cpu" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["time", "e4nett"], "did you mean e4net"),
        (["time", "e4net", "--pass", "sideways"], "unknown pass 'sideways'"),
        (["time", "e4net", "--mode", "test"], "unknown mode 'test'"),
        (["time", "e4net", "--dtype", "float33"], "did you mean float32"),
        (["time", "e4net", "--batch-size", "0"], "--batch-size (=0)"),
        (["time", "e4net", "--batch-size", "many"], "--batch-size: 'many'"),
        (["time", "e4net", "--threads", "0"], "--threads (=0)"),
        (["time", "e4net", "--format", "xml"], "unknown format 'xml'"),
        (["time", "e4net", "--join", "nowhere.jsonl"], "--join: nowhere.jsonl does not exist"),
        (["time", "e4net", "--breakdown", "--against", "r18"], "--breakdown profiles one network"),
        (["time", "e4net", "--breakdown", "--batch-size", "1,2", "-f", "json"], "json holds one"),
        (["time", "e4net", "--max-run-time-s", "-1"], "--max-run-time-s"),
        (
            ["time", "e4net", "--min-run-time-s", "5", "--max-run-time-s", "1"],
            "min_run_time_s (=5) must not be negative or exceed max_run_time_s (=1)",
        ),
        (["time", "e4net", "--roofline", "--batch-size", "0"], "--batch-size (=0)"),
        (["time", "r18", "--roofline", "--reference"], "no aggregation"),
        (["time", "e4net", "--roofline", "--device", "tpu"], "tpu"),
        (["training", "e4net", "--recipe", "epoch=3"], "did you mean epochs"),
        (["training", "z2cnn"], "lacks"),
        (["training", "e4net", "--device", "tpu"], "tpu"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_missing_gpu_is_one_line(run):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    for device in ("cuda", "cuda:7"):
        code, _, err = run("time", "e4net", "--device", device)
        assert code == 2
        assert f"device (='{device}') is not available: this torch finds no CUDA" in err.strip().splitlines()[-1]


def test_a_device_beyond_the_last_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SettingError, match=r"device \(='cuda:2'\) is not available: .* cuda:0 to cuda:1"):
        device_named("cuda:2")
    assert device_named("cuda:1").index == 1


@pytest.mark.parametrize("finished", [0, 1])
def test_an_interrupted_command_says_whether_a_record_was_written(run, monkeypatch, tmp_path, finished):
    file = tmp_path / "times.jsonl"
    whole, done = time_runs.timed, []

    def timed(*arguments, **options):
        if len(done) == finished:
            raise KeyboardInterrupt
        done.append(arguments)
        return whole(*arguments, **options)

    monkeypatch.setattr(time_runs, "timed", timed)
    code, _, err = run("time", *SMALL, "--batch-size", "1,2", *QUICK, "--out", file)
    assert code == 130
    nothing, something = "nothing was finished yet: no record was written to", "the records of what was finished are in"
    assert f"{something if finished else nothing} {file}" in err
    assert len(file.read_text().splitlines() if file.exists() else []) == finished


def test_layers_above_the_roof_are_explained_by_their_bound():
    peaks = Peaks(1e9, 1e9, "cpu", "float32", 1, {})

    def layer(path: str, macs: int, moved: int, seconds: float) -> LayerRoofline:
        return LayerRoofline(LayerTraffic(path, "Layer", macs, moved), seconds, peaks)

    def found(*layers: LayerRoofline, whole_s: float = 1.0) -> str:
        samples = Samples((whole_s,) * 20, 0, whole_s, 3, True, "noise target", "")
        return "\n".join(_notes([Roofline("net", (1, 1, 1, 1), peaks, layers, samples)]))

    below = found(layer("under", 10**9, 10, 2.0), layer("cached", 10, 10**9, 0.5))
    assert says(below, "bound by memory (cached)", "cache")
    assert "compute" not in below
    assert says(below, "1.500 s more than the whole pass", "overhead")
    above = found(layer("fast", 10**9, 10, 0.5))
    assert says(above, "bound by compute (fast)", "fewer products")
    assert "--refresh measures it anew" in above
    assert "cache" not in above
    assert "the remaining 500.0 ms of the whole pass is time between layers" in above
    assert "Above 100%" not in found(layer("under", 10**9, 10, 2.0))
