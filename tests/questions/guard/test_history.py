"""Counts and times over commits: what moved where, and a file of history that nothing is lost from."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from guarded_project import config_text, macs_of, params_of, write_project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from program import Run, says

from e4profile.errors import SettingError
from e4profile.records.baseline import ModelCosts
from e4profile.records.history import append_run, read_history
from e4profile.records.store import RecordStore


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def costs(params: int, **arguments: int) -> ModelCosts:
    return ModelCosts("net.py:build", "1x3x8x8", arguments, {"params": params, "macs": 10 * params}, {})


def test_a_count_that_moved_is_named_with_its_commit(run: Run, tmp_path: Path) -> None:
    write_project(tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    first = git(tmp_path, "rev-parse", "HEAD")[:10]
    for _ in range(2):
        assert run("guard", "--history", "history.jsonl").code == 3
    (tmp_path / "pyproject.toml").write_text(config_text(args={"width": 6}))
    git(tmp_path, "commit", "-qam", "two")
    second = git(tmp_path, "rev-parse", "HEAD")[:10]
    assert run("guard", "--history", "history.jsonl", "--time").code == 3
    (tmp_path / "net.py").write_text((tmp_path / "net.py").read_text().replace("bias=bias", "bias=False"))
    assert run("guard", "--history", "history.jsonl").code == 3
    done = run("guard", "diff", "--history", "history.jsonl", "--plot", "figures", "-f", "json")
    assert done.code == 0
    rows = [(one["model"], one["quantity"], one["commit"], one["before"], one["after"]) for one in json.loads(done.out)]
    assert rows == [
        ("net", "params", second, params_of(4), params_of(6)),
        ("net", "macs", second, macs_of(4), macs_of(6)),
        ("net", "params", f"{second}+", params_of(6), params_of(6, bias=False)),
    ]
    assert "width=6" in done.out
    assert says(done.err, "net", "1 timed run", "from 10 on")
    assert {file.name for file in Path("figures").iterdir()} == {
        f"history.{ending}" for ending in ("svg", "png", "csv")
    }
    drawn = Path("figures/history.csv").read_text().splitlines()
    assert sum(f",{first}," in line for line in drawn) == 4
    times = [row for row in csv.DictReader(drawn) if row["quantity"] == "time_s"]
    assert times
    assert all(float(row["first"]) <= float(row["value"]) <= float(row["third"]) for row in times)
    assert [one["quantity"] for one in json.loads(run("compare", "--history", "history.jsonl", "-f", "json").out)] == [
        "params", "macs", "params"
    ]  # fmt: skip


def test_a_time_that_stepped_is_named_once_it_can_be_told(run: Run, tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "h.jsonl")
    for number in range(12):
        slow = 1.3 if number >= 6 else 1.0
        for model, factor in (("one", slow), ("other", 1.0)):
            append_run(store, model, f"c{number:02}", costs(5), [factor * (1 + number % 5 / 1000)] * 3)
    done = run("guard", "diff", "--history", "h.jsonl", "-f", "json")
    (row,) = json.loads(done.out)
    assert (row["verdict"], row["model"], row["commit"]) == ("slower", "one", "c06")
    assert row["change_percent"] == pytest.approx(30, abs=0.5)
    assert 0 < row["p_value"] <= 0.005
    assert says(done.err, "2 series", "0.005", "1%")


def test_a_count_that_comes_back_without_a_commit_is_no_double(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "h.jsonl")
    for params in (1, 2, 1):
        append_run(store, "net", "abc+", costs(params))
    history = read_history(store.path)
    assert [(one.before, one.after) for one in history.moves() if one.quantity == "params"] == [(1, 2), (2, 1)]
    assert history.notes == []


LINES = st.lists(
    st.one_of(
        st.just("run"), st.sampled_from([b"", b"\xff\xfe", b"{}", b"[1]", b"not json", b'{"schema": 1, "kind": "hist'])
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(LINES)
def test_damaged_lines_are_named_and_stay(tmp_path_factory: pytest.TempPathFactory, lines: list[object]) -> None:
    file = tmp_path_factory.mktemp("history") / "h.jsonl"
    store = RecordStore(file)
    append_run(store, "net", "begin", costs(1))
    whole = ["begin"]
    for number, line in enumerate(lines):
        if isinstance(line, bytes):
            # as a killed or foreign writer leaves it: without an end
            with file.open("ab") as stream:
                stream.write(line)
        else:
            whole.append(f"c{number}")
            append_run(store, "net", whole[-1], costs(number))
    before = file.read_bytes()
    history = read_history(file)
    append_run(RecordStore(file), "net", "end", costs(0))
    assert file.read_bytes().startswith(before)
    # bytes that follow each other without an end are one line
    damaged = [line for line in before.split(b"\n") if (line and not line.endswith(b"}")) or line in (b"{}", b"[1]")]
    assert [one.commit for one in history.runs] == whole
    assert len(history.notes) >= len(damaged)
    assert [one.commit for one in read_history(file).runs] == [*whole, "end"]


def test_what_cannot_be_a_history_is_refused(run: Run, tmp_path: Path) -> None:
    write_project(tmp_path)
    for options, words in (
        (("guard", "--history", "h.jsonl"), ("no commit of git", "--commit")),
        (("guard", "--time"), ("--history FILE",)),
        (("guard", "diff", "--history", "none.jsonl"), ("none.jsonl does not exist",)),
        (("guard", "diff", "--history", "pyproject.toml"), ("holds no run",)),
        (("guard", "diff", "a.json", "b.json", "--history", "h.jsonl"), ("replaces the two files",)),
        (("guard", "diff"), ("name two files",)),
        (("guard", "--history", "net.py", "--commit", "x"), ("net.py", "left as it is")),
    ):
        found = run(*options)
        assert (found.code, found.out) == (2, ""), options
        assert says(found.err, *words), (options, found.err)
    assert run("guard", "--history", "h.jsonl", "--commit", "x").code == 3
    with pytest.raises(SettingError, match="does not exist"):
        read_history(tmp_path / "nothing")
