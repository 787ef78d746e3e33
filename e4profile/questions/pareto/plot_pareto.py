"""Published error against cost, with the front as a staircase and every network named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from e4profile.show.style import BLUE, GREY, LIGHT_GREY, Plot, finish, new_figure, plain_log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNITS: Mapping[str, Sequence[tuple[float, str]]] = {
    "macs": ((1e9, "G MACs"), (1e6, "M MACs"), (1, "MACs")),
    "params": ((1e6, "M parameters"), (1e3, "thousand parameters"), (1, "parameters")),
    "memory": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes")),
    "time": ((1, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds")),
}
_LOG_FROM = 5
_LONGEST_LABEL = 26
_FRONT_HALF_WIDTH = 0.6

# where a label may stand: offset in points, horizontal and vertical alignment. A member of the front is named
# below it, where nothing can lie; the others above. The first place that covers nothing is taken.
_BELOW = ((-3, -3, "right", "top"), (-4, 0, "right", "center"), (0, -5, "center", "top"), (3, -3, "left", "top"))
_ABOVE = ((4, 0, "left", "center"), (3, 3, "left", "bottom"), (0, 5, "center", "bottom"), (-3, 3, "right", "bottom"))


def _places(on_front: bool) -> list[tuple[int, int, str, str]]:
    ordered = (*_BELOW, *_ABOVE) if on_front else (*_ABOVE, *_BELOW)
    return [(dx * far, dy * far, ha, va) for far in (1, 2, 3) for dx, dy, ha, va in ordered]


def plot_pareto(
    rows: Sequence[Mapping[str, Any]], *, name: str, subject: str, x: str, error: str, remarks: Sequence[str]
) -> Plot:
    """Draw the points of a front.

    Args:
        rows: a mapping per network with ``network``, ``card``, ``cost``, ``published_error`` or ``given_error``,
            ``spread`` (or None) and ``on_front``; errors in percent, cheapest first.
        name: of the files.
        subject: what the table is about, at most as long as a line.
        x: ``macs``, ``params``, ``memory`` or ``time``.
        error: what the error is, in words that say that it is published or given.
        remarks: how the cost was found.
    """
    from matplotlib.lines import Line2D

    figure = new_figure(2.6)
    axes = figure.subplots()
    largest = max(float(row["cost"]) for row in rows)
    scale, unit = next(((s, u) for s, u in _UNITS[x] if largest >= s), _UNITS[x][-1])
    costs = [float(row["cost"]) / scale for row in rows]
    errors = [float(row["published_error"] if "published_error" in row else row["given_error"]) for row in rows]
    members = [i for i, row in enumerate(rows) if row["on_front"]]
    axes.step(
        [costs[i] for i in members], [errors[i] for i in members], where="post", color=BLUE, linewidth=0.8, zorder=2
    )
    for i, row in enumerate(rows):
        if row["spread"] is not None:
            axes.errorbar(
                costs[i], errors[i], yerr=float(row["spread"]), color=LIGHT_GREY, linewidth=0.7, capsize=1.5, zorder=1
            )
        axes.plot(costs[i], errors[i], zorder=4 if row["on_front"] else 3, **_marker(bool(row["on_front"])))
    if min(costs) > 0 and max(costs) / min(costs) >= _LOG_FROM:
        axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    if axes.get_xscale() == "log":
        plain_log_ticks(axes)
    axes.set_xlabel(unit)
    axes.set_ylabel(f"{error} (%)")
    handles = [
        Line2D([], [], **{**_marker(True), "linestyle": "-", "linewidth": 0.8}, label="on the front"),
        Line2D([], [], **_marker(False), label="dominated"),
    ]
    if any(row["spread"] is not None for row in rows):
        handles.append(
            Line2D([], [], color=LIGHT_GREY, marker="|", markersize=6, linestyle="none", label="published spread")
        )
    finish(
        figure,
        subject,
        f"error against {x if x != 'macs' else 'MACs'}",
        handles,
        [_origin(rows), *remarks],
        convention_name="macs" if x == "macs" else None,
    )
    _label(figure, axes, rows, list(zip(costs, errors, strict=True)))
    return Plot(name, figure, [dict(row) for row in rows])


def _origin(rows: Sequence[Mapping[str, Any]]) -> str:
    published = any("published_error" in row for row in rows)
    if not any("given_error" in row for row in rows):
        return "Errors are published, not measured here."
    return "Errors are published or given, not measured here." if published else "Errors are given, not measured here."


def _marker(on_front: bool) -> dict[str, Any]:
    face = BLUE if on_front else "white"
    return {
        "marker": "o",
        "markersize": 4,
        "color": BLUE if on_front else GREY,
        "markerfacecolor": face,
        "linestyle": "none",
    }


def _label(figure: Figure, axes: Axes, rows: Sequence[Mapping[str, Any]], places: list[tuple[float, float]]) -> None:
    """Name every point where the name covers least; the front first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    pixels = [axes.transData.transform(place) for place in places]
    radius = 2.5 * figure.dpi / 72
    taken = [Bbox.from_extents(px - radius, py - radius, px + radius, py + radius) for px, py in pixels]
    members = [pixel for pixel, row in zip(pixels, rows, strict=True) if row["on_front"]]
    half = _FRONT_HALF_WIDTH * figure.dpi / 72
    for (px, py), (next_px, next_py) in pairwise(members):
        taken.append(Bbox.from_extents(px, py - half, next_px, py + half))
        taken.append(Bbox.from_extents(next_px - half, next_py, next_px + half, py))
    panel = axes.get_window_extent(renderer)
    order = sorted(range(len(rows)), key=lambda i: not rows[i]["on_front"])
    for i in order:
        best: tuple[float, Any, Any] | None = None
        for dx, dy, ha, va in _places(bool(rows[i]["on_front"])):
            text = axes.annotate(
                _short(str(rows[i]["network"])),
                places[i],
                xytext=(dx, dy),
                textcoords="offset points",
                ha=ha,
                va=va,
                fontsize=5.5,
                color=BLUE if rows[i]["on_front"] else GREY,
                zorder=4,
            )
            box = text.get_window_extent(renderer)
            covered = sum(_overlap(box, other) for other in taken) + _outside(box, panel)
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = (covered, text, box)
            else:
                text.remove()
            if covered == 0:
                break
        assert best is not None
        taken.append(best[2])


def _overlap(one: Any, other: Any) -> float:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(wide * high) if wide > 0 and high > 0 else 0.0


def _outside(box: Any, panel: Any) -> float:
    inside = _overlap(box, panel)
    return 4 * (float(box.width * box.height) - inside)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label.partition(" = ")[0]
