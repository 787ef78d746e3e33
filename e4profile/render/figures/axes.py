"""What the figures share: logarithmic axes with plain numbers, values as steps, labels that keep apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_WIDE_RANGE = 1000.0
_NARROW_RANGE = 5.0
_Align = Literal["left", "center", "right"]
_OFFSETS: tuple[tuple[float, float, _Align], ...] = (
    (4, 4, "left"), (-4, 4, "right"), (4, -7, "left"), (-4, -7, "right"), (6, -1.5, "left"), (-6, -1.5, "right"),
    (0, 8, "center"), (0, -11, "center"), (7, 12, "left"), (-7, 12, "right"), (7, -16, "left"), (-7, -16, "right"),
    (16, 3, "left"), (-16, 3, "right"), (16, -8, "left"), (-16, -8, "right"), (12, 20, "left"), (-12, 20, "right"),
    (12, -24, "left"), (-12, -24, "right"), (24, 10, "left"), (-24, 10, "right"), (24, -15, "left"),
    (-24, -15, "right"),
)  # fmt: skip
_NEAR_POINTS = 9
"""A text farther than this from its point is joined to it by a thin line."""
_ANCHOR: dict[_Align, float] = {"left": 0.0, "center": 0.5, "right": 1.0}


def log_axis(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis from ``low`` to ``high`` with as many plain numbers as its decades leave room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if which == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    span = high / low
    subs = (1,) if span > _WIDE_RANGE else (1, 3) if span > _NARROW_RANGE else (1, 2, 3, 5, 7)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e5 else f"{value:,.0f}"))
    axis.set_minor_locator(NullLocator())


def around(values: Sequence[float], margin: float = 1.3) -> tuple[float, float]:
    """Limits of a logarithmic axis: the smallest and the largest positive value with a margin as a factor."""
    positive = [value for value in values if value > 0] or [1.0]
    return min(positive) / margin, max(positive) * margin


def value_ticks(axes: Axes, values: Sequence[int], *, doubled: bool, most: int = 6) -> None:
    """An x axis that names the settings themselves; doubled ones stand equally far apart."""
    from matplotlib.ticker import NullLocator

    if doubled:
        axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    step = -(-len(values) // most)
    axes.set_xticks(list(values)[::step], [str(value) for value in list(values)[::step]])
    axes.margins(x=0.14)


def along_steps(front: Sequence[tuple[float, float]], pieces: int = 16) -> list[tuple[float, float]]:
    """Points on the steps of a front on logarithmic axes, for labels to keep away from."""
    found = []
    for (x, y), (next_x, next_y) in pairwise(front):
        for piece in range(pieces + 1):
            part = piece / pieces
            found += [(x * (next_x / x) ** part, y), (next_x, y * (next_y / y) ** part)]
    return found


def label_points(
    axes: Axes, points: Sequence[tuple[float, float, str, str]], avoid: Sequence[tuple[float, float]]
) -> None:
    """Write a short text beside each point, at the first place that no other label, marker or edge takes.

    A text without such a place takes the one that overlaps least. The axes' limits must be final, and so must the
    layout.

    Args:
        axes: where the points stand.
        points: x, y, text and colour, in data coordinates, the most important first.
        avoid: every marker and what else a text should not cover, in data coordinates.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    scale = figure.dpi / 72
    inside = axes.get_window_extent(renderer)
    taken = []
    for point in avoid:
        x, y = axes.transData.transform(point)
        taken.append(Bbox.from_bounds(x - 2 * scale, y - 2 * scale, 4 * scale, 4 * scale))
    for x, y, text, colour in points:
        label = axes.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=5, color=colour, zorder=4
        )
        # measured once and then moved: laying out a text is the slow part
        measured = label.get_window_extent(renderer)
        tried = []
        for place, (right, up, align) in enumerate(_OFFSETS):
            box = measured.translated(scale * right - _ANCHOR[align] * measured.width, scale * up)
            overlap = sum(_shared(box, other) for other in taken) + 2 * (_area(box) - _shared(box, inside))
            tried.append((overlap, place, box))
            if overlap == 0:
                break
        _, place, box = min(tried, key=lambda one: one[:2])
        right, up, align = _OFFSETS[place]
        label.set_position((right, up))
        label.set_horizontalalignment(align)
        taken.append(box)
        if math.hypot(right, up) > _NEAR_POINTS and align != "center":
            axes.annotate(
                "", (x, y), xytext=(right, up + (1.5 if up < 0 else 0)), textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.3, "shrinkA": 0, "shrinkB": 2}, zorder=1,
            )  # fmt: skip


def readable_on(colour: str) -> str:
    """Black or white, whichever stands out on ``#RRGGBB``: the eye weighs red, green and blue differently."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "white"


def _area(box: Any) -> float:
    return float(box.width * box.height)


def _shared(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0
