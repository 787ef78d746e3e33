"""CONTRIBUTING.md, followed literally in a copy of the package: each recipe's files are new, and its commands run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]

COMMANDS = """
import shlex, sys
from e4profile.cli.main import main
for line in {lines}:
    sys.argv = shlex.split(line)
    try:
        main()
    except SystemExit as end:
        assert not end.code, (line, end.code)
"""


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the files of the page."""
    copy = tmp_path_factory.mktemp("contributing")
    for name in ("e4profile", "models"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "tests").symlink_to(ROOT / "tests")
    for name, text in FILES.items():
        file = copy / name
        assert not file.exists(), f"{name} is no new file"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return copy


def run(copy: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_the_commands_of_the_page_answer(followed: Path) -> None:
    lines = [line for line in LINES if line.startswith("e4profile ")]
    out = run(followed, "-c", COMMANDS.format(lines=lines))
    assert len(lines) >= 6
    assert "weight  c_in c_out" in out
    assert re.search(r"^yes +invariant-stack", out, re.MULTILINE)
    assert "modules reports" in out
    assert (followed / "figures" / "largest.svg").exists()


def test_the_contract_tests_find_what_is_new(followed: Path) -> None:
    asked = [shlex.split(line)[2:] for line in LINES if line.startswith("pytest ")]
    files = [word for words in asked for word in words if word.startswith("tests/")]
    chosen = [f"({words[words.index('-k') + 1]})" for words in asked]
    out = run(followed, "-m", "pytest", "-p", "no:cacheprovider", "-q", *files, "-k", " or ".join(chosen))
    assert int(re.search(r"(\d+) passed", out)[1]) > len(chosen), out  # type: ignore[index]


def test_the_files_of_the_page_are_as_the_linter_wants_them(followed: Path) -> None:
    code = [name for name in FILES if name.endswith(".py")]
    run(followed, "-m", "ruff", "check", *code)
    run(followed, "-m", "ruff", "format", "--check", *code)
