"""The roofline as a figure: arithmetic against intensity, under what the device was seen to reach."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.show.style import (
    BLACK,
    BLUE,
    CAPTION_CHARACTERS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILION,
    Plot,
    new_figure,
    paper_style,
    save,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = 2.6
_LINE_INCHES = 0.1
_LEGEND_ROW_INCHES = 0.15
_LEGEND_COLUMNS = 2
_PAD_INCHES = 0.04
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY_BLUE, BLACK)
_MARKERS = ("o", "^", "s", "D", "v", "P")
_MARGIN = 2.0


@dataclass(frozen=True)
class Roof:
    """What a device was seen to reach.

    Attributes:
        macs_per_s: arithmetic.
        bytes_per_s: bandwidth.
        label: the device, dtype and threads.
    """

    macs_per_s: float
    bytes_per_s: float
    label: str


@dataclass(frozen=True)
class RoofPoint:
    """One layer.

    Attributes:
        series: what is compared, for example an implementation; has its own marker.
        path: dotted module path.
        layer: class name; has its own colour.
        macs: of the batch.
        bytes: of the batch.
        measured_s: seconds.
    """

    series: str
    path: str
    layer: str
    macs: int
    bytes: int
    measured_s: float


def roofline_plot(name: str, title: str, roof: Roof, points: Sequence[RoofPoint]) -> Plot:
    """Draw layers under the roof; those without MACs have no place on logarithmic axes and are counted below.

    Raises:
        SettingError: without a layer that has MACs.
    """
    from matplotlib.lines import Line2D

    shown = [point for point in points if point.macs]
    if not shown:
        raise SettingError(f"{title}: no layer has MACs to draw")
    figure = new_figure(_PANEL_INCHES)
    axes = figure.subplots()
    ridge = roof.macs_per_s / roof.bytes_per_s
    intensities = [point.macs / point.bytes for point in shown]
    low, high = min(*intensities, ridge) / _MARGIN, max(*intensities, ridge) * _MARGIN
    corner = [low, ridge, high]
    axes.plot(corner, [min(x * roof.bytes_per_s, roof.macs_per_s) for x in corner], color=BLACK, zorder=2)
    colours = _assigned([point.layer for point in shown], _COLOURS)
    markers = _assigned([point.series for point in shown], _MARKERS)
    for point, intensity in zip(shown, intensities, strict=True):
        axes.plot(
            [intensity],
            [point.macs / point.measured_s],
            linestyle="none",
            marker=markers[point.series],
            markerfacecolor="none",
            markeredgecolor=colours[point.layer],
            zorder=3,
        )
    axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity (MACs per byte)", ylabel="MACs per second")
    axes.set_title(title, fontweight="bold")
    handles: list[Any] = [Line2D([], [], color=BLACK, label=roof.label)]
    handles += [
        Line2D([], [], linestyle="none", marker="o", color=colour, label=layer) for layer, colour in colours.items()
    ]
    if len(markers) > 1:
        handles += [
            Line2D([], [], linestyle="none", marker=marker, color=GREY, markerfacecolor="none", label=series)
            for series, marker in markers.items()
        ]
    remark = (
        f"Roof: {roof.macs_per_s:.3g} MACs/s and {roof.bytes_per_s:.3g} bytes/s, both measured. Bytes are each input, "
        "output and weight once, filters as expanded."
    )
    if len(shown) < len(points):
        remark += f" {len(points) - len(shown)} layers without MACs are not shown."
    _below(figure, handles, textwrap.wrap(remark, CAPTION_CHARACTERS))
    return Plot(name, figure, [_row(point, roof) for point in points])


def _below(figure: Figure, handles: Sequence[Any], lines: Sequence[str]) -> None:
    """Put legend and remark under the panel, which keeps its height."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    remark = _LINE_INCHES * len(lines) + 2 * _PAD_INCHES
    below = remark + _LEGEND_ROW_INCHES * math.ceil(len(handles) / _LEGEND_COLUMNS)
    width, height = figure.get_size_inches()
    height += below
    figure.set_size_inches(width, height)
    note = figure.text(
        _PAD_INCHES / width, _PAD_INCHES / height, "\n".join(lines), va="bottom", fontsize=5.5, color=GREY
    )
    legend = figure.legend(
        handles=list(handles), loc="lower center", ncols=_LEGEND_COLUMNS, bbox_to_anchor=(0.5, remark / height),
        borderpad=0, borderaxespad=0,
    )  # fmt: skip
    for placed in (note, legend):
        placed.set_in_layout(False)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, below / height, 1, 1 - below / height))
    # the layout is found once, not again for every file format
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save_roofline(name: str, title: str, roof: Roof, points: Sequence[RoofPoint], folder: Path) -> list[Path]:
    """Write the figure as SVG and PNG and its numbers as CSV; the same numbers give the same bytes.

    Raises:
        SettingError: without a layer that has MACs.
    """
    with paper_style():
        return save(roofline_plot(name, title, roof, points), folder)


def _assigned(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """A value per name in order of appearance; beyond the last value they repeat."""
    unique = list(dict.fromkeys(names))
    return {name: values[index % len(values)] for index, name in enumerate(unique)}


def _row(point: RoofPoint, roof: Roof) -> dict[str, object]:
    ideal_s = max(point.macs / roof.macs_per_s, point.bytes / roof.bytes_per_s)
    return {
        "series": point.series,
        "path": point.path,
        "layer": point.layer,
        "macs": point.macs,
        "bytes": point.bytes,
        "intensity": point.macs / point.bytes,
        "ideal_s": ideal_s,
        "measured_s": point.measured_s,
        "achieved": ideal_s / point.measured_s,
    }
