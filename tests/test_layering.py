"""The package's walls: imports run downwards, room by room, and what only shows knows nothing of what it shows."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import e4profile

PACKAGE = Path(e4profile.__file__).parent
ROOMS = ("groups", "ops", "layers", "networks", "subjects", "witnesses", "records", "questions", "cli")
"""From the bottom to the top: a room imports those before it."""

ROOT = {"__init__", "__main__", "api", "conventions", "errors", "symbols"}
TOP = {"__init__", "__main__", "api"}
"""The modules at the root that import rooms; the others may be imported by all of them."""

FILES = sorted(PACKAGE.rglob("*.py"))


def imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first.endswith(".py") else first


def rooms_in(names: Iterable[str]) -> set[str]:
    parts = [name.split(".") for name in names if name.startswith("e4profile.")]
    return {part[1] for part in parts if part[1] in (*ROOMS, "show")}


def may_import(room: str, other: str) -> bool:
    if room == other:
        return True
    if "show" in (room, other):
        return other == "show" and room in ("questions", "cli")
    return ROOMS.index(other) < ROOMS.index(room)


def test_the_finder_finds() -> None:
    assert rooms_in(imported("def f():\n    from e4profile import cli")) == {"cli"}
    assert rooms_in(imported("import e4profile.questions.published.command as t")) == {"questions"}
    assert rooms_in(imported("from e4profile.questions.output import note")) == {"questions"}
    assert not rooms_in(imported("from e4profile.client import x"))
    assert may_import("questions", "show")
    assert not may_import("layers", "show")
    assert not may_import("show", "networks")
    assert not may_import("subjects", "witnesses")
    assert may_import("witnesses", "ops")
    assert len(FILES) > 100


def test_the_root_holds_what_every_room_may_use_and_nothing_else() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))} == {*ROOMS, "show"}


IMPORTS = {path: [*imported(path.read_text(encoding="utf-8"))] for path in FILES}


def test_imports_run_downwards() -> None:
    found = {path: (room_of(path), rooms_in(names)) for path, names in IMPORTS.items()}
    upwards = {
        path: sorted(other for other in others if not (may_import(room, other) if room else path.stem in TOP))
        for path, (room, others) in found.items()
    }
    assert {path: others for path, others in upwards.items() if others} == {}


def test_only_commands_know_the_command_line() -> None:
    others = [path for path in FILES if room_of(path) not in ("questions", "cli", "")]
    assert [path for path in others if imports(path, "typer")] == []


def test_what_shows_imports_no_torch() -> None:
    assert [path for path in FILES if room_of(path) == "show" and imports(path, "torch")] == []


def imports(path: Path, package: str) -> bool:
    return package in {name.split(".")[0] for name in IMPORTS[path]}
