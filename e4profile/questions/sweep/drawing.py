"""The front over the cloud of all settings: two costs against each other, the front named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from e4profile.show.style import BLUE, GREY, Plot, around, finish, log_axis, new_figure

if TYPE_CHECKING:
    from e4profile.questions.sweep.chosen import Wanted
    from e4profile.questions.sweep.cloud import Cloud
    from e4profile.questions.sweep.quantities import Quantity

_MOST_DRAWN = 20_000
_MOST_NAMED = 8
_UNITS: Mapping[str, Sequence[tuple[float, str]]] = {
    "integer": ((1e9, "G"), (1e6, "M"), (1e3, "thousand"), (1, "")),
    "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes")),
    "seconds": ((1, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds")),
}


def front_plot(found: Cloud, front: Sequence[int], wanted: Wanted) -> Plot:
    """Draw the settings that can be built, and those of the front with their names; intervals where measured.

    Args:
        found: the settings.
        front: settings of the front, in order.
        wanted: whose first two quantities of the front are the axes.
    """
    from matplotlib.lines import Line2D

    x, y = wanted.front[:2]
    figure = new_figure(2.8)
    axes = figure.subplots()
    drawn = _drawn(found, x, y)
    scales = []
    for quantity, which in ((x, "x"), (y, "y")):
        values = found.values(quantity)[drawn].astype(float)
        scale, unit = _unit(quantity, float(values.max()))
        scales.append(scale)
        (axes.set_xlabel if which == "x" else axes.set_ylabel)(_labelled(quantity, unit))
        log_axis(axes, "x" if which == "x" else "y", *around([max(value, 1e-12) / scale for value in values]))
    points = [found.values(one)[drawn].astype(float) / scale for one, scale in zip((x, y), scales, strict=True)]
    axes.scatter(points[0], points[1], s=2, color=GREY, alpha=0.35, linewidths=0, rasterized=True)
    xs, ys = (
        [float(found.value(one, index) or 0) / scale for index in front]
        for one, scale in zip((x, y), scales, strict=True)
    )
    axes.errorbar(
        xs, ys, xerr=_bars(found, x, front, scales[0]), yerr=_bars(found, y, front, scales[1]), fmt="o-", color=BLUE,
        markersize=3, linewidth=0.8, elinewidth=0.8,
    )  # fmt: skip
    for index in _named(front):
        place = front.index(index)
        axes.annotate(found.named(index), (xs[place], ys[place]), textcoords="offset points", xytext=(3, 3))
    handles = [
        Line2D([], [], marker="o", color=BLUE, markersize=3, label="front"),
        Line2D([], [], marker="o", linestyle="", color=GREY, markersize=2, label="settings"),
    ]
    finish(
        figure, ", ".join(one.name for one in found.subjects), f"{y.header} against {x.header}", handles,
        [f"{len(front):,} of {found.size:,} settings are on the front.", *_remarks(found, wanted, drawn)],
        convention_name="macs" if "macs" in (x.name, y.name) else None,
    )  # fmt: skip
    rows = [
        {"setting": found.named(index), **{one.key: found.value(one, index) for one in wanted.quantities}}
        for index in front
    ]
    return Plot(f"front-{'-'.join(one.name for one in wanted.front)}", figure, rows)


def _drawn(found: Cloud, x: Quantity, y: Quantity) -> Any:
    """The settings that have both quantities, or as many of them, at random, as a figure can show."""
    have = np.flatnonzero(found.stated(x) & found.stated(y))
    if len(have) <= _MOST_DRAWN:
        return have
    return np.sort(np.random.default_rng(0).choice(have, _MOST_DRAWN, replace=False))


def _remarks(found: Cloud, wanted: Wanted, drawn: Any) -> list[str]:
    remarks = [f"Limits: {', '.join(map(str, wanted.limits))}."] if wanted.limits else []
    if len(drawn) == _MOST_DRAWN:
        remarks.append(f"Grey: {_MOST_DRAWN:,} of the settings, drawn at random.")
    if any(found.interval(one, int(index)) for one in wanted.front for index in drawn):
        remarks.append("Bars: 95% intervals of medians; settings whose bars overlap are alike.")
    return remarks


def _unit(quantity: Quantity, largest: float) -> tuple[float, str]:
    return next((one for one in _UNITS[quantity.kind] if largest >= one[0]), _UNITS[quantity.kind][-1])


def _labelled(quantity: Quantity, unit: str) -> str:
    if quantity.kind == "integer":
        return f"{unit} {quantity.header}".strip()
    return f"{quantity.header} ({unit})"


def _bars(found: Cloud, quantity: Quantity, front: Sequence[int], scale: float) -> Any:
    """Below and above each point; None for an exact quantity."""
    between = [found.interval(quantity, index) for index in front]
    if not any(between):
        return None
    values = [float(found.value(quantity, index) or math.nan) for index in front]
    lower = [(value - (pair[0] if pair else value)) / scale for value, pair in zip(values, between, strict=True)]
    upper = [((pair[1] if pair else value) - value) / scale for value, pair in zip(values, between, strict=True)]
    return [lower, upper]


def _named(front: Sequence[int]) -> list[int]:
    """As many of the front as there is room for, its ends among them."""
    if len(front) <= _MOST_NAMED:
        return list(front)
    return [front[round(step * (len(front) - 1) / (_MOST_NAMED - 1))] for step in range(_MOST_NAMED)]
