"""Streams, encodings and values that a shell can hand over: one line, exit code 2, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


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


def test_an_encoding_without_our_signs_shows_escapes(tmp_path):
    done = shell("e4profile cards", tmp_path, PYTHONIOENCODING="ascii", COLUMNS="\u00b2\u00b2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u" in done.stdout


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
