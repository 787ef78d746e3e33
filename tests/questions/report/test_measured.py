"""Timings on the page are the committed records', each with its environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e4profile.errors import SettingError
from e4profile.questions.report.measured import measured_tables
from e4profile.records.store import RecordStore
from e4profile.records.times import to_record
from e4profile.witnesses.environment import described
from e4profile.witnesses.timing.samples import Samples, TimeRecord

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
