from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import says

import e4profile.records.store as records_module
from e4profile.errors import SettingError
from e4profile.records.store import SCHEMA_VERSION, Record, RecordStore, record_key


def record(number: int = 0, **changes: Any) -> Record:
    return replace(
        Record(
            card="e4net",
            arguments={"group": "p4", "reduction": number, "out": None, "bias": False, "scale": 0.1},
            counts={"macs": 2**70 + number, "layers": {"stages.0": [1, 2]}, "α": "漢\u2028\n"},
            counters={"closed_form": "1", "fvcore": "0.1.5"},
            environment={"torch": "2.13.0", "threads": 2},
        ),
        **changes,
    )


def test_records_come_back_exactly_and_in_order(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "deep" / "er" / "records.jsonl")
    assert store.load() == []
    written = [record(n) for n in range(3)]
    for each in written:
        store.append(each)
    assert store.load() == written
    assert store.notes == []
    lines = store.path.read_text(encoding="utf-8").split("\n")
    assert len(lines) == 4
    assert lines[3] == ""
    assert list(json.loads(lines[0]))[:3] == ["schema", "kind", "card"]
    assert list(store.load()[0].arguments) == list(written[0].arguments)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.dictionaries(st.text(), scalars), st.dictionaries(st.text(), json_values), st.text())
def test_any_json_value_round_trips(arguments: dict[str, Any], counts: dict[str, Any], card: str) -> None:
    original = record(arguments=arguments, counts=counts, card=card)
    line = original.to_line()
    assert "\n" not in line
    read = records_module._parse(line.encode())
    assert read == original
    assert repr(read) == repr(original)  # == alone takes 1, 1.0 and True for the same
    assert read.key == original.key


def test_the_key_is_the_work_and_nothing_else() -> None:
    base = record()
    assert base.key == record_key("sweep", "e4net", base.arguments, base.counters)
    assert base.key == replace(base, arguments=dict(reversed(base.arguments.items()))).key
    assert base.key == replace(base, counts={}, environment={}).key
    others = [
        replace(base, card="x"),
        replace(base, kind="time"),
        replace(base, arguments=base.arguments | {"reduction": 1}),
        replace(base, arguments=base.arguments | {"reduction": False}),
        replace(base, arguments=base.arguments | {"reduction": "0"}),
        replace(base, counters=base.counters | {"fvcore": "0.1.6"}),
        replace(base, counters={}),
    ]
    assert len({base.key, *(other.key for other in others)}) == len(others) + 1


def test_the_key_is_the_same_on_every_machine() -> None:
    key = record_key("sweep", "α", {"b": 1, "a": None}, {"closed_form": "1"})
    assert key == "101c422c87273a8f7c1053fb282f66c2e9922edd1eee8665acd9ae3d97785906"


@pytest.mark.parametrize("keep", [1, 40, -2, -1])
def test_a_line_cut_short_is_named_kept_and_does_not_spoil_the_next(tmp_path: Path, keep: int) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    store.append(record(1))
    cut = store.path.read_bytes() + record(3).to_line().encode()[:keep]
    store.path.write_bytes(cut)
    store.append(record(2))
    assert store.path.read_bytes() == cut + b"\n" + record(2).to_line().encode() + b"\n"
    assert store.load() == [record(1), record(2)]
    (note,) = store.notes
    assert says(note, "records.jsonl", "line 2", "cut short")


def test_what_others_append_is_followed_line_by_line(tmp_path: Path) -> None:
    store, other = (RecordStore(tmp_path / "records.jsonl") for _ in range(2))
    assert store.follow() == []
    other.append(record(1))
    assert store.load() == [record(1)]
    other.append(record(2))
    store.append(record(3))
    assert store.follow() == [record(2), record(3)]
    line = record(4).to_line().encode()
    for part, found in ((line[:-9], []), (line[-9:], []), (b"\n{oops\n", [record(4)])):
        with store.path.open("ab") as file:
            file.write(part)
        assert store.follow() == found
    (note,) = store.notes
    assert note.startswith("records.jsonl: line 5 is skipped: it is not JSON")


def test_a_line_of_the_same_work_and_counts_is_named_and_not_used(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    elsewhere, other = record(1, environment={"torch": "2.4.0"}), record(1, counts={"macs": 3})
    for each in (record(1), record(2), elsewhere, other):
        store.append(each)
    assert store.load() == [record(1), record(2), other]
    assert store.notes == ["records.jsonl: line 3 is skipped: it repeats line 1, with the same counts of the same work"]


def test_a_whole_last_line_without_its_line_end_is_kept(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    store.path.write_text(record(1).to_line(), encoding="utf-8")
    assert store.load() == [record(1)]
    store.append(record(2))
    assert store.load() == [record(1), record(2)]
    assert store.notes == []


def altered(**changes: object) -> str:
    return json.dumps(json.loads(record().to_line()) | changes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{oops", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5000, "not JSON"),
        (altered(schema=2).encode(), "its schema is 2, this version reads 1"),
        (altered(schema=None).encode(), "its schema is None"),
        (altered(schema=True).encode(), "schema"),
        (altered(extra=1).encode(), "extra: unknown key 'extra'"),
        (altered(card=3).encode(), "card: 3 must be a text"),
        (altered(counts=[]).encode(), "counts: [] must be a table"),
        (altered(arguments={"a": [1]}).encode(), r"arguments['a'] (=[1])"),
        (altered(counters={"a": 1}).encode(), "counters[...]: a value in {'a': 1} must be a text"),
        (altered(counts={"a": float("nan")}).encode(), "NaN is not a JSON number"),
        (altered(counts={"macs": 7}).encode(), "its checksum"),
        (altered(arguments={}).encode(), "its checksum"),
        (altered(environment={}).encode(), "its checksum"),
        (altered(card="e4met").encode(), "its checksum"),
        (altered(checksum=None, kind="time2").encode(), "its checksum (=None)"),
        (altered(checksum=["x"]).encode(), "its checksum"),
        (record().to_line().replace("0.1}", "0.2}").encode(), "its checksum"),
    ],
)
def test_a_bad_line_in_the_middle_is_skipped_with_its_number_and_reason(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    lines = [record(1).to_line().encode(), line, record(2).to_line().encode(), b""]
    store.path.write_bytes(b"\n".join(lines))
    assert store.load() == [record(1), record(2)]
    (note,) = store.notes
    assert note.startswith("records.jsonl: line 2 is skipped: ")
    assert reason in note
    store.append(record(3))
    assert store.path.read_bytes().startswith(b"\n".join(lines))


@pytest.mark.parametrize(
    "counts", [{"a": (1, 2)}, {"a": float("nan")}, {"a": float("inf")}, {1: "a"}, {"a": {1}}, {"a": b"x"}]
)
def test_a_value_that_json_does_not_keep_is_refused_and_nothing_is_written(tmp_path: Path, counts: Any) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    with pytest.raises(SettingError, match="'e4net'"):
        store.append(record(counts=counts))
    assert not store.path.exists()


FOREIGN = {
    "notes.txt": b"one\nlast line without an end",
    "one.txt": b"x",
    "table.csv": b"a,b\n1,2",
    "package.json": b'{\n  "schema": 1,\n  "kind": "x"\n}',
    "one-line.json": b'{"schema": 1, "models": {}}',
    "compact.json": b'{"schema":1,"kind":"x"}\n',
    "others.jsonl": b'{"event": 1}\n{"event": 2',
    "list.json": b"[1, 2]",
    "deep.json": b"[" * 100_000,
    "binary": bytes(range(256)),
    "open-brace": b'text\n{"sch!',
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_somebody_else_is_refused_and_stays_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FOREIGN[name])
    for attempt in (RecordStore(path).check_writable, lambda: RecordStore(path).append(record())):
        with pytest.raises(SettingError, match=r"holds no records and is left as it is: choose another file$"):
            attempt()
        assert path.read_bytes() == FOREIGN[name]


@pytest.mark.parametrize("tail", [b"a remark", b'{"event": 2', b"{oops", b"\xff"])
def test_a_last_line_that_is_no_record_is_kept(tmp_path: Path, tail: bytes) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    store.append(record(1))
    before = store.path.read_bytes() + tail
    store.path.write_bytes(before)
    assert store.load() == [record(1)]
    assert "line 2 is skipped" in store.notes[0]
    store.append(record(2))
    assert store.path.read_bytes() == before + b"\n" + record(2).to_line().encode() + b"\n"


def test_records_of_another_schema_or_damaged_ones_are_appended_to(tmp_path: Path) -> None:
    later = {**json.loads(record().to_line()), "schema": 2, "more": 1}
    for text in (
        json.dumps(later, separators=(",", ":")),
        record().to_line()[:-9] + "}",
        "\ufeff" + record().to_line(),
    ):
        path = tmp_path / "records.jsonl"
        path.write_text(f"{text}\n", encoding="utf-8")
        RecordStore(path).append(record(2))
        assert RecordStore(path).load()[-1] == record(2)
        assert path.read_text(encoding="utf-8").startswith(text)


def test_a_line_that_another_program_wrote_anew_is_still_whole(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    values = json.loads(record().to_line())
    text = json.dumps(dict(reversed(values.items())), ensure_ascii=False, separators=(",", ":"))
    path.write_text(f"{text}\n", encoding="utf-8")
    store = RecordStore(path)
    assert store.load() == [record()]
    assert store.notes == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_or_a_device_holds_no_records(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(SettingError, match=r"cannot read records from .*: it is not an ordinary file"):
            RecordStore(path).load()
    with pytest.raises(SettingError, match=r"cannot write records to .*: it is not an ordinary file"):
        RecordStore(pipe).check_writable()
    RecordStore("/dev/null").append(record())


SWEPT: dict[str, Any] = {
    "params_formula": 5, "params_measured": 5, "macs_formula": 9, "macs_measured": 9, "params_printed_form": 5,
    "macs_printed_form": 8, "agrees": True, "differences": [], "unknown": {}, "terms": {"convolution": 9},
    "failures": {}, "fvcore": 10, "thop": None, "gaps": {"fvcore": {"norms": 1, "unexplained": 0}},
}  # fmt: skip


def _old_line(counts: object) -> str:
    values = json.loads(record().to_line()) | {"counts": counts}
    del values["checksum"]
    return json.dumps(values)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"macs_measured": 7}, r"agrees (=True) is not what its counts give: (5, 9) against (5, 7)"),
        ({"params_formula": 6}, "agrees (=True)"),
        ({"differences": ["a: 1 against 2"]}, "agrees (=True)"),
        ({"unknown": {"aten.x": 1}}, "agrees (=True)"),
        ({"failures": {"closed-form": "none"}}, "agrees (=True)"),
        ({"agrees": False}, "agrees (=False)"),
        ({"macs_measured": -9, "macs_formula": -9}, "must not be negative"),
        ({"macs_measured": "9"}, "counts: macs_measured: '9' must be a whole number"),
        ({"macs_measured": 9.0}, "counts: macs_measured"),
        ({"agrees": 1}, "counts: agrees"),
        ({"terms": [9]}, "counts: terms"),
        ({"terms": {"convolution": None}}, "counts: terms"),
        ({"gaps": {"fvcore": 3}}, "counts: gaps"),
        ({"fvcore": "10"}, "counts: fvcore"),
        *(({name: None}, f"counts: {name}: missing") for name in SWEPT),
    ],
)
def test_counts_from_before_the_checksum_are_checked_one_by_one(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    damaged = {**SWEPT, **changes}
    if reason.endswith("missing"):
        damaged = {name: value for name, value in SWEPT.items() if name not in changes}
    store.path.write_text(f"{_old_line(damaged)}\n{_old_line({**SWEPT, 'more': 1})}\n")
    assert store.load() == [record(counts={**SWEPT, "more": 1})]
    (note,) = store.notes
    assert note.startswith("records.jsonl: line 1 is skipped: ")
    assert reason in note


def test_a_path_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "records.jsonl", tmp_path / "file" / "sub" / "r.jsonl", tmp_path / "folder"):
        store = RecordStore(path)
        for attempt in (store.check_writable, lambda store=store: store.append(record())):
            with pytest.raises(SettingError, match="choose another place with --out") as error:
                attempt()
            assert str(path) in str(error.value)
            assert "\n" not in str(error.value)
    with pytest.raises(SettingError, match="cannot read records from"):
        RecordStore(tmp_path / "folder").load()


def test_check_writable_changes_no_record(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "new" / "records.jsonl")
    store.check_writable()
    assert store.path.read_bytes() == b""
    store.append(record())
    before = store.path.read_bytes()
    store.check_writable()
    assert store.path.read_bytes() == before


def test_a_half_line_on_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    store.append(record(1))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
        with pytest.raises(SettingError, match="disk is full"):
            store.append(record(2))
    store.append(record(3))
    assert store.load() == [record(1), record(3)]
    assert says(store.notes[0], "line 2", "cut short")


def test_one_line_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    write = os.write

    def recording_write(descriptor: int, data: bytes) -> int:
        writes.append(data)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", recording_write)
    RecordStore(tmp_path / "records.jsonl").append(record())
    assert writes == [record().to_line().encode() + b"\n"]


WRITER = """
import sys
from e4profile.records.store import Record, RecordStore
path, writer, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
store = RecordStore(path)
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    arguments = {"writer": writer, "n": number}
    store.append(Record(card="c", arguments=arguments, counts={"x": "x" * size}, counters={}))
"""


def start_writer(path: Path, writer: int, count: int, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(writer), str(count), str(size)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> int:
    with process:
        return process.wait(timeout=300)


def test_several_processes_append_at_once_without_losing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"schema": 1, "ki')  # whoever comes first ends it, once
    writers = [start_writer(path, writer, 60, 30_000) for writer in range(4)]
    for process in writers:
        go(process)
    seen_while_writing = RecordStore(path)
    for _ in range(5):
        seen_while_writing.load()
        assert [n for n in seen_while_writing.notes if "cut short" not in n] == []
    assert [finish(process) for process in writers] == [0] * 4
    store = RecordStore(path)
    loaded = store.load()
    (note,) = store.notes
    assert says(note, "line 1", "cut short")
    for writer in range(4):
        assert [r.arguments["n"] for r in loaded if r.arguments["writer"] == writer] == list(range(60))
    assert {len(r.counts["x"]) for r in loaded} == {30_000}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_run_leaves_a_store_that_the_next_run_can_use(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    process = start_writer(path, 0, 10**6, 200_000)
    go(process)
    deadline = time.monotonic() + 300
    while not path.exists() or path.stat().st_size < 1_000_000:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    finish(process)
    store = RecordStore(path)
    survivors = store.load()
    assert [r.arguments["n"] for r in survivors] == list(range(len(survivors)))
    store.append(record(7))
    assert RecordStore(path).load() == [*survivors, record(7)]


def test_a_record_cannot_be_changed_and_refuses_another_schema() -> None:
    with pytest.raises(FrozenInstanceError):
        record().card = "x"  # type: ignore[misc]
    with pytest.raises(SettingError, match=r"schema \(=2\) must be 1"):
        record(schema=2)
    assert record().schema == SCHEMA_VERSION == 1


def test_torch_stays_out() -> None:
    code = "import sys, e4profile.records.store; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
