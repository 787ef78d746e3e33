from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from e4profile.errors import SettingError
from e4profile.records import claims as claims_module
from e4profile.records import sharing
from e4profile.records.claims import Claims
from e4profile.records.sharing import alone, share
from e4profile.records.store import Record, RecordStore


def record(number: int) -> Record:
    return Record(card="c", arguments={"n": number}, counts={"macs": number}, counters={})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(claims_module.time, "monotonic", lambda: now[0])
    return now


def claimed_by(folder: Path, key: str, *holder: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{key}.0"
    path.write_text(json.dumps(holder) if holder else "")
    return path


def test_one_process_holds_a_setting_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "claims"
    with Claims(folder) as ours, Claims(folder) as others:
        assert [ours.take("a"), others.take("a"), others.take("b"), ours.take("b")] == [True, False, True, False]
        ours.finish("a")
        others.give_back("b")
        assert [others.take("a"), ours.take("b")] == [True, True]
    assert not folder.exists()

    def interrupted() -> None:
        with Claims(folder) as ours:
            ours.take("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process began")
def test_a_claim_of_this_machine_is_dead_as_soon_as_its_process_is(tmp_path: Path) -> None:
    place, me = claims_module.place(), os.getpid()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    with Claims(tmp_path) as ours:
        claimed_by(tmp_path, "alive", place, me, claims_module.begun(me))
        claimed_by(tmp_path, "zombie", place, gone.pid, claims_module.begun(gone.pid))
        claimed_by(tmp_path, "number used again", place, me, "1")
        os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
        assert [ours.take(key) for key in ("alive", "zombie", "number used again")] == [False, True, True]
        ours.give_back("zombie")
        gone.wait()
        assert ours.take("zombie")


def test_a_claim_of_another_machine_is_dead_without_a_heartbeat(tmp_path: Path, clock: list[float]) -> None:
    path = claimed_by(tmp_path, "a", "elsewhere", os.getpid(), "1")
    empty = claimed_by(tmp_path, "b")
    with Claims(tmp_path) as ours:
        for now, moved, taken in ((0, True, False), (119, True, False), (230, False, False), (240, False, True)):
            clock[0] = now
            if moved:
                # by a clock that is not ours
                os.utime(path, (now + 10**6, now + 10**6))
            assert ours.take("a") == taken, now
            assert ours.take("b") == (now == 119), now
            if now == 119:
                ours.finish("b")
                assert not empty.exists()
                claimed_by(tmp_path, "b", "elsewhere", 1, "1")
        # by its finish, the dead claim is gone too
        ours.finish("a")
    assert [one.name for one in tmp_path.iterdir()] == ["b.0"]


def test_a_folder_may_go_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, make = tmp_path / "claims", Path.mkdir
    going = [True]

    def made_by_another(self: Path, *more: object, **how: object) -> None:
        if going:
            going.clear()
            raise FileExistsError(17, "File exists", str(self))
        make(self, *more, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", made_by_another)
    with Claims(folder) as ours:
        ours.clear({"a"})
        assert ours.take("a")
    assert going == []


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "_BEAT_S", 0.001)
    with Claims(tmp_path / "claims") as ours:
        ours.take("a")
        path = tmp_path / "claims" / "a.0"
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime == 1:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_of_two_that_find_a_claim_dead_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, real, seen = claims_module.place(), claims_module.runs, list[bool]()
    with Claims(tmp_path) as ours, Claims(tmp_path) as others:

        def beaten_to_it(process: int, begun: str) -> bool:
            if begun == "1" and not seen:
                seen.append(True)
                seen.append(others.take("a"))
            return real(process, begun)

        monkeypatch.setattr(claims_module, "runs", beaten_to_it)
        claimed_by(tmp_path, "a", place, os.getpid(), "1")
        assert not ours.take("a")
        assert seen == [True, True]
        # given up unfinished, it can be taken again, and by one
        others.give_back("a")
        assert [ours.take("a"), others.take("a")] == [True, False]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, reason in (("file", "Not a directory"), ("link", "File exists")):
        with Claims(tmp_path / name) as ours, pytest.raises(SettingError, match=f"{name}: {reason}; choose"):
            ours.take("a")


def test_a_process_that_was_taken_for_dead_stores_no_second_line(tmp_path: Path) -> None:
    store, other = (RecordStore(tmp_path / "records.jsonl") for _ in range(2))
    known: dict[str, Record] = {}

    def settled(key: str, stored: list[Record]) -> Record | None:
        known.update({one.key: one for one in stored})
        return known.get(key)

    def measure(number: int) -> Record | None:
        # while it was suspended
        other.append(record(number))
        return record(number) if number else None

    work = [(record(number).key, number) for number in range(3)]
    assert list(share(work, store, settled, measure)) == [(1, record(1), True), (2, record(2), True)]
    assert len(store.path.read_text().splitlines()) == 3
    assert not (tmp_path / "claims").exists()


def test_what_would_disturb_each_other_takes_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, first = RecordStore(tmp_path / "times.jsonl"), ExitStack()
    first.enter_context(alone(store, "cpu"))
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        first.close()

    monkeypatch.setattr(sharing.time, "sleep", wait)
    with alone(store, "cuda"):
        assert waited == []
    with alone(store, "cpu"):
        assert len(waited) == 1
    assert not (tmp_path / "claims").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("writers", [1, 4])
def test_writers_killed_at_random_lose_nothing_and_do_nothing_twice(tmp_path: Path, writers: int) -> None:
    program = Path(__file__).with_name("writers_killed.py")
    command = [sys.executable, str(program), str(tmp_path), str(writers), "200", "1"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300).stdout)
    # lines that a kill cut short are named; the rest has its own count only where something is wrong
    assert set(found) - {"cut"} == {"kills", "rounds"}
    assert found["kills"] == 200
