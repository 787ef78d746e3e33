"""What the figures share: logarithmic axes with plain numbers, values as steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_WIDE_RANGE = 1000.0
_NARROW_RANGE = 5.0
_EVEN_RANGE = 2.0


def log_axis(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis from ``low`` to ``high`` with as many plain numbers as its decades leave room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if which == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    span = high / low
    subs = (1,) if span > _WIDE_RANGE else (1, 3) if span > _NARROW_RANGE else (1, 2, 3, 5, 7)
    # a narrow axis may lie between two of the logarithmic ticks
    axis.set_major_locator(MaxNLocator(3) if span < _EVEN_RANGE else LogLocator(subs=subs, numticks=8))
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


def along_steps(front: Sequence[tuple[float, float]], pieces: int = 64) -> list[tuple[float, float]]:
    """Points on the steps of a front on logarithmic axes, for labels to keep away from."""
    found = []
    for (x, y), (next_x, next_y) in pairwise(front):
        for piece in range(pieces + 1):
            part = piece / pieces
            found += [(x * (next_x / x) ** part, y), (next_x, y * (next_y / y) ** part)]
    return found


def readable_on(colour: str) -> str:
    """Black or white, whichever stands out on ``#RRGGBB``: the eye weighs red, green and blue differently."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "white"
