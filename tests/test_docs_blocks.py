"""Every shell block and Python block of the README and the documentation runs, page by page, in order.

A fence with a title writes a file of that name. ``<!-- not run: reason -->`` before a fence leaves the block out;
``<!-- not run, LINE: reason -->`` leaves out the lines that begin with that text.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from docs_program import request, write_shim

ROOT = Path(__file__).resolve().parent.parent
RUN = ("python", "sh")
_FENCE = re.compile(
    r"(?:<!-- not run(?:, (?P<part>[^:]+))?: (?P<reason>.+?) -->\s*\n)?"
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fence: what runs of it, and what does not for which reason."""

    page: str
    line: int
    language: str
    title: str
    text: str
    left_out: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    content = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(content):
        line = content[: fence.start("text")].count("\n")
        text, left_out = fence["text"], ""
        if fence["reason"]:
            part = fence["part"] or ""
            gone = [one for one in text.splitlines(keepends=True) if one.split(" #")[0].strip() == part or not part]
            assert gone, f"{page}:{line}: no line is {part!r}"
            left_out = "".join(gone)
            text = "".join(one for one in text.splitlines(keepends=True) if one not in gone)
        found.append(Block(page, line, fence["language"], fence["title"] or "", text, left_out, fence["reason"] or ""))
    return found


FILES = [ROOT / "README.md", ROOT / "models" / "README.md", *ROOT.glob("docs/**/*.md")]
PAGES = sorted(str(path.relative_to(ROOT)) for path in FILES)
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUNNING = [page for page in PAGES if any(b.page == page and b.language in RUN and b.text for b in BLOCKS)]
LEFT_OUT = [block for block in BLOCKS if block.left_out]


def run_page(page: str, blocks: list[Block], program: str, tmp_path: Path) -> tuple[int, str]:
    shims, folder, log = tmp_path / "bin", tmp_path / "work", tmp_path / "log"
    shims.mkdir()
    folder.mkdir()
    write_shim(shims, program)
    path = os.pathsep.join([str(shims), str(Path(sys.executable).parent), os.environ["PATH"]])
    message: dict[str, object] = {
        "page": page,
        "folder": str(folder),
        "environment": {
            **os.environ,
            "PATH": path,
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        },
        "blocks": [
            {"language": one.language, "title": one.title, "text": one.text, "line": str(one.line)} for one in blocks
        ],
    }
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        code = request(program, message, [nothing.fileno(), output.fileno(), output.fileno()])
    return code, log.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", RUNNING)
def test_the_blocks_of_a_page_run(page: str, program: str, tmp_path: Path) -> None:
    code, log = run_page(page, [block for block in BLOCKS if block.page == page], program, tmp_path)
    sys.stdout.write(log)
    assert code == 0, log[-4000:]


def test_a_block_is_left_out_for_a_reason() -> None:
    for block in LEFT_OUT:
        assert len(block.reason.split()) >= 3, block


@pytest.mark.parametrize(
    ("language", "text"),
    [("python", "assert 1 == 2\n"), ("sh", "e4profile count no-such-card\ntrue\n"), ("sh", "false\ntrue\n")],
)
def test_a_block_that_fails_fails_its_page(language: str, text: str, program: str, tmp_path: Path) -> None:
    code, log = run_page("page.md", [Block("page.md", 1, language, "", text, "", "")], program, tmp_path)
    assert code != 0
    assert "page.md" in log


def test_every_command_exists_with_its_options_also_where_it_is_not_run() -> None:
    from e4profile.cli.main import listed

    commands = listed()
    lines = [
        (block, line)
        for block in BLOCKS
        if block.language == "sh"
        for line in (block.text + block.left_out).replace("\\\n", " ").splitlines()
        if line.startswith("e4profile ")
    ]
    assert len(lines) >= 20
    for block, line in lines:
        _, command, *arguments = shlex.split(re.split(r" (?:\|\||\||&&|>) ", line)[0], comments=True)
        if command.startswith("-"):
            continue
        if arguments and f"{command} {arguments[0]}" in commands:
            command += f" {arguments.pop(0)}"
        assert command in commands, f"{block}: {line}"
        known = {"--help", "-h"}
        for parameter in commands[command].params:
            known |= {*parameter.opts, *parameter.secondary_opts}
        # what follows --sort may be -macs, the costliest first
        words = [one for before, one in pairwise(["", *arguments]) if before != "--sort"]
        given = {one.split("=")[0] for one in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", one)}
        assert given <= known, f"{block}: {line}"
