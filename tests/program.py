"""The program called in this process: what a test of a command asks for."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from e4profile.cli.main import main


class Result(NamedTuple):
    """Exit code, what went to stdout, what went to stderr."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def caller(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    # a busy machine would add lines about its slowness
    monkeypatch.setattr("e4profile.questions.output._EVERY_S", math.inf)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["e4profile", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return Result(stop.value.code, *capsys.readouterr())

    return call


def says(text: str, *words: str) -> bool:
    """Whether a line of a text holds all of these: the values and the remedy of a message, however it is put."""
    return any(all(word in line for word in words) for line in text.splitlines())
