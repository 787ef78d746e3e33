"""Each E4 setting beside the G-CNN of the same topology, width and kernel, with the ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.sweep.sweep_rows import Study, SweepRow
from e4profile.show.numbers import MISSING, fixed
from e4profile.show.style import E4_COLOUR, GCNN_COLOUR, LIGHT_GREY, Plot, beside, finish, new_figure, plain_log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SETTINGS = 30
_ROW_INCHES = 0.125
_GAP_ROWS = 0.5
_RATIO_POINTS = 22

Block = tuple[SweepRow, list[SweepRow]]


def e4_against_gcnn(study: Study, name: str) -> Plot | None:
    """A dot per setting and a line per baseline on a logarithmic axis; None without a baseline.

    Settings are grouped by their baseline; more than 30 are thinned to one changed value at a time.
    """
    from matplotlib.lines import Line2D

    compared = [row for row in study.rows if study.baseline(row.width, row.kernel) is not None]
    if not compared:
        return None
    chosen = [row for row in study.at_most(MOST_SETTINGS) if row in compared]
    blocks = _blocks(study, chosen)
    positions, height = _positions(blocks)
    figure = new_figure(0.5 + _ROW_INCHES * height)
    left, right = figure.subplots(1, 2, sharey=True)
    largest = max(row.params_formula or 0 for block in blocks for row in (block[0], *block[1]))
    scale, prefix = (1e6, "M") if largest >= 1e6 else (1e3, "thousand")
    _panel(left, blocks, positions, "macs", 1e6)
    _panel(right, blocks, positions, "params", scale)
    left.set_xlabel("M MACs (log)")
    right.set_xlabel(f"{prefix} parameters (log)")
    _labels(left, study, blocks, positions, height)
    right.tick_params(axis="y", left=False)
    left.tick_params(axis="y", left=False)
    handles = [
        Line2D([], [], color=GCNN_COLOUR, marker="s", label="G-CNN"),
        Line2D([], [], color=E4_COLOUR, marker="o", linestyle="none", label="E4 (at the right: E4 / G-CNN)"),
    ]
    remarks = []
    if len(chosen) < len(study.rows):
        remarks.append(f"{len(chosen)} of {len(study.rows)} settings{_why(study, compared)}.")
    finish(figure, study.title, "E4 against G-CNN", handles, remarks)
    data = [_data(row, base, study) for base, rows in blocks for row in (base, *rows)]
    return Plot(name, figure, data)


def _why(study: Study, compared: list[SweepRow]) -> str:
    reasons = []
    if len(compared) < len(study.rows):
        reasons.append("those with a baseline")
    if len(study.rows) > MOST_SETTINGS:
        reasons.append("one value varied at a time")
    return f": {', '.join(reasons)}"


def _blocks(study: Study, rows: list[SweepRow]) -> list[Block]:
    keys = sorted({(row.width, row.kernel) for row in rows}, key=lambda key: (key[0] or 0, key[1] or 0))
    blocks = []
    for key in keys:
        baseline = study.baseline(*key)
        assert baseline is not None
        blocks.append((baseline, [row for row in rows if (row.width, row.kernel) == key]))
    return blocks


def _positions(blocks: list[Block]) -> tuple[list[float], float]:
    """The row at which each block starts, and the height of all in rows."""
    starts, next_start = [], 0.0
    for _, rows in blocks:
        starts.append(next_start)
        next_start += 1 + len(rows) + _GAP_ROWS
    return starts, next_start - _GAP_ROWS


def _panel(axes: Axes, blocks: list[Block], starts: list[float], kind: str, scale: float) -> None:
    for start, (baseline, rows) in zip(starts, blocks, strict=True):
        reference = getattr(baseline, f"{kind}_formula") / scale
        axes.plot([reference] * 2, [start, start + len(rows)], color=GCNN_COLOUR)
        axes.plot([reference], [start], color=GCNN_COLOUR, marker="s")
        for offset, row in enumerate(rows, start=1):
            cost = getattr(row, f"{kind}_formula") / scale
            ratio = getattr(row, f"{kind}_ratio")
            axes.plot([cost, reference], [start + offset] * 2, color=LIGHT_GREY, linewidth=0.7, zorder=1)
            axes.plot([cost], [start + offset], color=E4_COLOUR, marker="o", zorder=3)
            beside(axes, _RATIO_POINTS, start + offset, _times(ratio), E4_COLOUR)
    axes.margins(x=0.08)
    axes.grid(visible=False, axis="y")
    plain_log_ticks(axes)


def _times(ratio: float | None) -> str:
    return MISSING if ratio is None else f"{fixed(ratio, 2 if ratio >= 0.1 else 3)}×"


def _labels(axes: Axes, study: Study, blocks: list[Block], starts: list[float], height: float) -> None:
    ticks, labels, headers = [], [], []
    for start, (baseline, rows) in zip(starts, blocks, strict=True):
        shared = [axis for axis in study.label_axes if axis in ("width", "kernel")]
        ticks.append(start)
        labels.append(f"G-CNN {baseline.label(shared)}")
        headers.append(True)
        for offset, row in enumerate(rows, start=1):
            ticks.append(start + offset)
            labels.append(row.label(("reduction", "slices")))
            headers.append(False)
    axes.set_yticks(ticks, labels)
    for label, header in zip(axes.get_yticklabels(), headers, strict=True):
        label.set_color(GCNN_COLOUR if header else "black")
    axes.set_ylim(height - 0.3, -0.7)


def _data(row: SweepRow, baseline: SweepRow, study: Study) -> dict[str, object]:
    return {
        "model": row.model,
        "group": study.group,
        "width": row.width,
        "kernel": row.kernel,
        "reduction": row.reduction,
        "slices": row.slices,
        "macs": row.macs_formula,
        "params": row.params_formula,
        "baseline": baseline.model,
        "baseline_macs": baseline.macs_formula,
        "baseline_params": baseline.params_formula,
        "macs_ratio": row.macs_ratio,
        "params_ratio": row.params_ratio,
    }
