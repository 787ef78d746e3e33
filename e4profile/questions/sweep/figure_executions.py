"""Published test errors against the MACs of each network by filter banks and in the irrep basis, with both fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.questions.figures import Figure
from e4profile.questions.sweep.figure_accuracy import (
    DATASETS,
    MARKERS,
    Point,
    accuracy_rows,
    draw_points,
    keys,
    name_points,
)
from e4profile.show.style import BLUE, VERMILION, Plot, finish, new_figure

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject

EXECUTIONS = {"bank": ("by filter banks", BLUE), "irreps": ("in the irrep basis", VERMILION)}
"""What each execution is called, and its colour."""


def default_models() -> tuple[str, ...]:
    """The networks of the E4 paper's Tables 1 and 4: E4, its G-CNN, and what they are set against."""
    from e4profile.networks.cards import built_in_cards

    return tuple(
        name for name, card in built_in_cards().items() if any(row.table in ("1", "4") for row in card.published)
    )


def execution_rows(cards: Sequence[Subject]) -> list[dict[str, Any]]:
    """The rows of ``accuracy_rows`` once for each ``execution``, built and counted so.

    A network without group convolutions has the same row in both. A front is of one publication and one execution.

    Raises:
        SettingError: when no card has a published test error.
    """
    return [
        {"execution": execution, **row}
        for execution in EXECUTIONS
        for row in accuracy_rows([card.executed(execution) for card in cards])
    ]


def execution_plots(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """A figure per data set (see ``execution_plot``)."""
    shown = [(one, [row for row in rows if row["dataset"] == one.name]) for one in DATASETS]
    return [execution_plot(f"{name}-{one.name}", one.title, found) for one, found in shown if found]


def execution_plot(name: str, title: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Test error against MACs by both executions; filled points are on the front of their execution.

    Args:
        name: of the files.
        title: of the data set.
        rows: of one data set, with the keys of ``execution_rows``.
    """
    publications = sorted({row["series"] for row in rows})

    def series(row: Mapping[str, Any]) -> str:
        words = EXECUTIONS[row["execution"]][0]
        return words if len(publications) == 1 else f"{row['series']}, {words}"

    # of two marks at one place the upper one is a circle, and the corners of the lower one show
    styles = {
        series({"series": publication, "execution": execution}): (
            colour,
            MARKERS[2 * index % len(MARKERS) + (execution == "bank")],
        )
        for index, publication in enumerate(publications)
        for execution, (_, colour) in EXECUTIONS.items()
    }
    points = [
        Point(series(row), row["label"], row["macs"] / 1e6, row["test_error_percent"], row["spread_percent"],
              row["on_macs_front"])
        for row in rows
    ]  # fmt: skip
    figure = new_figure(3.4)
    axes = figure.subplots()
    draw_points(axes, points, styles)
    axes.set_xlabel("M MACs of the network as built (log)")
    axes.set_ylabel("published test error in % (log)")
    whose = publications[0] if len(publications) == 1 else "the publications"
    remarks = [
        f"Test errors as published by {whose} (bars: printed deviation over runs). Each network is built twice, with "
        "its group convolutions by filter banks and in the irrep basis, which compute the same; without any, both "
        "marks are at one place. Sums and differences are not MACs, and MACs are not time."
    ]
    finish(figure, title, "published test error against cost, by execution", keys(styles), remarks)
    name_points(axes, _named(points), styles)
    return Plot(name, figure, list(rows))


def _named(points: Sequence[Point]) -> list[Point]:
    """One of the points at each place: a network that has one execution is named once."""
    return [*{(point.label, point.cost, point.error): point for point in points}.values()]


FIGURE = Figure(
    "executions",
    "published test error against MACs by filter banks and in the irrep basis, with both fronts",
    execution_rows,
    execution_plots,
    default_models,
    place=6,
    takes_settings=False,
    only_cards="it shows published errors; for an error of your own see e4profile sweep --front error,macs --error",
)
