"""Timings on the page are the committed records', each with its environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e4profile.errors import SettingError
from e4profile.questions.report import timed
from e4profile.questions.report.measured import measured_tables
from e4profile.records.jobs import worker
from e4profile.records.jobs.setting import TimeSetting
from e4profile.records.store import Record, RecordStore
from e4profile.records.times import to_record
from e4profile.subjects.subject import resolve
from e4profile.witnesses.environment import described
from e4profile.witnesses.timing.clock import MeasurementError
from e4profile.witnesses.timing.samples import Samples, TimeRecord
from tests.program import Run

HERE = {"device": "a CPU", "torch": "2.0", "threads": 1}
THERE = {**HERE, "device": "a GPU"}


def _record(seconds: tuple[float, ...], environment: dict[str, Any]) -> TimeRecord:
    samples = Samples(seconds, 0, 1.0, 3, True, "time", "long enough")
    return TimeRecord(
        "net", "forward", "eval", "", "cpu", "float32", (2, 1, 28, 28), False, False, 1, "wall", samples, environment
    )


def test_timings_of_different_environments_stand_apart_each_with_its_own(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "gpu/times.jsonl")
    for seconds, environment in (((1.0, 2.0, 3.0), HERE), ((0.5,) * 3, THERE), ((4.0,) * 3, HERE)):
        store.append(to_record(_record(seconds, environment)))
    here, there = measured_tables(tmp_path)
    assert [row["median_s"] for row in here.table.rows] == [2.0, 4.0]
    assert [row["median_s"] for row in there.table.rows] == [0.5]
    assert "a CPU" in here.table.title
    assert here.table.notes[-1] == "measured with device a CPU, torch 2.0, threads 1"
    assert "a GPU" in there.table.notes[-1]


def test_results_of_benchmarks_become_tables_by_part(tmp_path: Path) -> None:
    rows = [
        {
            **{"case": "one", "median_s": 0.5, "peak_bytes": 7, "ratio": 2.5, "n": 3},
            **{"on": {"wall_s": [5, 1, 2]}, "fast": True},
        },
        {"case": "two", "median_s": 1, "peak_bytes": None, "ratio": 1, "n": 4, "on": {"wall_s": []}, "fast": False},
    ]
    (tmp_path / "benchmarks").mkdir()
    path = tmp_path / "benchmarks/speed.json"
    path.write_text(json.dumps({"eager": {"environment": HERE, "rows": rows}, "argument": 3}))
    (found,) = measured_tables(tmp_path)
    assert found.table.title == "Speed, eager (benchmarks/speed.json)"
    assert {column.key: column.kind for column in found.table.columns} == {
        "case": "text", "median_s": "seconds", "peak_bytes": "bytes", "ratio": "ratio", "n": "integer",
        "on wall_s": "seconds", "fast": "boolean",
    }  # fmt: skip
    assert [row["median_s"] for row in found.table.rows] == [0.5, 1]
    assert [row["on wall_s"] for row in found.table.rows] == [2.0, None]
    assert found.table.notes == ("times are medians of 3 samples each", described(HERE))
    for key in ("rows", "results"):
        path.write_text(json.dumps({"environment": HERE, key: [{"case": "one", "ratio": 2.5}]}))
        (found,) = measured_tables(tmp_path)
        assert found.table.title == "Speed (benchmarks/speed.json)"
        assert found.table.notes == (described(HERE),)


def test_records_that_cannot_be_read_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu/a.json").write_text("{")
    with pytest.raises(SettingError, match=r"a\.json: cannot be read as JSON"):
        measured_tables(tmp_path)
    (tmp_path / "gpu/a.json").write_text("{}")
    (tmp_path / "gpu/b.jsonl").write_text("no record\n")
    with pytest.raises(SettingError, match="line 1 is skipped"):
        measured_tables(tmp_path)


def test_without_records_there_is_nothing_measured(tmp_path: Path) -> None:
    assert measured_tables(tmp_path) == []


def test_an_environment_that_says_nothing_is_called_unknown() -> None:
    assert described({}) == "measured in an unknown environment"


def test_networks_of_the_tables_are_timed_once_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"z2cnn", "e4net-printed reduction=4"} < {one.full_name for one in timed.table_networks()}
    networks = [resolve("z2cnn", (), {"width": 2}), resolve("p4-cnn", (), {"width": 2})]
    asked = (networks, tmp_path, "cpu", 2, 0.01, None)
    record_of = worker.record_of

    def fails(setting: TimeSetting) -> Record:
        if (setting.network, setting.pass_) == ("p4-cnn", "step"):
            raise MeasurementError("no memory is left")
        return record_of(setting)

    monkeypatch.setattr(worker, "record_of", fails)
    assert timed.time_tables(*asked) == ["p4-cnn width=2, step: no memory is left"]
    monkeypatch.setattr(worker, "record_of", record_of)
    assert timed.time_tables(*asked) == []
    assert "of 4 timings, 3 were read back" in capsys.readouterr().err
    (found,) = measured_tables(tmp_path)
    assert found.table.title.startswith("measured/cpu/times.jsonl: ")
    rows = {(row["network"], row["pass"]) for row in found.table.rows}
    assert rows == {(f"{name} width=2", pass_) for name in ("z2cnn", "p4-cnn") for pass_ in ("forward", "step")}


def test_a_report_that_measures_hands_over_jobs(run: Run) -> None:
    found = run("report", "--measure", "--jobs", "print", "--out", "here", "--job-minutes", "0")
    assert found.code == 0, found.err
    assert found.out.startswith("#!/bin/bash")
    assert "give the script to sbatch" in found.err
    for options, words in (
        (["--jobs", "print"], "add --time, to report --measure"),
        (["--measure", "--check"], "omit"),
    ):
        refused = run("report", *options, "--out", "here")
        assert (refused.code, refused.out) == (2, "")
        assert words in refused.err
