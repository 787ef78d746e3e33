"""The memory of a training step against the batch size: constant and growing part of what is saved, and the peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.show.axes import around, log_axis, value_ticks
from e4profile.show.style import BLUE, GREY, ORANGE, VERMILION, Plot, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BYTES_PER_MIB = 2**20
_COLUMNS = 3
_PANEL_INCHES = 1.25
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "constant_bytes": ("saved, constant", {"color": ORANGE}),
    "growing_bytes": ("saved, growing", {"color": BLUE}),
    "peak_bytes": ("peak", {"color": VERMILION, "linestyle": "--", "marker": "o", "markersize": 2.2}),
}


def memory_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """A panel per network on common logarithmic axes; a line marks where the growing part overtakes the constant.

    Args:
        name: of the files.
        rows: with the keys of ``e4profile.questions.memory.figure_rows.memory_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise SettingError("no memory to draw")
    models = list(dict.fromkeys(row["model"] for row in rows))
    columns = min(_COLUMNS, len(models))
    lines = -(-len(models) // columns)
    figure = new_figure(0.35 + _PANEL_INCHES * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    limits = around([row[key] / BYTES_PER_MIB for row in rows for key in _LINES], 1.8)
    for place, axes in enumerate(grid.flat):
        if place >= len(models):
            axes.set_axis_off()
            continue
        _panel(axes, [row for row in rows if row["model"] == models[place]])
        axes.set_title(models[place])
        if place % columns == 0:
            axes.set_ylabel("MiB (log)")
        if place + columns >= len(models):
            axes.set_xlabel("batch size (log)")
            axes.tick_params(labelbottom=True)
    log_axis(grid[0, 0], "y", *limits)
    handles = [Line2D([], [], label=label, **style) for label, style in _LINES.values()]
    if any(len(axes.get_lines()) > len(_LINES) for axes in grid.flat):
        handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=0.8, label="both parts equal"))
    remarks = [
        "float32, forward and backward of one training step. Saved: kept between the two passes, parameters and input "
        "apart. Peak: the most held at once beyond what was there before, as PyTorch's allocator rounds it. 1 MiB is "
        "2^20 bytes."
    ]
    finish(figure, "Memory", "a training step against its batch", handles, remarks, convention_name=None)
    return Plot(name, figure, list(rows))


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    batches = [row["batch_size"] for row in rows]
    for key, (_, style) in _LINES.items():
        axes.plot(batches, [row[key] / BYTES_PER_MIB for row in rows], **style)
    last = rows[-1]
    equal = last["constant_bytes"] * last["batch_size"] / last["growing_bytes"] if last["growing_bytes"] else None
    if equal is not None and min(batches) < equal < max(batches):
        axes.axvline(equal, color=GREY, linestyle=":", linewidth=0.8, zorder=1)
        axes.annotate(
            f"B = {equal:.0f}", (equal, 1), xycoords=("data", "axes fraction"), xytext=(2, -1),
            textcoords="offset points", fontsize=5.5, color=GREY, va="top",
        )  # fmt: skip
    value_ticks(axes, batches, doubled=True, most=3)
