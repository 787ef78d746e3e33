"""Names beside the points of a panel: apart from one another, from markers and lines, each next to its own point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Candidates:
    """Boxes around a point, the nearest first, and what they cost wherever the other texts are.

    Attributes:
        boxes: (n, 4).
        base: for the distance.
        on_markers: for what lies on markers.
        on_lines: for what lies on lines.
        outside: for what lies outside the panel.
        far: whether a line must join a box and its point.
        ways: points along that line.
        ways_on_markers: how often one of them lies on a marker.
    """

    boxes: Floats
    base: Floats
    on_markers: Floats
    on_lines: Floats
    outside: Floats
    far: NDArray[np.bool_]
    ways: Floats
    ways_on_markers: NDArray[np.int64]


class _Layout:
    """Boxes of texts as left, bottom, right, top in points of the page."""

    def __init__(self, anchors: Floats, sizes: Floats, panel: Floats, markers: Floats, lines: Floats) -> None:
        self.anchors, self.marks = anchors, markers
        self.panel = _padded(panel[None], -_EDGE_POINTS)
        self.markers, self.lines = _around(markers, _MARKER_POINTS), _around(lines, _LINE_POINTS)
        self.candidates = [self._candidates(anchor, size) for anchor, size in zip(anchors, sizes, strict=True)]
        self.boxes = np.full((len(anchors), 4), np.nan)
        self.joined = np.zeros(len(anchors), dtype=bool)

    def settle(self) -> None:
        for _ in range(_ROUNDS):
            before = self.boxes.copy()
            for place in range(len(self.anchors)):
                self._place(place)
            if (before == self.boxes).all():
                return

    def _place(self, place: int) -> None:
        there = ~np.isnan(self.boxes[:, 0])
        there[place] = False
        names = _padded(self.boxes[there], _PAD_POINTS)
        joined = there & self.joined
        joins = _between(_nearest(self.boxes[joined], self.anchors[joined]), self.anchors[joined]).reshape(-1, 2)
        given, best = self.candidates[place], math.inf
        for start in range(0, len(given.boxes), len(_DIRECTIONS)):
            ring = slice(start, start + len(_DIRECTIONS))
            if given.base[start] >= best:
                break
            boxes, far = given.boxes[ring], given.far[ring]
            cost = given.base[ring] + (_ON_NAME * _shared(boxes, names) + given.on_markers[ring])
            cost = cost + given.on_lines[ring] + given.outside[ring]
            cost += _ON_NAME * _inside(joins[None], boxes[:, None]).sum(axis=(1, 2))
            # its own marker, where the line ends, is no obstacle
            on_names = _inside(given.ways[ring][far], names).sum(axis=(1, 2))
            cost[far] += _JOINED + _ON_NAME * on_names + given.ways_on_markers[ring][far]
            least = int(cost.argmin())
            if cost[least] < best:
                best, self.boxes[place], self.joined[place] = cost[least], boxes[least], far[least]

    def _candidates(self, anchor: Floats, size: Floats) -> _Candidates:
        boxes = _around_point(anchor, size)
        ends = _nearest(boxes, anchor)
        ways = _between(ends, np.broadcast_to(anchor, ends.shape))
        return _Candidates(
            boxes,
            _PER_POINT * np.repeat(_DISTANCES_POINTS, len(_DIRECTIONS)),
            _ON_MARKER * _shared(boxes, self.markers),
            _ON_LINE * _shared(boxes, self.lines),
            _OUTSIDE * (_area(boxes) - _shared(boxes, self.panel)),
            self._is_joined(anchor, boxes, ends),
            ways,
            _inside(ways[:, : -_PIECES // 4], self.markers).sum(axis=(1, 2)),
        )

    def _is_joined(self, anchor: Floats, boxes: Floats, ends: Floats) -> NDArray[np.bool_]:
        """Whether a line must say whose name it is: it stands far away, or nearer to another marker."""
        own = np.linalg.norm(ends - anchor, axis=1)
        others = self.marks[np.abs(self.marks - anchor).max(axis=1) > _LINE_POINTS]
        gaps = np.linalg.norm(np.clip(others, boxes[:, None, :2], boxes[:, None, 2:]) - others, axis=2)
        found: NDArray[np.bool_] = (own > _NEAR_POINTS) | (gaps < own[:, None] - _PAD_POINTS).any(axis=1)
        return found


def _around_point(anchor: Floats, size: Floats) -> Floats:
    """Boxes of a size in every direction from a point, a ring for each distance, the nearest first."""
    angles = [math.radians(degrees) for degrees in _DIRECTIONS]
    ways = np.array([[math.cos(angle), math.sin(angle)] for angle in angles])
    sides = np.where(np.abs(ways) < 0.1, 0, np.sign(ways))
    centres = anchor + np.array(_DISTANCES_POINTS)[:, None, None] * ways + sides * size / 2
    return np.concatenate([centres - size / 2, centres + size / 2], axis=2).reshape(-1, 4)


def _nearest(boxes: Floats, points: Floats) -> Floats:
    return np.clip(points, boxes[..., :2], boxes[..., 2:])


def _between(starts: Floats, ends: Floats) -> Floats:
    """Points along the way from each start to its end."""
    return starts[:, None] + np.linspace(0, 1, _PIECES)[:, None] * (ends - starts)[:, None]


def _around(points: Floats, half: float) -> Floats:
    return np.concatenate([points - half, points + half], axis=1)


def _padded(boxes: Floats, pad: float) -> Floats:
    found: Floats = boxes + np.array([-pad, -pad, pad, pad])
    return found


def _area(boxes: Floats) -> Floats:
    found: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def _shared(boxes: Floats, others: Floats) -> Floats:
    """The area that each box shares with others."""
    left, bottom, right, top = others.T.copy()
    width = np.minimum(boxes[:, 2, None], right) - np.maximum(boxes[:, 0, None], left)
    height = np.minimum(boxes[:, 3, None], top) - np.maximum(boxes[:, 1, None], bottom)
    found: Floats = (np.maximum(width, 0) * np.maximum(height, 0)).sum(axis=1)
    return found


def _inside(points: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Whether a point (..., p, 2) lies in a box (..., b, 4)."""
    corners = boxes[..., None, :, :]
    inside = (points[..., None, :] > corners[..., :2]) & (points[..., None, :] < corners[..., 2:])
    found: NDArray[np.bool_] = np.asarray(inside.all(axis=-1))
    return found
