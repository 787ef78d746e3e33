"""The README cannot rot: its generated parts are fresh, its Python runs, its commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_generated_parts_are_fresh():
    result = subprocess.run(
        [sys.executable, "docs/refresh_readme.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_blocks_run(block):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_shell_lines_name_commands_and_cards_that_exist():
    from e4profile.cli.main import listed
    from e4profile.networks.cards import all_cards

    commands = listed()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    ours = [shlex.split(line, comments=True) for line in lines if line.startswith("e4profile ")]
    assert len(ours) >= 5
    for _, command, *arguments in ours:
        parameters = {option for parameter in commands[command].params for option in parameter.opts}
        # what follows --sort may be -macs, the costliest first
        given = [one for before, one in pairwise(["", *arguments]) if before != "--sort"]
        assert {argument for argument in given if argument.startswith("-")} <= parameters
        if command in ("count", "memory"):
            assert arguments[0] in all_cards() or arguments[0].startswith("net.py:")
