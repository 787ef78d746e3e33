"""``e4profile guard diff`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from program import Run, says

from e4profile.records.store import RecordStore
from e4profile.records.times import to_record
from e4profile.witnesses.timing.samples import Samples, TimeRecord


def layer(path: str, params: int) -> dict[str, Any]:
    return {"agrees": True, "path": path, "layer": "Conv2d", "params": params}


def timed(file: Path, median: float, cpu: str = "one") -> Path:
    seconds = tuple(median * (1 + i / 10_000) for i in range(50))
    samples = Samples(seconds, 0, 0.1, 3, True, "noise target", "enough")
    record = TimeRecord(
        "net", "forward", "eval", "", "cpu", "float32", (1, 3, 8, 8), False, False, 1, "cpu", samples, {"cpu": cpu}
    )  # fmt: skip
    RecordStore(file).append(to_record(record))
    return file


@pytest.fixture
def counted(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    before.write_text(json.dumps([layer("conv", 10), layer("head", 5)]))
    after.write_text(json.dumps([layer("conv", 12), layer("head", 5)]))
    return before, after


def test_equal_files_pass(counted, run: Run) -> None:
    done = run("guard", "diff", counted[0], counted[0])
    assert done.code == 0
    assert "4 counts: 4 equal, 0 not" in done.out
    done = run("guard", "diff", counted[0], counted[0], "--all", "--format", "json")
    rows = json.loads(done.out)
    assert done.code == 0
    assert [(row["verdict"], row["layer"], row["quantity"], row["before"]) for row in rows] == [
        ("equal", "conv", "agrees", 1), ("equal", "conv", "params", 10),
        ("equal", "head", "agrees", 1), ("equal", "head", "params", 5),
    ]  # fmt: skip


def test_a_moved_count_fails_and_is_named(counted, run: Run) -> None:
    done = run("guard", "diff", *counted, "--format", "json")
    (row,) = json.loads(done.out)
    assert done.code == 1
    found = [row[key] for key in ("verdict", "layer", "before", "after", "change")]
    assert found == ["differs", "conv", 10, 12, 2]
    assert row["before_s"] is None
    assert "4 counts: 3 equal, 1 not" in done.err


def test_only_a_slower_time_fails(tmp_path: Path, run: Run) -> None:
    quick, slow = timed(tmp_path / "q.jsonl", 1.0), timed(tmp_path / "s.jsonl", 2.0)
    done = run("guard", "diff", quick, slow)
    assert done.code == 1
    assert "slower" in done.out
    done = run("guard", "diff", slow, quick)
    assert done.code == 0
    assert "1 times: 1 faster" in done.out


def test_mixed_environments_need_a_word(tmp_path: Path, run: Run) -> None:
    files = timed(tmp_path / "a.jsonl", 1.0), timed(tmp_path / "b.jsonl", 1.0, "two")
    done = run("guard", "diff", *files)
    assert done.code == 2
    assert "cpu: 'one' against 'two'" in done.err
    done = run("guard", "diff", *files, "--allow-mixed", "--format", "json")
    assert done.code == 0
    assert json.loads(done.out)[0]["environments"] == "A B"


@pytest.mark.parametrize("format", ["markdown", "latex", "csv"])
def test_every_format_shows_the_moved_count(counted, run: Run, format: str) -> None:
    done = run("guard", "diff", *counted, "--format", format)
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
    code, out, err = run("guard", "diff", *given)
    assert (code, out) == (2, "")
    assert err.startswith("e4profile: ")
    assert said in err
    assert err.count("\n") == 1


def written(run: Run, file: Path, *arguments: str) -> Path:
    done = run("count", *arguments, "--format", "json")
    file.write_text(done.out)
    return file


def test_witnesses_that_say_the_same_are_one_row_and_totals_are_named(tmp_path: Path, run: Run) -> None:
    before = written(run, tmp_path / "a.json", "e4net", "--set", "kernel=5")
    after = written(run, tmp_path / "b.json", "e4net", "--set", "width=8")
    done = run("guard", "diff", before, after)
    lines = [line.split() for line in done.out.splitlines() if " classifier " in line or "(total)" in line]
    assert [line[2] for line in lines] == ["(total)"] * 4 + ["classifier"] * 2
    assert "MACs (closed form, dispatch, fvcore, thop)" in done.out
    assert lines[-1][-4:] == ["160", "80", "-80", "-50.00%"]
    # what differs stands first in both lines, and the others in one order
    notes = [line.partition("(")[2] for line in done.out.splitlines() if ": e4net (" in line]
    assert [note.split(",")[0] for note in notes] == ["width=16", "width=8"]
    assert notes[0].partition(",")[2] == notes[1].partition(",")[2]
    exact = json.loads(run("guard", "diff", before, after, "--format", "json").out)
    assert {row["quantity"] for row in exact} == {
        "params", "closed_form", "dispatch", "fvcore", "thop"
    }  # fmt: skip


def test_different_networks_show_totals_only(tmp_path: Path, run: Run) -> None:
    before, after = written(run, tmp_path / "a.json", "e4net"), written(run, tmp_path / "b.json", "p4-cnn")
    done = run("guard", "diff", before, after)
    assert done.code == 1
    assert says(done.out, "e4net and p4-cnn", "different networks", "7 of 21 layers")
    assert "layer1.conv" not in done.out
    assert "layer1.conv" in run("guard", "diff", before, after, "--all").out


def test_equal_files_say_no_difference(counted: tuple[Path, Path], run: Run) -> None:
    out = run("guard", "diff", counted[0], counted[0]).out
    assert out.startswith("a.json against a.json: no difference\n")
    assert "verdict" not in out
    assert run("guard", "diff", counted[0], counted[0], "--format", "json").out.strip() == "[]"


def test_the_programs_own_json_is_read(tmp_path: Path, run: Run) -> None:
    several = written(run, tmp_path / "several.json", "e4net", "p4-cnn")
    assert "10 counts: 10 equal" in run("guard", "diff", several, several).out
    rows = json.loads(several.read_text())
    rows[1]["totals"]["params"] += 1
    (tmp_path / "moved.json").write_text(json.dumps(rows))
    done = run("guard", "diff", several, tmp_path / "moved.json")
    assert (done.code, "p4-cnn group=p4 width=19 on 1x1x28x28" in done.out) == (1, True)
    table = tmp_path / "table.json"
    table.write_text(run("published", "1", "--format", "json").out)
    assert run("guard", "diff", table, table).code == 0


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("", "a.json", "A.json is empty: name a file of results"),
        ("a.json", "", "B.json is empty: name a file of results"),
        ("a.json", "rows.csv", "rows.csv: CSV … --format json"),
        ("a.json", "text.json", "text.json: head: params (='5') is not a number"),
        ("a.json", "long.json", "long.json: … 4,300 digits"),
        ("a.json", "times.jsonl", "a.json holds counts … times.jsonl holds times"),
        ("a.json", "empty", "empty: … without records.jsonl … name a file"),
    ],
)
def test_what_cannot_be_compared_is_named(
    before: str, after: str, message: str, counted: tuple[Path, Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = counted[0].parent
    monkeypatch.chdir(folder)
    (folder / "rows.csv").write_text("path,params\nconv,10\n")
    (folder / "text.json").write_text(json.dumps([{"path": "head", "params": "5"}]))
    (folder / "long.json").write_text('[{"path": "head", "params": ' + "9" * 5000 + "}]")
    (folder / "empty").mkdir()
    timed(folder / "times.jsonl", 1e-3)
    done = run("guard", "diff", before, after)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("e4profile: ")
    assert done.err.count("\n") == 1
    assert says(done.err, *message.split(" … "))


def test_the_folder_of_a_sweep_is_its_records(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    timed(folder / "records.jsonl", 1e-3)
    assert run("guard", "diff", folder, folder).code == 0
