"""``e4profile compare`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from program import Run

from e4profile.records import RecordStore
from e4profile.timing import Samples, TimeRecord


def layer(path: str, params: int) -> dict[str, Any]:
    return {"agrees": True, "path": path, "layer": "Conv2d", "params": params}


def timed(file: Path, median: float, cpu: str = "one") -> Path:
    seconds = tuple(median * (1 + i / 10_000) for i in range(50))
    samples = Samples(seconds, 0, 0.1, 3, True, "noise target", "enough")
    record = TimeRecord(
        "net", "forward", "eval", "", "cpu", "float32", (1, 3, 8, 8), False, False, 1, "cpu", samples, {"cpu": cpu}
    )  # fmt: skip
    RecordStore(file).append(record.to_record())
    return file


@pytest.fixture
def counted(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    before.write_text(json.dumps([layer("conv", 10), layer("head", 5)]))
    after.write_text(json.dumps([layer("conv", 12), layer("head", 5)]))
    return before, after


def test_equal_files_pass(counted, run: Run) -> None:
    done = run("compare", counted[0], counted[0])
    assert done.code == 0
    assert "4 counts: 4 equal, 0 not" in done.out
    done = run("compare", counted[0], counted[0], "--all", "--format", "json")
    rows = json.loads(done.out)
    assert done.code == 0
    assert [(row["verdict"], row["layer"], row["quantity"], row["before"]) for row in rows] == [
        ("equal", "conv", "agrees", 1), ("equal", "conv", "params", 10),
        ("equal", "head", "agrees", 1), ("equal", "head", "params", 5),
    ]  # fmt: skip


def test_a_moved_count_fails_and_is_named(counted, run: Run) -> None:
    done = run("compare", *counted, "--format", "json")
    (row,) = json.loads(done.out)
    assert done.code == 1
    found = [row[key] for key in ("verdict", "layer", "before", "after", "change")]
    assert found == ["differs", "conv", 10, 12, 2]
    assert row["before_s"] is None
    assert "4 counts: 3 equal, 1 not" in done.err


def test_only_a_slower_time_fails(tmp_path: Path, run: Run) -> None:
    quick, slow = timed(tmp_path / "q.jsonl", 1.0), timed(tmp_path / "s.jsonl", 2.0)
    done = run("compare", quick, slow)
    assert done.code == 1
    assert "slower" in done.out
    done = run("compare", slow, quick)
    assert done.code == 0
    assert "1 times: 1 faster" in done.out


def test_mixed_environments_need_a_word(tmp_path: Path, run: Run) -> None:
    files = timed(tmp_path / "a.jsonl", 1.0), timed(tmp_path / "b.jsonl", 1.0, "two")
    done = run("compare", *files)
    assert done.code == 2
    assert "cpu: 'one' against 'two'" in done.err
    done = run("compare", *files, "--allow-mixed", "--format", "json")
    assert done.code == 0
    assert json.loads(done.out)[0]["environments"] == "A B"


@pytest.mark.parametrize("format", ["markdown", "latex", "csv"])
def test_every_format_shows_the_moved_count(counted, run: Run, format: str) -> None:
    done = run("compare", *counted, "--format", format)
    assert done.code == 1
    assert "differs" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.json",), "none.json: cannot be read: No such file"),
        (("--format", "xml"), "unknown format 'xml'"),
        ((), "Missing argument"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(counted, run: Run, arguments, said: str) -> None:
    given = (*counted, *arguments) if arguments[:1] == ("--format",) else (counted[0], *arguments)
    code, out, err = run("compare", *given)
    assert (code, out) == (2, "")
    assert err.startswith("e4profile: ")
    assert said in err
    assert err.count("\n") == 1
