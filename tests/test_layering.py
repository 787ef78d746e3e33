"""The package's walls: the library never reaches for the command line, and what draws never loads PyTorch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import e4profile

PACKAGE = Path(e4profile.__file__).parent
LIBRARY = sorted(
    path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__main__.py" and PACKAGE / "cli" not in path.parents
)


def imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def reaches(text: str, *packages: str) -> list[str]:
    return [name for name in imported(text) for package in packages if f"{name}.".startswith(f"{package}.")]


def test_the_finder_finds() -> None:
    assert reaches("def f():\n    from e4profile import cli", "e4profile.cli") == ["e4profile.cli"]
    assert reaches("import e4profile.cli.table as t", "e4profile.cli") == ["e4profile.cli.table"]
    assert reaches("from e4profile.cli.output import note", "e4profile.cli") == ["e4profile.cli.output.note"]
    assert not reaches("from e4profile.client import x", "e4profile.cli")
    assert len(LIBRARY) > 100


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_part_of_the_library_imports_the_command_line(path: Path) -> None:
    assert reaches(path.read_text(encoding="utf-8"), "e4profile.cli", "typer") == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "render").rglob("*.py")), ids=lambda path: path.stem)
def test_what_draws_imports_no_torch(path: Path) -> None:
    assert reaches(path.read_text(encoding="utf-8"), "torch") == []
