"""The points of a front as ``e4profile sweep --front error,macs`` finds it: error against cost, every network named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from e4profile.questions.sweep.figure_accuracy import Point, draw_points, keys, name_points
from e4profile.show.style import BLUE, Plot, finish, new_figure

_UNITS: Mapping[str, Sequence[tuple[float, str]]] = {
    "macs": ((1e9, "G MACs"), (1e6, "M MACs"), (1, "MACs")),
    "params": ((1e6, "M parameters"), (1e3, "thousand parameters"), (1, "parameters")),
    "memory": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes")),
    "time": ((1, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds")),
}
_LONGEST_LABEL = 26
_STYLE = {"": (BLUE, "o")}


def plot_pareto(
    rows: Sequence[Mapping[str, Any]], *, name: str, subject: str, x: str, error: str, remarks: Sequence[str]
) -> Plot:
    """Draw the points of a front.

    Args:
        rows: a mapping per network with ``network``, ``card``, ``cost``, ``published_error`` or ``given_error``,
            ``spread`` (or None) and ``on_front``; errors in percent, cheapest first. Of a measured cost ``low`` and
            ``high`` too, the ends of its interval.
        name: of the files.
        subject: what the table is about, at most as long as a line.
        x: ``macs``, ``params``, ``memory`` or ``time``.
        error: what the error is, in words that say that it is published or given.
        remarks: how the cost was found.
    """
    figure = new_figure(2.6)
    axes = figure.subplots()
    largest = max(float(row["cost"]) for row in rows)
    scale, unit = next(((s, u) for s, u in _UNITS[x] if largest >= s), _UNITS[x][-1])
    points = [
        Point(
            "", _short(str(row["network"])), float(row["cost"]) / scale, float(_error(row)),
            None if row["spread"] is None else float(row["spread"]), bool(row["on_front"]), _between(row, scale),
        )
        for row in rows
    ]  # fmt: skip
    draw_points(axes, points, _STYLE)
    axes.set_xlabel(unit)
    axes.set_ylabel(f"{error} (%)")
    spread = ["Bars: published spread."] if any(point.spread is not None for point in points) else []
    spread += ["Bars of times: 95% interval of the median."] if any(point.between for point in points) else []
    finish(
        figure,
        subject,
        f"error against {x if x != 'macs' else 'MACs'}",
        keys(_STYLE),
        [_origin(rows), *spread, *remarks],
        convention_name="macs" if x == "macs" else None,
    )
    name_points(axes, points, _STYLE)
    return Plot(name, figure, [dict(row) for row in rows])


def _between(row: Mapping[str, Any], scale: float) -> tuple[float, float] | None:
    """The ends of a measured cost; None where it is counted, or too few samples bound it."""
    low, high = row.get("low"), row.get("high")
    return (low / scale, high / scale) if low and high else None


def _error(row: Mapping[str, Any]) -> Any:
    return row["published_error"] if "published_error" in row else row["given_error"]


def _origin(rows: Sequence[Mapping[str, Any]]) -> str:
    published = any("published_error" in row for row in rows)
    if not any("given_error" in row for row in rows):
        return "Errors are published, not measured here."
    return "Errors are published or given, not measured here." if published else "Errors are given, not measured here."


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label.partition(" = ")[0]
