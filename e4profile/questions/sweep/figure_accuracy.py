"""Published test errors against what the networks cost when built, with the fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.figures import Figure
from e4profile.show.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILION,
    Plot,
    along_steps,
    around,
    finish,
    log_axis,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from e4profile.networks.cards import PublishedRow
    from e4profile.questions.sweep.pareto import Candidate
    from e4profile.subjects.subject import Subject


@dataclass(frozen=True)
class Dataset:
    """A data set of published test errors.

    Attributes:
        name: in file names.
        title: for people.
        quantities: the cards' quantities, each with what distinguishes it from the others.
    """

    name: str
    title: str
    quantities: dict[str, str]


DATASETS = (
    Dataset("rot-mnist", "rot-MNIST", {"test_error": ""}),
    Dataset("cifar10", "CIFAR-10", {"test_error_cifar10": "", "test_error_cifar10_augmented": "augmented"}),
    Dataset("cifar100", "CIFAR-100", {"test_error_cifar100": "", "test_error_cifar100_augmented": "augmented"}),
    Dataset("stl10", "STL-10", {"test_error_stl10": ""}),
)


def default_models() -> tuple[str, ...]:
    """Every card with a published test error."""
    from e4profile.networks.cards import built_in_cards

    known = {quantity for dataset in DATASETS for quantity in dataset.quantities}
    return tuple(
        name
        for name, card in built_in_cards().items()
        if any(cell.quantity in known for row in card.published for cell in row.cells)
    )


def accuracy_rows(cards: Sequence[Subject]) -> list[dict[str, Any]]:
    """One row per published test error, in percent, with the parameters and the MACs of the network as built.

    ``series`` names the publication and what its training adds; only errors of one series are set against one
    another, because training differs between publications. ``on_macs_front`` and ``on_params_front`` say whether
    no other network of the series has both a lower error and no higher cost (or the same error at lower cost).
    The same network printed in several tables has one row.

    Raises:
        SettingError: when no card has a published test error.
    """
    from e4profile.questions.sweep.pareto import Candidate, front
    from e4profile.witnesses.counts.closed_form import count_closed_form

    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    candidates: list[Candidate] = []
    costs: dict[str, tuple[int, int]] = {}
    for dataset in DATASETS:
        for card in cards:
            for row in sorted(card.published, key=lambda row: (row.table, row.order)):
                for cell in row.cells:
                    if cell.quantity not in dataset.quantities:
                        continue
                    built = card.with_arguments(row.arguments)
                    key = f"{card.topology} {card.input} {sorted(built.arguments.items())!r}"
                    if key not in costs:
                        count = count_closed_form(built.build("meta"), built.shape)
                        costs[key] = (count.params, count.macs)
                    series = _series(row.source, dataset.quantities[cell.quantity])
                    if (dataset.name, series, key, cell.value) in rows:
                        continue
                    spread = None if cell.spread is None else Decimal(cell.spread)
                    candidates.append(
                        Candidate(_label(row), built, row.table, cell.quantity, Decimal(cell.value), spread)
                    )
                    rows[dataset.name, series, key, cell.value] = {
                        "dataset": dataset.name,
                        "series": series,
                        "label": _label(row),
                        "source": row.source,
                        "model": card.short_name,
                        "test_error_percent": float(cell.value),
                        "spread_percent": None if cell.spread is None else float(cell.spread),
                        "params": costs[key][0],
                        "macs": costs[key][1],
                    }
    found = list(rows.values())
    if not found:
        raise SettingError(f"no test error was published for {', '.join(card.name for card in cards)}")
    groups: dict[tuple[str, str], list[int]] = {}
    for index, one in enumerate(found):
        groups.setdefault((one["dataset"], one["series"]), []).append(index)
    for members in groups.values():
        for cost in ("macs", "params"):
            for point in front([(candidates[index], found[index][cost]) for index in members]):
                found[candidates.index(point.candidate)][f"on_{cost}_front"] = point.on_front
    return found


def _label(row: PublishedRow) -> str:
    """The row as printed, but for Table 2's "None", which has no meaning by itself."""
    return "no concatenation" if row.arguments.get("concatenate") == "none" else row.row


def _series(source: str, distinction: str) -> str:
    publication = source.partition(",")[0]
    return f"{publication}, {distinction}" if distinction else publication


_AUGMENTED = ", augmented"
_MOST_NAMED = 20
"""Networks whose names have room in one figure."""

MARKERS = "os^DvPX*<>hd"
"""Of the publications of a figure."""

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK)
"""As many as share no factor with the markers, so that a pair comes again after 84 series."""
_PANELS = {
    "macs": (1e6, "M MACs of the network as built"),
    "params": (1e3, "thousand parameters of the network as built"),
}


def accuracy_plots(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """A figure per data set (see ``accuracy_plot``); of many networks, those of augmented images have their own."""
    plots = []
    for one in DATASETS:
        found = [row for row in rows if row["dataset"] == one.name]
        augmented = [row for row in found if row["series"].endswith(_AUGMENTED)]
        apart = augmented if len(augmented) < len(found) > _MOST_NAMED else []
        for ending, title, shown in (("", "", [row for row in found if row not in apart]),
                                     ("-augmented", _AUGMENTED, apart)):  # fmt: skip
            if shown:
                plots.append(accuracy_plot(f"{name}-{one.name}{ending}", f"{one.title}{title}", shown))
    return plots


def accuracy_plot(name: str, title: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Test error against MACs above and against parameters below; filled points are on the front of their series.

    Args:
        name: of the files.
        title: of the data set.
        rows: of one data set, with the keys of ``accuracy_rows``.

    Raises:
        SettingError: without rows.
    """
    if not rows:
        raise SettingError(f"{title}: no published test error to draw")
    series = list(dict.fromkeys(row["series"] for row in rows))
    styles = {
        one: (_COLOURS[index % len(_COLOURS)], MARKERS[index % len(MARKERS)])
        for index, one in enumerate(sorted(series))
    }
    figure = new_figure(5.8)
    panels = []
    for axes, (cost, (scale, label)) in zip(figure.subplots(2, 1), _PANELS.items(), strict=True):
        points = [
            Point(row["series"], row["label"], row[cost] / scale, row["test_error_percent"], row["spread_percent"],
                  row[f"on_{cost}_front"])
            for row in rows
        ]  # fmt: skip
        panels.append((axes, points))
        draw_points(axes, points, styles)
        axes.set_xlabel(f"{label} (log)")
        axes.set_ylabel("published test error in % (log)")
    remarks = [
        "Test errors as published (bars: printed deviation over runs), costs of the networks as built here; names are "
        "the tables' rows. A front holds the networks that no other of the same publication beats in both."
    ]
    finish(figure, title, "published test error against cost", keys(styles), remarks)
    for axes, points in panels:
        name_points(axes, points, styles)
    return Plot(name, figure, list(rows))


@dataclass(frozen=True)
class Point:
    """A network in a panel: its series and name, its cost and error in the axes' units, and whether it is on the front.

    ``spread`` is that of the error, None where none is known; ``between`` are the ends of a measured cost.
    """

    series: str
    label: str
    cost: float
    error: float
    spread: float | None
    on_front: bool
    between: tuple[float, float] | None = None


Styles = Mapping[str, tuple[str, str]]
"""The colour and the marker of each series."""


def draw_points(axes: Axes, points: Sequence[Point], styles: Styles) -> None:
    """Each series as points with their spreads, filled where they are on its front, which is a staircase.

    Both axes are logarithmic; that of a cost with a zero is not.
    """
    for one, (colour, marker) in styles.items():
        axes.plot(
            *zip(*_front(points, one), strict=True), color=colour, drawstyle="steps-post", linewidth=0.8, zorder=2
        )
        for point in [point for point in points if point.series == one]:
            if point.spread is not None:
                axes.errorbar([point.cost], [point.error], [point.spread], color=colour, elinewidth=0.5, zorder=2)
            if point.between is not None:
                axes.plot(point.between, [point.error] * 2, color=colour, linewidth=0.5, zorder=2)
            axes.plot(
                [point.cost], [point.error], color=colour, marker=marker,
                markerfacecolor=colour if point.on_front else "white", markeredgewidth=0.7, zorder=3,
            )  # fmt: skip
    costs = [cost for point in points for cost in (point.cost, *(point.between or ()))]
    if min(costs) > 0:
        log_axis(axes, "x", *around(costs, 1.6))
    else:
        axes.margins(x=0.12)
    log_axis(axes, "y", *around([point.error for point in points], 1.15))


def keys(styles: Styles) -> list[Any]:
    """The legend of such points."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, drawstyle="steps-post", label=f"{one}: front" if one else "front")
        for one, (colour, marker) in styles.items()
    ]
    hollow: dict[str, Any] = {"linestyle": "none", "marker": "o", "markerfacecolor": "white"}
    return [*handles, Line2D([], [], color="black", **hollow, label="not on its front")]


def name_points(axes: Axes, points: Sequence[Point], styles: Styles) -> None:
    """A name beside every point, those of the fronts first; the layout must be final."""
    lines = [end for point in points for end in _along_bar(point)]
    for one in styles:
        lines += along_steps(_front(points, one))
    order = sorted(points, key=lambda point: (not point.on_front, point.error))
    names = [(point.cost, point.error, point.label, styles[point.series][0]) for point in order]
    from e4profile.show.labels import label_points

    label_points(axes, names, [(point.cost, point.error) for point in points], lines)


def _along_bar(point: Point) -> list[tuple[float, float]]:
    """Places along the bars of a point, where its name should not be."""
    low, high = point.between or (point.cost, point.cost)
    of_cost = [(low * (high / low) ** (part / 8), point.error) for part in range(9)] if high > low else []
    of_error = [(point.cost, point.error + part / 4 * point.spread) for part in range(-4, 5)] if point.spread else []
    return of_cost + of_error


def _front(points: Sequence[Point], series: str) -> list[tuple[float, float]]:
    return sorted((point.cost, point.error) for point in points if point.series == series and point.on_front)


FIGURE = Figure(
    "accuracy",
    "published test error against MACs and parameters, with fronts, per data set",
    accuracy_rows,
    accuracy_plots,
    default_models,
    place=5,
    takes_settings=False,
    only_cards="it shows published errors; for an error of your own see e4profile sweep --front error,macs --error",
)
