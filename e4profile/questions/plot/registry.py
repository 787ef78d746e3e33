"""Every kind of figure by name: what it shows, of which networks by default, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError, UnknownNameError

if TYPE_CHECKING:
    from e4profile.networks.cards import Card
    from e4profile.records.store import Record
    from e4profile.show.style import Plot
    from e4profile.subjects.subject import Subject

Drawing = Callable[[str, "Sequence[Any]"], "list[Plot]"]
RecordDrawing = Callable[[str, "Sequence[Record]"], "list[Plot]"]


class NothingRecorded(SettingError):
    """A figure of measured times without a record to draw: timings are never made for a figure."""


@dataclass(frozen=True)
class Figure:
    """One kind of figure.

    Attributes:
        kind: its name on the command line and in file names.
        meaning: what it shows, in one line.
        default_models: the card names that it shows when none are given; empty for every network recorded.
        from_cards: draws cards.
        from_records: draws records instead.
        takes_settings: whether arguments of the networks may be overridden.
        only_cards: why it cannot show a model of one's own; empty where it can.
    """

    kind: str
    meaning: str
    default_models: Callable[[], Sequence[str]]
    from_cards: Drawing | None = None
    from_records: RecordDrawing | None = None
    takes_settings: bool = True
    only_cards: str = ""


def find_figure(kind: str) -> Figure:
    """The figure of that kind.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if kind not in FIGURES:
        raise UnknownNameError("figure", kind, FIGURES)
    return FIGURES[kind]


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
        kind: one of ``FIGURES``.
        models: names of cards, card files, cards or models of one's own (see ``subjects.subject.resolve``); the
        figure's default when empty. Figures of records take any recorded name.
        out: the folder, created when missing.
        formats: of ``svg``, ``png`` and ``csv``.
        records: a file of records, or a folder that is searched for ``*.jsonl``, for figures of measured times.

    Raises:
        UnknownNameError: for an unknown kind, model or format.
        SettingError: for networks that the figure cannot show.
        UserCodeError: for what a model of one's own raises.
        NothingRecorded: for a figure of measured times without a record.
    """
    from e4profile.show.style import FORMATS, paper_style, save

    figure = find_figure(kind)
    for name in formats:
        if name not in FORMATS:
            raise UnknownNameError("figure format", name, FORMATS)
    name = "-".join([kind, *_suffix(models)])
    with paper_style():
        plots = _plots(figure, name, models, records)
        return [path for plot in plots for path in save(plot, out, formats)]


def draw_all(out: Path, records: Path | None = None, notes: list[str] | None = None) -> list[Path]:
    """Draw every figure of its default networks: the same networks and records give the same bytes.

    Args:
        out: the folder, created when missing.
        records: as in ``draw``; the folder that ``out`` is in when None.
        notes: takes a sentence for each figure that is left out because nothing is recorded for it.
    """
    paths: list[Path] = []
    for kind in FIGURES:
        try:
            paths += draw(kind, (), out, records=out.parent if records is None else records)
        except NothingRecorded as reason:
            if notes is not None:
                notes.append(str(reason))
    return paths


def check_shows(figure: Figure, name: str) -> None:
    """Refuse a model of one's own, by its name, for a figure that cannot show it.

    Raises:
        SettingError: saying why.
    """
    from e4profile.subjects.subject import is_own

    if figure.only_cards and is_own(name):
        raise SettingError(f"{figure.kind} cannot show {name}, a model of your own: {figure.only_cards}")


def _plots(figure: Figure, name: str, models: Sequence[str | Subject], records: Path | None) -> list[Plot]:
    from e4profile.networks.cards import find_card
    from e4profile.subjects.subject import is_own

    for one in models:
        check_shows(figure, one if isinstance(one, str) else one.name)
    if figure.from_records is not None:
        # a model of one's own is not run for what is recorded of it
        names = [
            one.name if not isinstance(one, str) else one if is_own(one) else find_card(one).name for one in models
        ]
        return figure.from_records(name, _recorded(figure, names, records))
    assert figure.from_cards is not None
    chosen = list(models) or list(figure.default_models())
    if any(isinstance(one, str) and is_own(one) for one in chosen):
        raise SettingError("a model of your own needs its inputs: resolve it first (subjects.subject.resolve)")
    return figure.from_cards(name, [find_card(one) if isinstance(one, str) else one for one in chosen])


def drawn_name(subject: Subject) -> str:
    """A network's name in a figure: of one's own the end of the path, with the arguments that were given."""
    from e4profile.networks.cards import Card

    if isinstance(subject, Card):
        return subject.name
    given = "".join(f" {name}={value}" for name, value in subject.arguments.items())
    return f"{subject.name.rpartition('/')[2]}{given}"


def _suffix(models: Sequence[str | Subject]) -> list[str]:
    """At most three names, so that the file's name stays one."""
    import re

    names = [model if isinstance(model, str) else drawn_name(model) for model in models]
    names = [re.sub(r"[^\w.]+", "-", Path(name).name.removesuffix(".toml")).strip("-") for name in names]
    return names if len(names) <= 3 else [*names[:2], f"and-{len(names) - 2}-more"]


def _recorded(figure: Figure, names: Sequence[str], where: Path | None) -> list[Record]:
    """The records of a figure's kind, of the named networks where some are named.

    A name also stands for the variants that a record distinguishes after a comma: ``e4net, reference``.
    """
    from e4profile.records.store import RecordStore

    folder = where if where is not None else Path("reports")
    files = sorted(folder.rglob("*.jsonl")) if folder.is_dir() else [folder]
    kind = {"share": "breakdown"}.get(figure.kind, figure.kind)
    found = [record for file in files for record in RecordStore(file).load() if record.kind == kind]
    if names:
        found = [record for record in found if record.card.partition(",")[0] in names]
    if not found:
        of = f" of {', '.join(names)}" if names else ""
        raise NothingRecorded(
            f"{figure.kind}: no record of kind {kind!r}{of} in {folder.name or folder}; figures never measure times"
        )
    return found


def _each(kind: str, cards: Sequence[Card], draw_one: Callable[[str, Card], Plot]) -> list[Plot]:
    """One figure per network, named after it."""
    return [draw_one("-".join([kind, *_suffix([card])]), card) for card in cards]


def _cost(_: str, cards: Sequence[Card]) -> list[Plot]:
    from e4profile.questions.sweep.cost_drawing import cost_plot
    from e4profile.questions.sweep.cost_rows import cost_rows

    return _each("cost", cards, lambda one, card: cost_plot(one, cost_rows(card)))


def _ratio_map(_: str, cards: Sequence[Card]) -> list[Plot]:
    from e4profile.questions.formula.ratio_map_drawing import ratio_plot
    from e4profile.questions.formula.ratio_map_rows import ratio_rows

    return _each("ratio-map", cards, lambda one, card: ratio_plot(one, ratio_rows(card)))


def _terms(name: str, cards: Sequence[Card]) -> list[Plot]:
    from e4profile.questions.formula.terms_drawing import terms_plot
    from e4profile.questions.formula.terms_rows import terms_rows

    return [terms_plot(name, terms_rows(cards))]


def _counters(name: str, cards: Sequence[Card]) -> list[Plot]:
    from e4profile.questions.count.counters_drawing import counters_plot
    from e4profile.questions.count.counters_rows import counter_rows

    return [counters_plot(name, counter_rows(cards))]


def _accuracy(name: str, cards: Sequence[Card]) -> list[Plot]:
    from e4profile.questions.pareto.accuracy_drawing import accuracy_plot
    from e4profile.questions.pareto.accuracy_rows import DATASETS, accuracy_rows

    rows = accuracy_rows(cards)
    plots = []
    for dataset in DATASETS:
        shown = [row for row in rows if row["dataset"] == dataset.name]
        if shown:
            plots.append(accuracy_plot(f"{name}-{dataset.name}", dataset.title, shown))
    return plots


def _memory(name: str, cards: Sequence[Card]) -> list[Plot]:
    from e4profile.questions.memory.figure_drawing import memory_plot
    from e4profile.questions.memory.figure_rows import memory_rows

    return [memory_plot(name, memory_rows(cards))]


def _training(name: str, cards: Sequence[Card]) -> list[Plot]:
    from e4profile.questions.budget.training_drawing import training_plot
    from e4profile.questions.budget.training_rows import training_rows

    return [training_plot(name, training_rows(cards))]


def _share(name: str, records: Sequence[Record]) -> list[Plot]:
    from e4profile.questions.time.share_drawing import share_plot
    from e4profile.questions.time.share_rows import share_rows

    return [share_plot(name, share_rows(records))]


def _roofline(name: str, records: Sequence[Record]) -> list[Plot]:
    from e4profile.questions.roofline.figure_drawing import roofline_plots
    from e4profile.questions.roofline.figure_rows import roofline_rows

    return roofline_plots(name, roofline_rows(records))


def _defaults(module: str) -> Callable[[], Sequence[str]]:
    """The default networks that the figure's module states, asked for when they are needed."""

    def names() -> Sequence[str]:
        from importlib import import_module

        found: Sequence[str] = import_module(f"e4profile.questions.{module}").default_models()
        return found

    return names


def _all_recorded() -> Sequence[str]:
    return ()


FIGURES: dict[str, Figure] = {
    figure.kind: figure
    for figure in (
        Figure(
            "cost",
            "cost against r, s, k, width and group order: the paper's formula, the closed form and what runs",
            _defaults("sweep.cost_rows"),
            _cost,
            only_cards="it varies a card's group, r, s, k and width in the closed form; for an argument of your "
            "builder see e4profile match --vary",
        ),
        Figure(
            "ratio-map",
            "E4 layers against group convolutions: ratio of parameters and MACs over (k, A)",
            _defaults("formula.ratio_map_rows"),
            _ratio_map,
            only_cards="it evaluates closed forms of E4 layers over (k, A), which needs a card's topology",
        ),
        Figure("terms", "each network's MACs stacked by named term", _defaults("formula.terms_rows"), _terms),
        Figure(
            "counters",
            "what fvcore and thop see of each network, as a share of the MACs that run",
            _defaults("count.counters_rows"),
            _counters,
        ),
        Figure(
            "accuracy",
            "published test error against MACs and parameters, with fronts, per data set",
            _defaults("pareto.accuracy_rows"),
            _accuracy,
            takes_settings=False,
            only_cards="it shows published errors; for an error of your own see e4profile pareto --error",
        ),
        Figure(
            "share",
            "share of time against share of MACs per named term, from records",
            _all_recorded,
            from_records=_share,
            takes_settings=False,
        ),
        Figure(
            "roofline",
            "each layer under the device's measured roof, from records",
            _all_recorded,
            from_records=_roofline,
            takes_settings=False,
        ),
        Figure(
            "memory",
            "saved bytes, constant and growing, and peak of a training step against batch size",
            _defaults("memory.figure_rows"),
            _memory,
        ),
        Figure(
            "training",
            "training step against inference, equivariance learned (implicit) or built in (explicit)",
            _defaults("budget.training_rows"),
            _training,
            only_cards="it sets the published implicitly equivariant networks against their G-CNNs; for the cost of "
            "your training see e4profile budget",
        ),
    )
}
"""Every kind of figure by name, in the order of the reports."""
