"""Where cards are found besides the package's own: in folders that are asked for, a project's, and distributions'.

A project lists folders or files in ``cards`` of ``[tool.e4profile]`` in its ``pyproject.toml``, or ``e4profile.toml``.
A distribution names the package that holds its cards in an entry point of the group ``e4profile.cards``. Nothing of a
distribution is imported, nor is the code that a card names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from e4profile.errors import parse_toml, read_text
from e4profile.networks.cards import Card, CardError, is_built_in

GROUP = "e4profile.cards"
"""The group of the entry points; the value of each is a package whose folder holds cards."""

CONFIG_NAMES = ("e4profile.toml", "pyproject.toml")
"""Where a project may list its folders of cards: in the nearest folder, from the working directory up, that has any."""

_EXAMPLE = 'for example cards = ["cards"]'
_NAME = re.compile(r"[A-Za-z0-9][\w+.-]*")
_RESERVED_TABLES = ("all", "implicit")


class _Places(NamedTuple):
    asked: tuple[Path, ...] = ()
    project: Path | None = None


_NOWHERE = _Places()
_places: ContextVar[_Places] = ContextVar("places of cards", default=_NOWHERE)


@contextmanager
def looking_in(asked: Iterable[Path] = (), project: Path | None = None) -> Iterator[None]:
    """Find cards in these folders or files too, while the body runs.

    Args:
        asked: folders or files.
        project: the folder from which the project's configuration is looked for; the working directory when None.
    """
    outer = _places.get()
    token = _places.set(_Places((*outer.asked, *asked), outer.project if project is None else project))
    try:
        yield
    finally:
        _places.reset(token)


def found_cards(*, distributions: bool = True) -> dict[str, Card]:
    """The cards that are not the package's, by name in lower case, sorted.

    Args:
        distributions: whether installed distributions are searched too.

    Raises:
        CardError: for the first card that cannot be used, with a line for each other one in ``details``.
    """
    files = [*_asked(), *_of_project(), *(_of_distributions(tuple(sys.path)) if distributions else ())]
    found: dict[str, Card] = {}
    problems: list[str] = []
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            continue
        seen.add(file.resolve())
        try:
            card = _read(str(file), file.resolve(), file.stat().st_mtime_ns if file.exists() else 0)
            if card is not None:
                _check_name(card, found)
                found[card.name.lower()] = card
        except CardError as error:
            problems.append(str(error))
    if problems:
        first, *others = problems
        refused = CardError(first)
        refused.details = "".join(f"e4profile: {other}\n" for other in others)
        raise refused
    return dict(sorted(found.items()))


@lru_cache(maxsize=1024)
def _read(file: str, _whole: Path, _changed: int) -> Card | None:
    """The card in a file; None for a convention, which may stand beside the cards that name it."""
    from e4profile.networks.card_reader import parse_card

    text = read_text(Path(file), CardError)
    return None if {"meaning", "weights"} <= set(parse_toml(text, file, CardError)) else parse_card(text, file)


def _check_name(card: Card, found: dict[str, Card]) -> None:
    where = f"{card.file}: name: {card.name!r}"
    if not _NAME.fullmatch(card.name) or card.name.endswith((".toml", ".py")):
        raise CardError(f"{where} must be letters, digits and any of . _ + -, for example 'my-net'")
    if is_built_in(card.name.lower()):
        raise CardError(f"{where} is a card of e4profile; give it another name, for example '{card.name}-mine'")
    other = found.get(card.name.lower())
    if other is not None:
        raise CardError(f"{where} is the name of {other.file} too; give one of them another name")
    for index, row in enumerate(card.published):
        if row.table in _RESERVED_TABLES:
            raise CardError(
                f"{card.file}: published[{index}].table: {row.table!r} has a meaning of its own; give another name"
            )


def _asked() -> Iterator[Path]:
    for given in _places.get().asked:
        # a name that holds a comma may be there as it is
        for path in [given] if given.exists() else map(Path, str(given).split(",")):
            yield from map(_shown, _cards_at(path, f"--cards {path}"))


def _of_project() -> Iterator[Path]:
    """The cards that the nearest configuration lists."""
    try:
        start = (_places.get().project or Path.cwd()).resolve()
    except OSError:  # the working directory was removed
        return
    for folder in (start, *start.parents):
        tables = [one for name in CONFIG_NAMES if (one := _table(folder / name)) is not None]
        for file, table in tables:
            listed = table.get("cards", [])
            if not isinstance(listed, list) or not all(isinstance(one, str) and one for one in listed):
                raise CardError(f"{file}: cards: {listed!r} must be a list of folders or files, {_EXAMPLE}")
            for one in listed:
                yield from map(_shown, _cards_at(file.parent / one, f"{file}: cards: {one!r}"))
        if tables:
            return


def _table(file: Path) -> tuple[Path, dict[str, object]] | None:
    """A configuration and what it says to this program; None for a file without a part for it."""
    return _table_of(file, file.stat().st_mtime_ns) if file.is_file() else None


@lru_cache(maxsize=64)
def _table_of(file: Path, _changed: int) -> tuple[Path, dict[str, object]] | None:
    text = read_text(file, CardError)
    if file.name == "pyproject.toml" and "e4profile" not in text:
        return None
    data = parse_toml(text, file, CardError)
    tool = data.get("tool", {})
    if isinstance(tool, dict) and isinstance(tool.get("e4profile"), dict):
        return file, tool["e4profile"]
    return None if file.name == "pyproject.toml" else (file, data)


def _cards_at(path: Path, where: str) -> list[Path]:
    """The card files in a folder, or the one file.

    Raises:
        CardError: where there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CardError(f"{where}: no such folder or file; name a folder that holds cards (*.toml), or a card")
    found = [one for one in sorted(path.glob("*.toml")) if one.name not in CONFIG_NAMES]
    if not found:
        raise CardError(f"{where}: the folder holds no card: put a card's .toml into it, or name another folder")
    return found


def _shown(path: Path) -> Path:
    """The path as messages show it: from the working directory where it lies below."""
    try:
        return path.resolve().relative_to(Path.cwd().resolve())
    except (ValueError, OSError):
        return path


@lru_cache(maxsize=4)
def _of_distributions(_path: Sequence[str]) -> tuple[Path, ...]:
    """The cards of installed distributions."""
    from importlib.metadata import entry_points

    found: list[Path] = []
    for point in entry_points(group=GROUP):
        owner = "a distribution" if point.dist is None else point.dist.name
        where = f"{owner}: entry point {GROUP}: {point.name} = {point.value!r}"
        found += _cards_at(_folder_of(point.value, where), where)
    return tuple(found)


def _folder_of(package: str, where: str) -> Path:
    """The folder of a package, found without importing it."""
    from importlib.util import find_spec

    top, *parts = package.split(".")
    spec = find_spec(top) if top else None
    folders = [] if spec is None else [Path(one, *parts) for one in spec.submodule_search_locations or ()]
    folder = next((one for one in folders if one.is_dir()), None)
    if folder is None:
        raise CardError(f"{where}: is not a package with a folder; name the package that holds the cards")
    return folder
