"""Write the generated parts of the README: the output of commands, and the command table.

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
_FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def commands() -> str:
    """The command table: each command with its reference, and what the program's own list says of it."""
    from e4profile.cli.main import listed

    lines = ["| command | what it does |", "|---|---|"]
    for name, command in listed().items():
        if " " not in name:
            place = f"docs/reference/commands.md#e4profile-{name}"
            summary = command.short_help.replace("|", "\\|")
            lines.append(f"| [`{name}`]({place}) | {summary} |")
    return "\n".join(lines)


def output(command: str, files: dict[str, str]) -> str:
    """What a command prints at 80 columns, in a folder that holds the files."""
    words = shlex.split(command)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        if words[1] == "sweep":
            words += ["--out", str(Path(folder) / "sweep")]
        path = os.pathsep.join(filter(None, [str(README.parent), os.environ.get("PYTHONPATH")]))
        result = subprocess.run(
            [sys.executable, "-m", *words],
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONPATH": path},
        )
    return f"```text\n$ {command}\n{result.stdout.rstrip()}\n```"


def refreshed(text: str) -> str:
    """The README with every generated part made anew."""
    files = dict(_FILE.findall(text))

    def block(match: re.Match[str]) -> str:
        made = commands() if match[2] == "commands" else output(match[2], files)
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
