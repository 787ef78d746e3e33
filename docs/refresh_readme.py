"""Write the generated parts of the README: command output, the command table, the conventions.

python docs/refresh_readme.py [--check]
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_BLOCK = re.compile(r"(<!-- begin: (.*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def commands() -> str:
    """The command table, from the program itself."""
    from e4profile.cli.main import listed

    lines = ["| command | what it does |", "|---|---|"]
    for name, command in listed().items():
        summary = " ".join((command.help or "").split("\n\n")[0].split()).replace("|", "\\|")
        lines.append(f"| `e4profile {name}` | {summary} |")
    return "\n".join(lines)


def conventions() -> str:
    """The conventions, from their one declaration."""
    from e4profile.conventions import CONVENTIONS

    lines = ["| convention | meaning |", "|---|---|"]
    lines += [f"| `{one.name}` | {one.meaning} |" for one in CONVENTIONS.values()]
    return "\n".join(lines)


def output(command: str) -> str:
    """What a command prints at 80 columns."""
    words = shlex.split(command)
    with tempfile.TemporaryDirectory() as folder:
        if words[1] == "sweep":
            words += ["--out", folder]
        result = subprocess.run(
            [sys.executable, "-m", *words],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        )
    return f"```text\n$ {command}\n{result.stdout.rstrip()}\n```"


def refreshed(text: str) -> str:
    """The README with every generated part made anew."""

    def block(match: re.Match[str]) -> str:
        made = {"commands": commands, "conventions": conventions}.get(match[2], lambda: output(match[2]))()
        return f"{match[1]}{made}\n{match[4]}"

    return _BLOCK.sub(block, text)


def main() -> None:
    """Write or check."""
    before = README.read_text(encoding="utf-8")
    after = refreshed(before)
    if "--check" in sys.argv:
        if before != after:
            sys.exit("README.md is stale: run python docs/refresh_readme.py")
        return
    README.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
