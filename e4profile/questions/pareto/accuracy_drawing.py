"""Published test errors against the cost of the networks as built, with the fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.show.axes import along_steps, around, log_axis
from e4profile.show.labels import label_points
from e4profile.show.style import BLUE, GREEN, ORANGE, PURPLE, VERMILION, Plot, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"))
_PANELS = {"macs": "M MACs of the network as built", "params": "thousand parameters of the network as built"}
_SCALES = {"macs": 1e6, "params": 1e3}


def accuracy_plot(name: str, title: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Test error against MACs above and against parameters below; filled points are on the front of their series.

    Args:
        name: of the files.
        title: of the data set.
        rows: of one data set, with the keys of ``e4profile.questions.pareto.accuracy_rows.accuracy_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise SettingError(f"{title}: no published test error to draw")
    series = list(dict.fromkeys(row["series"] for row in rows))
    styles = {one: _STYLES[index % len(_STYLES)] for index, one in enumerate(sorted(series))}
    figure = new_figure(4.8)
    panels = dict(zip(_PANELS, figure.subplots(2, 1), strict=True))
    for cost, axes in panels.items():
        _panel(axes, cost, rows, styles)
    handles = [
        Line2D([], [], color=colour, marker=marker, drawstyle="steps-post", label=f"{one}: front")
        for one, (colour, marker) in styles.items()
    ]
    handles.append(
        Line2D([], [], color="black", linestyle="none", marker="o", markerfacecolor="white", label="not on its front")
    )
    remarks = [
        "Test errors as published (bars: printed deviation over runs), costs of the networks as built here; names are "
        "the tables' rows. A front holds the networks that no other of the same publication beats in both."
    ]
    finish(figure, title, "published test error against cost", handles, remarks)
    for cost, axes in panels.items():
        lines = [end for row in rows for end in _along_bar(row, cost)]
        for one in styles:
            lines += along_steps(_front(rows, one, cost))
        order = sorted(rows, key=lambda row: (not row[f"on_{cost}_front"], row["test_error_percent"]))
        names = [(*_point(row, cost), row["label"], styles[row["series"]][0]) for row in order]
        label_points(axes, names, [_point(row, cost) for row in rows], lines)
    return Plot(name, figure, list(rows))


def _point(row: Mapping[str, Any], cost: str) -> tuple[float, float]:
    return row[cost] / _SCALES[cost], row["test_error_percent"]


def _along_bar(row: Mapping[str, Any], cost: str) -> list[tuple[float, float]]:
    x, y = _point(row, cost)
    spread = row["spread_percent"] or 0
    return [(x, y + part / 4 * spread) for part in range(-4, 5)] if spread else []


def _front(rows: Sequence[Mapping[str, Any]], series: str, cost: str) -> list[tuple[float, float]]:
    return sorted(_point(row, cost) for row in rows if row["series"] == series and row[f"on_{cost}_front"])


def _panel(axes: Axes, cost: str, rows: Sequence[Mapping[str, Any]], styles: Mapping[str, tuple[str, str]]) -> None:
    for one, (colour, marker) in styles.items():
        mine = [row for row in rows if row["series"] == one]
        front = _front(rows, one, cost)
        axes.plot(*zip(*front, strict=True), color=colour, drawstyle="steps-post", linewidth=0.8, zorder=2)
        for row in mine:
            x, y = _point(row, cost)
            if row["spread_percent"] is not None:
                axes.errorbar([x], [y], [row["spread_percent"]], color=colour, elinewidth=0.5, zorder=2)
            filled = colour if row[f"on_{cost}_front"] else "white"
            axes.plot([x], [y], color=colour, marker=marker, markerfacecolor=filled, markeredgewidth=0.7, zorder=3)
    log_axis(axes, "x", *around([_point(row, cost)[0] for row in rows], 1.6))
    log_axis(axes, "y", *around([row["test_error_percent"] for row in rows], 1.15))
    axes.set_xlabel(f"{_PANELS[cost]} (log)")
    axes.set_ylabel("published test error in % (log)")
