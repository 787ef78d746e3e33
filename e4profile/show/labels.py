"""Names beside the points of a panel: apart from one another, from markers and lines, each next to its own point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats: TypeAlias = "NDArray[np.float64]"

_MARKER_POINTS = 2.6
_LINE_POINTS = 0.6
_PAD_POINTS = 0.4
_EDGE_POINTS = 2.0
_DISTANCES_POINTS = (3.2, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0, 26.0, 33.0)
_DIRECTIONS = (45, 135, 315, 225, 0, 180, 90, 270, 20, 160, 340, 200, 65, 115, 295, 245)
_NEAR_POINTS = 7.0
"""A name farther than this from its point is joined to it by a thin line."""

_ROUNDS = 4
_ON_NAME, _ON_MARKER, _ON_LINE, _OUTSIDE = 10.0, 5.0, 4.0, 20.0
_JOINED, _PER_POINT = 1.5, 0.15
_PIECES = 16


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float, str, str]],
    markers: Sequence[tuple[float, float]],
    lines: Sequence[tuple[float, float]] = (),
) -> None:
    """Write a short text beside each point, where it covers least of other texts, markers, lines and edges.

    Every text takes its best place in turn, the first ones first; then all move again, given where the others are.
    The axes' limits must be final, and so must the layout.

    Args:
        axes: where the points stand.
        points: x, y, text and colour, in data coordinates, the most important first.
        markers: every marker, in data coordinates.
        lines: points along the lines, in data coordinates.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if not points:
        return
    figure: Any = axes.figure
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    scale = figure.dpi / 72
    panel = np.array(axes.get_window_extent(renderer).extents) / scale

    def in_points(data: Sequence[tuple[float, float]]) -> Floats:
        found: Floats = np.asarray(axes.transData.transform(np.array(data, dtype=float).reshape(-1, 2))) / scale
        return found

    anchors = in_points([(x, y) for x, y, *_ in points])
    texts = [
        axes.annotate(text, (x, y), xytext=(0, 0), textcoords="offset points", color=colour, zorder=4)
        for x, y, text, colour in points
    ]
    measured = np.array([text.get_window_extent(renderer).extents for text in texts]) / scale
    layout = _Layout(anchors, measured[:, 2:] - measured[:, :2], panel, in_points(markers), in_points(lines))
    layout.settle()
    for place, text in enumerate(texts):
        box = layout.boxes[place]
        text.set_position(tuple(box[:2] - measured[place, :2]))
        if layout.joined[place]:
            x, y, _, colour = points[place]
            axes.annotate(
                "", (x, y), xytext=tuple(_nearest(box, anchors[place]) - anchors[place]), textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.3, "shrinkA": 0, "shrinkB": 2}, zorder=1,
            )  # fmt: skip


class _Layout:
    """Boxes of texts as left, bottom, right, top in points of the page."""

    def __init__(self, anchors: Floats, sizes: Floats, panel: Floats, markers: Floats, lines: Floats) -> None:
        self.anchors, self.marks = anchors, markers
        self.panel = _padded(panel[None], -_EDGE_POINTS)
        self.markers, self.lines = _around(markers, _MARKER_POINTS), _around(lines, _LINE_POINTS)
        self.candidates = [_candidates(anchor, size) for anchor, size in zip(anchors, sizes, strict=True)]
        self.boxes = np.full((len(anchors), 4), np.nan)
        self.joined = [False] * len(anchors)

    def settle(self) -> None:
        for _ in range(_ROUNDS):
            before = self.boxes.copy()
            for place in range(len(self.anchors)):
                self._place(place)
            if (before == self.boxes).all():
                return

    def _place(self, place: int) -> None:
        best = math.inf
        others = [i for i in range(len(self.anchors)) if i != place and not math.isnan(self.boxes[i, 0])]
        names = _padded(self.boxes[others], _PAD_POINTS)
        joins = [_between(_nearest(self.boxes[i], self.anchors[i]), self.anchors[i]) for i in others if self.joined[i]]
        for box, distance in self.candidates[place]:
            cost = _PER_POINT * distance
            if cost >= best:
                break
            joined = self._is_joined(place, box)
            own = _between(_nearest(box, self.anchors[place]), self.anchors[place])
            cost += _ON_NAME * _shared(box, names) + _ON_MARKER * _shared(box, self.markers)
            cost += _ON_LINE * _shared(box, self.lines)
            cost += _OUTSIDE * (_area(box) - _shared(box, self.panel))
            cost += _ON_NAME * sum(_inside(join, box[None]) for join in joins)
            if joined:
                # its own marker, where the line ends, is no obstacle
                cost += _JOINED + _ON_NAME * _inside(own, names) + _inside(own[: -_PIECES // 4], self.markers)
            if cost < best:
                best, self.boxes[place], self.joined[place] = cost, box, joined

    def _is_joined(self, place: int, box: Floats) -> bool:
        """Whether a line must say whose name it is: it stands far away, or nearer to another marker."""
        own = float(np.linalg.norm(_nearest(box, self.anchors[place]) - self.anchors[place]))
        others = self.marks[np.abs(self.marks - self.anchors[place]).max(axis=1) > _LINE_POINTS]
        gaps = np.linalg.norm(np.clip(others, box[:2], box[2:]) - others, axis=1)
        return own > _NEAR_POINTS or bool((gaps < own - _PAD_POINTS).any())


def _candidates(anchor: Floats, size: Floats) -> list[tuple[Floats, float]]:
    """Boxes around a point, the nearest first."""
    found = []
    for distance in _DISTANCES_POINTS:
        for degrees in _DIRECTIONS:
            way = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
            side = np.where(np.abs(way) < 0.1, 0, np.sign(way))
            centre = anchor + distance * way + side * size / 2
            found.append((np.concatenate([centre - size / 2, centre + size / 2]), distance))
    return found


def _nearest(box: Floats, point: Floats) -> Floats:
    return np.clip(point, box[:2], box[2:])


def _between(start: Floats, end: Floats) -> Floats:
    return start + np.linspace(0, 1, _PIECES)[:, None] * (end - start)


def _around(points: Floats, half: float) -> Floats:
    return np.concatenate([points - half, points + half], axis=1)


def _padded(boxes: Floats, pad: float) -> Floats:
    found: Floats = boxes + np.array([-pad, -pad, pad, pad])
    return found


def _area(box: Floats) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _shared(box: Floats, boxes: Floats) -> float:
    """The area that a box shares with others."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return float(np.clip(sides, 0, None).prod(axis=1).sum())


def _inside(points: Floats, boxes: Floats) -> int:
    """How often a point lies in a box."""
    return int(((points[:, None] > boxes[:, :2]) & (points[:, None] < boxes[:, 2:])).all(axis=2).sum())
