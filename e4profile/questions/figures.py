"""Every kind of figure by name: what it shows, of which networks by default, and how it is drawn.

A figure is one file of a question's folder, ``figure.py`` or ``figure_NAME.py``, with its rows, its drawing and a
``FIGURE`` that says so; finding the files means that no list needs an entry for a new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any

import e4profile.questions
from e4profile.errors import SettingError, one_of

if TYPE_CHECKING:
    from e4profile.records.store import Record
    from e4profile.show.style import Plot
    from e4profile.subjects.subject import Subject

Rows = Sequence[Mapping[str, Any]]


class NothingRecorded(SettingError):
    """A figure of measured times without a record to draw: timings are never made for a figure."""


def _all_recorded() -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Figure:
    """One kind of figure.

    Attributes:
        kind: its name on the command line and in file names.
        meaning: what it shows, in one line.
        rows: its numbers, one mapping per drawn item, of networks or of records.
        drawing: draws rows under the name of the files; several figures where they belong apart.
        default_models: the card names that it shows when none are given; empty for every network recorded.
        place: its place among the figures of the reports, ties by kind.
        each: whether ``rows`` takes one network, and every network has its own figure.
        records: the kind of records that ``rows`` takes; empty where it takes networks.
        takes_settings: whether arguments of the networks may be overridden.
        only_cards: why it cannot show a user-defined model; empty where it can.
    """

    kind: str
    meaning: str
    rows: Callable[[Any], Rows]
    drawing: Callable[[str, Rows], Plot | list[Plot]]
    default_models: Callable[[], Sequence[str]] = _all_recorded
    place: int = 100
    each: bool = False
    records: str = ""
    takes_settings: bool = True
    only_cards: str = ""


def rows_of_records(
    records: Sequence[Record], kind: str, rows_of: Callable[[Record], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """What records of a kind give; of several records of the same work the last one counts.

    Raises:
        SettingError: for a record that lacks a value.
    """
    found: list[dict[str, Any]] = []
    for record in {record.key: record for record in records if record.kind == kind}.values():
        try:
            found += rows_of(record)
        except KeyError as error:
            raise SettingError(f"the {kind} of {record.card!r} lacks {error}") from error
        except (TypeError, ZeroDivisionError) as error:
            raise SettingError(f"the {kind} of {record.card!r} is damaged: {error}") from error
    return found


@cache
def figures() -> dict[str, Figure]:
    """Every kind of figure by name, in the order of the reports."""
    modules = walk_packages(e4profile.questions.__path__, "e4profile.questions.")
    files = [one.name for one in modules if re.fullmatch(r"figure(_\w+)?", one.name.rpartition(".")[2])]
    found = [import_module(file).FIGURE for file in files]
    return {figure.kind: figure for figure in sorted(found, key=lambda one: (one.place, one.kind))}


def find_figure(kind: str) -> Figure:
    """The figure of that kind.

    Raises:
        UnknownNameError: with the nearest names.
    """
    return figures()[one_of("figure", kind, figures())]


def draw(
    kind: str,
    models: Sequence[str | Subject] = (),
    out: Path = Path("figures"),
    *,
    formats: Sequence[str] = ("svg", "png", "csv"),
    records: Path | None = None,
) -> list[Path]:
    """Draw one kind of figure and return the paths written.

    The files are named after the kind, and after the models where some are given; figures that show one network
    each are always named after it.

    Args:
        kind: one of ``figures()``.
        models: names of cards, card files, or networks (see ``subjects.subject.resolve``); the figure's default
            when empty. Figures of records take any recorded name.
        out: the folder, created when missing; or one file, ``x.pdf``, whose ending is the format.
        formats: of ``svg``, ``png``, ``csv`` and ``pdf``.
        records: a file of records, or a folder that is searched for ``*.jsonl``, for figures of measured times.

    Raises:
        UnknownNameError: for an unknown kind, model or format.
        SettingError: for networks that the figure cannot show.
        UserCodeError: for what a user-defined model raises.
        NothingRecorded: for a figure of measured times without a record.
    """
    from e4profile.show.style import FORMATS, paper_style

    find_figure(kind)
    for name in formats:
        one_of("figure format", name, FORMATS)
    with paper_style():
        return save_plots(_named_plots(kind, models, records), out, formats)


def save_plots(plots: Sequence[Plot], out: Path, formats: Sequence[str] = ("svg", "png", "csv")) -> list[Path]:
    """Write figures into a folder, or into one file whose ending is the format; the paths written.

    Raises:
        SettingError: for what cannot be written.
    """
    from e4profile.show.style import is_file, save

    if is_file(out):
        only = len(plots) == 1
        plots = [replace(plot, name=out.stem if only else f"{out.stem}-{plot.name}") for plot in plots]
        out, formats = out.parent, (out.suffix.removeprefix("."),)
    return [path for plot in plots for path in save(plot, out, formats)]


def check_plot(folder: Path | None, kinds: Sequence[str], networks: Sequence[Subject]) -> None:
    """Refuse, before any work, a folder that cannot be written, or a network that a figure cannot show."""
    from e4profile.show.style import check_folder

    if folder is not None:
        check_folder(folder)
        for kind in kinds:
            for one in networks:
                check_shows(find_figure(kind), one.name)


def draw_beside(folder: Path | None, kinds: Sequence[str], networks: Sequence[Subject]) -> None:
    """Draw what a command has shown of networks, where a folder is given, and say which files there are.

    Python draws when its caller asks for it.
    """
    from e4profile.questions.answers import kept
    from e4profile.questions.output import note
    from e4profile.show.style import is_file

    answer = kept()
    if answer is not None:
        answer.figures += [partial(_named_plots, kind, networks) for kind in kinds]
    for kind in kinds if folder is not None else ():
        assert folder is not None
        several = len(kinds) > 1 and is_file(folder)
        place = folder.with_name(f"{folder.stem}-{kind}{folder.suffix}") if several else folder
        note(*(f"wrote {path}" for path in draw(kind, networks, place)))


def save_beside(folder: Path | None, drawing: Callable[[], Plot]) -> None:
    """Save what a command draws of its own measurements, where a folder is given, and say which files there are.

    Python draws when its caller asks for it.
    """
    from e4profile.questions.answers import kept
    from e4profile.questions.output import note
    from e4profile.show.style import paper_style

    answer = kept()
    if answer is not None:
        answer.figures.append(lambda: [drawing()])
    elif folder is not None:
        with paper_style():
            note(*(f"wrote {path}" for path in save_plots([drawing()], folder)))


def file_name(kind: str, networks: Sequence[str | Subject]) -> str:
    """The name of a figure's files, after its kind and the networks that it shows."""
    return "-".join([kind, *_suffix(networks)])


def draw_all(out: Path, records: Path | None = None, notes: list[str] | None = None) -> list[Path]:
    """Draw every figure of its default networks: the same networks and records give the same bytes.

    Args:
        out: the folder, created when missing.
        records: as in ``draw``; the folder that ``out`` is in when None.
        notes: takes a sentence for each figure that is left out because nothing is recorded for it.
    """
    paths: list[Path] = []
    for kind in figures():
        try:
            paths += draw(kind, (), out, records=out.parent if records is None else records)
        except NothingRecorded as reason:
            if notes is not None:
                notes.append(str(reason))
    return paths


def check_shows(figure: Figure, name: str) -> None:
    """Refuse a user-defined model, by its name, for a figure that cannot show it.

    Raises:
        SettingError: saying why.
    """
    from e4profile.subjects.subject import names_code

    if figure.only_cards and names_code(name):
        raise SettingError(f"{figure.kind} cannot show {name}, a user-defined model: {figure.only_cards}")


def _named_plots(kind: str, models: Sequence[str | Subject], records: Path | None = None) -> list[Plot]:
    return _plots(find_figure(kind), file_name(kind, models), models, records)


def _plots(figure: Figure, name: str, models: Sequence[str | Subject], records: Path | None) -> list[Plot]:
    from e4profile.networks.cards import find_card
    from e4profile.subjects.named import parse_named
    from e4profile.subjects.subject import InputsMissing, names_code, resolve

    for one in models:
        check_shows(figure, one if isinstance(one, str) else one.name)
    if figure.records:
        # a user-defined model is not run for what is recorded of it
        names = [
            one.name if not isinstance(one, str) else one if names_code(one) else find_card(one).name
            for one in (parse_named(one).reference if isinstance(one, str) else one for one in models)
        ]
        return _drawn(figure, name, _recorded(figure, names, records))
    chosen = list(models) or list(figure.default_models())
    try:
        networks = [resolve(one) if isinstance(one, str) else one for one in chosen]
    except InputsMissing as error:
        text = "a user-defined model needs its inputs: resolve it first (subjects.subject.resolve)"
        raise SettingError(text) from error
    if figure.each:
        return [plot for one in networks for plot in _drawn(figure, file_name(figure.kind, [one]), one)]
    return _drawn(figure, name, networks)


def _drawn(figure: Figure, name: str, of: Any) -> list[Plot]:
    plots = figure.drawing(name, figure.rows(of))
    return plots if isinstance(plots, list) else [plots]


def _suffix(models: Sequence[str | Subject]) -> list[str]:
    """At most three names, so that the file's name stays one."""
    names = [model if isinstance(model, str) else model.short_name for model in models]
    names = [re.sub(r"[^\w.]+", "-", Path(name).name.removesuffix(".toml")).strip("-") for name in names]
    return names if len(names) <= 3 else [*names[:2], f"and-{len(names) - 2}-more"]


def _recorded(figure: Figure, names: Sequence[str], where: Path | None) -> list[Record]:
    """The records of a figure's kind, of the named networks where some are named.

    A name also stands for the variants that a record distinguishes after a comma: ``e4net, reference``.
    """
    from e4profile.records.store import RecordStore

    folder = where if where is not None else Path("reports")
    files = sorted(folder.rglob("*.jsonl")) if folder.is_dir() else [folder]
    found = [record for file in files for record in RecordStore(file).load() if record.kind == figure.records]
    if names:
        found = [record for record in found if record.card.partition(",")[0] in names]
    if not found:
        of = f" of {', '.join(names)}" if names else ""
        raise NothingRecorded(
            f"{figure.kind}: no record of kind {figure.records!r}{of} in {folder.name or folder}; "
            "figures never measure times"
        )
    return found
