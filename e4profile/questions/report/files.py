"""The reports folder on disk: made anew, or compared with what would be made."""

from __future__ import annotations

import difflib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from e4profile.errors import SettingError
from e4profile.questions.report.content import DRAWINGS, PAGE, TABLES, VERSIONS, installed_versions, make_report
from e4profile.show.html.page import check_writable, replace_file

_ENDINGS = {TABLES: (".md", ".csv", ".tex"), DRAWINGS: (".svg", ".png", ".csv")}
_DRAWN = (".svg", ".png")
_MOST_LINES = 24
_LONGEST_LINE = 200
_IMAGE = re.compile(r'src="data:image/[^"]*"')
_MATH = re.compile(r"<math\b.*?</math>", re.DOTALL)


@dataclass(frozen=True)
class Staleness:
    """How a folder differs from what would be made now.

    Attributes:
        differences: one short text for each file that is stale, missing or superfluous; empty when current.
        notes: what was compared less strictly, and why.
        names: the files, in the order of the differences.
    """

    differences: Sequence[str]
    notes: Sequence[str]
    names: Sequence[str] = ()


def check_folder(out: Path, *, to_write: bool) -> None:
    """Find out before the work begins that a folder cannot be used.

    Raises:
        SettingError: when it is a file or cannot be written, or, to compare, holds no report.
    """
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out: {out} is a file; give a folder")
    if to_write:
        for name in (PAGE, f"{TABLES}/any", f"{DRAWINGS}/any"):
            check_writable(out / name)
    elif not (out / VERSIONS).is_file():
        raise SettingError(f"--out: {out} holds no report ({VERSIONS} is missing); run e4profile report")


def write_report(out: Path, done: Callable[[str], None]) -> list[Path]:
    """Make the report and put it in place, file by file and each whole; returns the files.

    Everything is made before the first file is replaced. Files of an earlier report that are no longer made are
    removed; records of measurements below the folder are read and kept.

    Raises:
        SettingError: when the folder cannot be written or a record in it cannot be read.
    """
    check_folder(out, to_write=True)
    with tempfile.TemporaryDirectory() as made:
        make_report(Path(made), out, done)
        wanted = _files(Path(made))
        for name in wanted:
            replace_file(out / name, (Path(made) / name).read_bytes())
    for name in sorted(set(_files(out)) - set(wanted)):
        (out / name).unlink()
    return [out / name for name in wanted]


def check_report(out: Path, done: Callable[[str], None]) -> Staleness:
    """Compare a folder, byte for byte, with what would be made now.

    What a library draws or prints is compared where its version is the recorded one: with another matplotlib the
    figures are compared by their CSV, with another pillow the PNG files are not, with another sympy the page is
    compared without its formulas.

    Raises:
        SettingError: without a report in the folder, or when a record in it cannot be read.
    """
    check_folder(out, to_write=False)
    recorded, installed = _recorded(out / VERSIONS), installed_versions()
    other = {name for name in installed if recorded.get(name) != installed[name]}
    with tempfile.TemporaryDirectory() as made:
        make_report(Path(made), out, done)
        names = sorted({*_files(out), *_files(Path(made))} - {VERSIONS})
        found = {name: _difference(out, Path(made), name, other) for name in names}
    stale = {name: text for name, text in found.items() if text}
    notes = [_version_note(name, recorded, installed) for name in sorted(other)]
    return Staleness(list(stale.values()), notes, list(stale))


def _files(folder: Path) -> list[str]:
    """The report's own files in a folder, relative, sorted; records and whatever else lies there are not."""
    found = [name for name in (PAGE, VERSIONS) if (folder / name).is_file()]
    for below, endings in _ENDINGS.items():
        if (folder / below).is_dir():
            found += [f"{below}/{path.name}" for path in (folder / below).iterdir() if path.suffix in endings]
    return sorted(found)


def _recorded(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise SettingError(f"{path}: must be an object of versions by name")
    return {str(name): str(value) for name, value in content.items()}


def _version_note(name: str, recorded: dict[str, str], installed: dict[str, str]) -> str:
    note = f"made with {name} {recorded.get(name, 'of unknown version')}, {installed[name]} is installed"
    if name == "matplotlib":
        return f"{note}: figures are compared by their CSV only"
    if name == "pillow":
        return f"{note}: PNG files are not compared"
    if name == "sympy":
        return f"{note}: the page is compared without its formulas"
    return f"{note}: a difference may come from that"


def _difference(out: Path, made: Path, name: str, other: set[str]) -> str:
    before, after = out / name, made / name
    if not before.is_file():
        return f"{name}: missing"
    if not after.is_file():
        return f"{name}: superfluous"
    drawn = name.startswith(f"{DRAWINGS}/") and before.suffix in _DRAWN
    if drawn and ("matplotlib" in other or (before.suffix == ".png" and "pillow" in other)):
        return ""
    old, new = before.read_bytes(), after.read_bytes()
    if old == new:
        return ""
    if drawn:
        return f"{name}: stale ({len(old):,} bytes, {len(new):,} when made now)"
    old_text, new_text = (_comparable(one, name, other) for one in (old, new))
    return "" if old_text == new_text else _diff(name, old_text, new_text)


def _comparable(content: bytes, name: str, other: set[str]) -> str:
    text = content.decode("utf-8", errors="backslashreplace")
    if name == PAGE and other & {"matplotlib", "pillow"}:
        text = _IMAGE.sub("", text)
    if name == PAGE and "sympy" in other:
        text = _MATH.sub("", text)
    return text


def _diff(name: str, old: str, new: str) -> str:
    before, after = old.splitlines(), new.splitlines()
    lines = list(difflib.unified_diff(before, after, name, f"{name} when made now", n=1, lineterm=""))
    # line ends alone are invisible line by line
    lines = lines or [f"{name}: stale in its line ends"]
    shown = [line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…" for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        shown.append(f"… {len(lines) - _MOST_LINES} more lines of {name}")
    return "\n".join(shown)
