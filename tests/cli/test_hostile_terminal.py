"""Streams, encodings and values that a shell can hand over: one line, exit code 2, nothing else."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from e4profile.cli.streams import PROGRAMS, READERS


def shell(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m e4profile"
    return subprocess.run(
        ["sh", "-c", command.replace("e4profile", program)],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_or_closed_stdout_is_one_line(tmp_path):
    for command in ("e4profile cards > /dev/full", "e4profile cards >&-"):
        done = shell(command, tmp_path)
        assert done.returncode == 2, command
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("e4profile: ")


def written(text: str, encoding: str, errors: str) -> str:
    return text.encode(encoding, errors).decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1"])
def test_every_sign_can_be_written(encoding):
    for code in (*range(0x20, 0x3000), 0x1F600, 0xD800):
        assert written(chr(code), encoding, READERS)
        exact = written(json.dumps(chr(code), ensure_ascii=False), encoding, PROGRAMS)
        assert json.loads(exact) == chr(code)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_our_signs_has_rules_and_columns(encoding, run, monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setenv("COLUMNS", "100")
    assert run("check", "e4net").code == 0
    lines = streams[0].buffer.getvalue().decode(encoding).splitlines()
    assert any(set(line) == {"-"} for line in lines)
    assert "\\" not in "".join(lines)
    assert run("check", "\u2500\U0001f600").code == 2
    streams[1].flush()
    assert "unknown model '-\\ud83d\\ude00'" in streams[1].buffer.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cards", "deep.toml"), "nested too deeply"),
        (("count", "e4net", "--set", "encoder_norm=no"), "encoder_norm (='no') must be true or false"),
        (("count", "e4net", "--units", "x"), "unknown units 'x'"),
        (("count", "e4net", "--counter", ","), "names nothing"),
        (("time", ","), "names nothing"),
    ],
)
def test_values_are_refused_by_name(arguments, message, tmp_path, run):
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
