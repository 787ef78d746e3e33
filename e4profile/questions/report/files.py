"""The reports folder on disk: made anew without touching what no report wrote, or compared with what would be made."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e4profile.errors import SettingError
from e4profile.questions.report import content
from e4profile.show.html.page import check_writable, replace_file

MANIFEST = "report-manifest.json"
"""What a report wrote: the SHA-256 of each file, by name. Nothing else in the folder is the report's."""

_STAGE = ".e4profile-report"
"""Where a report lies whole before it is put in place; complete once its manifest is there."""

_ENDINGS = {content.TABLES: (".md", ".csv", ".tex"), content.DRAWINGS: (".svg", ".png", ".csv")}
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
    """Find out before the work begins that a folder cannot be used; to write, finish what a killed report began.

    Raises:
        SettingError: when it is a file, cannot be written or holds files of the report's names that no report wrote,
            or, to compare, holds no whole report.
    """
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out: {out} is a file; give a folder")
    if to_write:
        _put_in_place(out)
        _refuse_foreign(out, (content.PAGE, content.VERSIONS))
        for name in (content.PAGE, f"{content.TABLES}/any", f"{content.DRAWINGS}/any"):
            check_writable(out / name)
    elif (out / _STAGE / MANIFEST).is_file():
        raise SettingError(f"--out: a report was killed while it was put in place in {out}; run e4profile report")
    elif not (out / content.VERSIONS).is_file():
        raise SettingError(f"--out: {out} holds no report ({content.VERSIONS} is missing); run e4profile report")


def write_report(out: Path, done: Callable[[str], None]) -> list[Path]:
    """Make the report and put it in place; returns the files.

    Everything lies in the folder, whole, before the first file is replaced; a report that is killed after that is
    put in place by the next one. Files that an earlier report wrote, and this one does not, are removed as long as
    they are as they were written. Records of measurements below the folder are read and kept, as is everything else.

    Raises:
        SettingError: when the folder cannot be written, a record in it cannot be read, or a file that no report
            wrote has a name of the report's.
    """
    check_folder(out, to_write=True)
    with tempfile.TemporaryDirectory() as made:
        content.make_report(Path(made), out, done)
        wanted = _files(Path(made))
        _refuse_foreign(out, wanted)
        try:
            _stage(Path(made), wanted, out / _STAGE)
        except OSError as error:
            shutil.rmtree(out / _STAGE, ignore_errors=True)
            raise SettingError(f"cannot write {out}: {error.strerror}") from error
    _put_in_place(out)
    return [out / name for name in wanted]


def _stage(made: Path, names: Iterable[str], stage: Path) -> None:
    digests = {}
    for name in names:
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made / name, stage / name)
        digests[name] = _digest(stage / name)
    replace_file(stage / MANIFEST, (json.dumps(digests, indent=2) + "\n").encode())


def _put_in_place(out: Path) -> None:
    """Move a complete stage into the folder, or what is left of one; an incomplete stage is removed."""
    stage = out / _STAGE
    with _signals_held():
        if (stage / MANIFEST).is_file():
            new = _manifest(stage)
            for name, digest in _manifest(out).items():
                if name not in new and (out / name).is_file() and _digest(out / name) == digest:
                    (out / name).unlink()
            for name in (*new, MANIFEST):
                if (stage / name).is_file():
                    _move(stage / name, out / name)
        if stage.is_dir():
            shutil.rmtree(stage)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # a link stays one: the file that it leads to is replaced
        os.replace(source, os.path.realpath(target))
    except OSError:
        # the link leads to another disk
        replace_file(target, source.read_bytes())
        source.unlink()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C and polite requests to end wait until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    kinds = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {kind: signal.signal(kind, lambda number, _: came.append(number)) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            # None: not set from Python, and not to be set back from here
            signal.signal(kind, signal.SIG_DFL if handler is None else handler)
        for number in came:
            signal.raise_signal(number)


def _refuse_foreign(out: Path, names: Iterable[str]) -> None:
    """Refuse to write over what no report wrote; of a report from before there were manifests, its names are its."""
    old = not (out / MANIFEST).is_file() and _is_version_table(out / content.VERSIONS)
    known = set(names if old else _manifest(out))
    foreign = [name for name in names if (out / name).is_dir() or (name not in known and (out / name).exists())]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise SettingError(
            f"--out: {out / foreign[0]}{more} would be written over, and no report wrote it: "
            "move it away or give another folder"
        )


def _is_version_table(path: Path) -> bool:
    return path.is_file() and set(content.WITNESSES) <= set(_recorded(path))


def _manifest(folder: Path) -> dict[str, str]:
    """The files that a report wrote and their digests; none without a manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    found = _recorded(path)
    for name in found:
        below, _, file = name.rpartition("/")
        if name not in (content.PAGE, content.VERSIONS) and (
            Path(file).name != file or Path(file).suffix not in _ENDINGS.get(below, ())
        ):
            raise SettingError(f"{path}: {name!r} is not a file of a report; remove the manifest to keep all files")
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_report(out: Path, done: Callable[[str], None]) -> Staleness:
    """Compare a folder, byte for byte, with what would be made now.

    What a library draws or prints is compared where its version is the recorded one: with another matplotlib the
    figures are compared by their CSV, with another pillow the PNG files are not, with another sympy the page is
    compared without its formulas.

    Raises:
        SettingError: without a report in the folder, or when a record in it cannot be read.
    """
    check_folder(out, to_write=False)
    recorded, installed = _recorded(out / content.VERSIONS), content.installed_versions()
    other = {name for name in installed if recorded.get(name) != installed[name]}
    with tempfile.TemporaryDirectory() as made:
        content.make_report(Path(made), out, done)
        earlier = {name for name in _manifest(out) if (out / name).is_file()}
        names = sorted({*earlier, *_files(Path(made))} - {content.VERSIONS})
        found = {name: _difference(out, Path(made), name, other) for name in names}
    stale = {name: text for name, text in found.items() if text}
    notes = [_version_note(name, recorded, installed) for name in sorted(other)]
    return Staleness(list(stale.values()), notes, list(stale))


def _files(folder: Path) -> list[str]:
    """The files of a report that was just made, relative, sorted."""
    found = [name for name in (content.PAGE, content.VERSIONS) if (folder / name).is_file()]
    for below, endings in _ENDINGS.items():
        if (folder / below).is_dir():
            found += [f"{below}/{path.name}" for path in (folder / below).iterdir() if path.suffix in endings]
    return sorted(found)


def _recorded(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise SettingError(f"{path}: must be an object of texts by name")
    return {str(name): str(value) for name, value in found.items()}


def _version_note(name: str, recorded: dict[str, str], installed: dict[str, str]) -> str:
    meaning = {
        "matplotlib": "figures are compared by their CSV only",
        "pillow": "PNG files are not compared",
        "sympy": "the page is compared without its formulas",
    }.get(name, "a difference may come from that")
    return f"made with {name} {recorded.get(name, 'of unknown version')}, {installed[name]} is installed: {meaning}"


def _difference(out: Path, made: Path, name: str, other: set[str]) -> str:
    before, after = out / name, made / name
    if not before.is_file():
        return f"{name}: missing"
    if not after.is_file():
        return f"{name}: superfluous"
    drawn = name.startswith(f"{content.DRAWINGS}/") and before.suffix in _DRAWN
    if drawn and ("matplotlib" in other or (before.suffix == ".png" and "pillow" in other)):
        return ""
    old, new = before.read_bytes(), after.read_bytes()
    if old == new:
        return ""
    if drawn:
        return f"{name}: stale ({len(old):,} bytes, {len(new):,} when made now)"
    old_text, new_text = (_comparable(one, name, other) for one in (old, new))
    return "" if old_text == new_text else _diff(name, old_text, new_text)


def _comparable(written: bytes, name: str, other: set[str]) -> str:
    text = written.decode("utf-8", errors="backslashreplace")
    if name == content.PAGE and other & {"matplotlib", "pillow"}:
        text = _IMAGE.sub("", text)
    if name == content.PAGE and "sympy" in other:
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
