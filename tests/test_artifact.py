"""The artifact page: its cheap claims hold as written, and the commands of the others exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from program import Run

PAGE = Path(__file__).resolve().parent.parent / "docs" / "artifact.md"
CLAIMS = re.findall(
    r"^\| ([^|]+) \| `(e4profile [^`]+)` \| ([^|]+) \| [^|]+ \| [\d.]+ \|$", PAGE.read_text("utf-8"), re.M
)
CHEAP = 3


@pytest.mark.parametrize(("claim", "command", "expected"), CLAIMS[:CHEAP], ids=[one[0][:30] for one in CLAIMS[:CHEAP]])
def test_a_cheap_claim_holds(run: Run, claim: str, command: str, expected: str) -> None:
    found = run(*shlex.split(command)[1:])
    assert found.code == 0
    (text,) = re.findall("`([^`]+)`", expected)
    assert text in found.out, claim


def test_every_claim_names_a_command_with_its_options() -> None:
    from e4profile.cli.main import listed

    assert len(CLAIMS) == PAGE.read_text("utf-8").count("| `e4profile ")
    for _, command, _ in CLAIMS:
        name, *arguments = shlex.split(command)[1:]
        known = {option for one in listed()[name].params for option in (*one.opts, *one.secondary_opts)}
        assert {one for one in arguments if one.startswith("-")} <= known, command
