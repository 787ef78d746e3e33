from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from e4profile.errors import E4ProfileError, SettingError, from_table, parse_toml, read_text


@dataclass(frozen=True)
class Inner:
    size: int
    ratio: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()
    sizes: tuple[int, int] = (1, 1)
    group: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    file: str = ""

    def __post_init__(self) -> None:
        if self.group == "p5":
            raise SettingError("group: 'p5' must be p4 or p4m")


class TableError(E4ProfileError):
    pass


def test_a_table_becomes_its_dataclass() -> None:
    table = parse_toml('name = "a"\nsizes = [2, 3]\ninner = [{ size = 1, ratio = 2 }]', "f.toml")
    assert from_table(table, Outer, file="f.toml") == Outer("a", (Inner(1, 2.0),), (2, 3), file="f.toml")
    big = 10**40
    assert from_table({"size": big}, Inner).size == big


def test_numbers_without_end_and_tables_without_end_are_told_in_one_line() -> None:
    for text in (f"a = {'9' * 5000}", f"[b]\na = [1, 0x{'f' * 5000}]", f"{'a.' * 3000}a = 0x{'f' * 17}"):
        with pytest.raises(SettingError, match=r"^f\.toml: ") as caught:
            parse_toml(text, "f.toml")
        assert len(str(caught.value)) < 200
    assert parse_toml(f"{'a.' * 3000}a = 1", "f.toml")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "f: name: missing"),
        ({"name": "a", "file": "b"}, "f: file: unknown key 'file'; did you mean sizes, inner?"),
        ({"name": "a", "gruop": 1}, "f: gruop: unknown key 'gruop'; did you mean group?"),
        ({"name": 3}, "f: name: 3 must be a text in quotes"),
        ({"name": "a", "group": 3}, "f: group: 3 must be a text in quotes or nothing"),
        ({"name": "a", "group": "p5"}, "f: group: 'p5' must be p4 or p4m"),
        ({"name": "a", "inner": [{"size": 1}, {"size": True}]}, "f: inner[1].size: True must be a whole number"),
        ({"name": "a", "inner": [{"size": 1}, {}]}, "f: inner[1].size: missing"),
        ({"name": "a", "sizes": [1, 2, 3]}, "f: sizes: [1, 2, 3] must be a list of length 2"),
        ({"name": "a", "versions": {"b": 1}}, "f: versions[...]: a value in {'b': 1} must be a text in quotes"),
        ({"name": ["x"] * 99}, f"f: name: {(['x'] * 99)!r:.100}... must be a text in quotes"),
        (3, "f: 3 must be a table"),
    ],
)
def test_a_refusal_says_where_what_and_what_instead(table: Any, said: str) -> None:
    with pytest.raises(TableError) as refused:
        from_table(table, Outer, "f: ", TableError, file="")
    assert str(refused.value) == said


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(TableError, match=r"^f\.toml: not TOML: .*line 1"):
        parse_toml("x = = 3", "f.toml", TableError)
    with pytest.raises(TableError, match="nested too deeply"):
        parse_toml("x = " + "[" * 100_000, "f.toml", TableError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_file_without_an_end_and_a_pipe_without_a_writer_are_read_no_further(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="/dev/zero: cannot be read: it is longer than 256 MiB"):
        read_text(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "pipe") == ""


def test_a_number_of_more_digits_than_python_reads_is_refused() -> None:
    with pytest.raises(SettingError, match="there: not TOML"):
        parse_toml(f"a = {'9' * 5000}", "there")
