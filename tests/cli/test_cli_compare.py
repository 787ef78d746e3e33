"""``e4profile compare`` as a user runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from e4profile.cli.main import main
from e4profile.records import RecordStore
from e4profile.timing import Samples, TimeRecord


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["e4profile", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


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


def test_equal_files_pass(counted, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "compare", counted[0], counted[0]) == 0
    assert "4 counts: 4 equal, 0 not" in capsys.readouterr().out
    assert run(monkeypatch, "compare", counted[0], counted[0], "--all", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["verdict"], row["layer"], row["quantity"], row["before"]) for row in rows] == [
        ("equal", "conv", "agrees", 1), ("equal", "conv", "params", 10),
        ("equal", "head", "agrees", 1), ("equal", "head", "params", 5),
    ]  # fmt: skip


def test_a_moved_count_fails_and_is_named(counted, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "compare", *counted, "--format", "json") == 1
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)
    assert (row["verdict"], row["layer"], row["before"], row["after"], row["change"]) == (
        "differs",
        "conv",
        10,
        12,
        2,
    )
    assert row["before_s"] is None
    assert "4 counts: 3 equal, 1 not" in captured.err


def test_only_a_slower_time_fails(tmp_path: Path, monkeypatch, capsys) -> None:
    quick, slow = timed(tmp_path / "q.jsonl", 1.0), timed(tmp_path / "s.jsonl", 2.0)
    assert run(monkeypatch, "compare", quick, slow) == 1
    assert "slower" in capsys.readouterr().out
    assert run(monkeypatch, "compare", slow, quick) == 0
    assert "1 times: 1 faster" in capsys.readouterr().out


def test_mixed_environments_need_a_word(tmp_path: Path, monkeypatch, capsys) -> None:
    files = timed(tmp_path / "a.jsonl", 1.0), timed(tmp_path / "b.jsonl", 1.0, "two")
    assert run(monkeypatch, "compare", *files) == 2
    assert "cpu: 'one' against 'two'" in capsys.readouterr().err
    assert run(monkeypatch, "compare", *files, "--allow-mixed", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["environments"] == "A B"


@pytest.mark.parametrize("format", ["markdown", "latex", "csv"])
def test_every_format_shows_the_moved_count(counted, monkeypatch, capsys, format: str) -> None:
    assert run(monkeypatch, "compare", *counted, "--format", format) == 1
    assert "differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.json",), "none.json: cannot be read: No such file"),
        (("--format", "xml"), "unknown format 'xml'"),
        ((), "Missing argument"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(counted, monkeypatch, capsys, arguments, said: str) -> None:
    given = (*counted, *arguments) if arguments[:1] == ("--format",) else (counted[0], *arguments)
    assert run(monkeypatch, "compare", *given) == 2
    err = capsys.readouterr().err
    assert err.startswith("e4profile: ")
    assert said in err
    assert err.count("\n") == 1
