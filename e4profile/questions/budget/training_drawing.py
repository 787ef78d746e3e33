"""A training step against inference, for equivariance learned by a loss and equivariance built in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from e4profile.errors import SettingError
from e4profile.show.axes import around, log_axis
from e4profile.show.numbers import si
from e4profile.show.style import BLUE, VERMILION, Plot, beside, finish, new_figure

_ROW_INCHES = 0.27
_OFFSET = 0.18
_STYLES = {"implicit": BLUE, "explicit": VERMILION}
_POINTS = {"ratio": 24, "params": 58}


def training_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Per network two lines from inference to training step: itself, and the G-CNN of nearly as many parameters.

    Args:
        name: of the files.
        rows: with the keys of ``e4profile.questions.budget.training_rows.training_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise SettingError("no training steps to draw")
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = new_figure(0.5 + _ROW_INCHES * len(models))
    axes = figure.subplots()
    costs = [row[key] / 1e9 for row in rows for key in ("inference_macs", "step_macs")]
    log_axis(axes, "x", *around(costs, 1.5))
    for row in rows:
        colour = _STYLES[row["equivariance"]]
        place = models.index(row["model"]) + _OFFSET * (-1 if row["equivariance"] == "implicit" else 1)
        ends = (row["inference_macs"] / 1e9, row["step_macs"] / 1e9)
        axes.plot(ends, [place] * 2, color=colour, linewidth=0.8)
        axes.plot(ends[:1], [place], color=colour, marker="o", markersize=3, markerfacecolor="white", zorder=3)
        axes.plot(ends[1:], [place], color=colour, marker="D", markersize=3, zorder=3)
        beside(axes, _POINTS["ratio"], place, f"{row['step_to_inference']:.2f}×", colour)
        beside(axes, _POINTS["params"], place, si(row["params"]), colour)
    beside(axes, _POINTS["ratio"], -0.85, "step", "black")
    beside(axes, _POINTS["params"], -0.85, "params", "black")
    axes.set_yticks(range(len(models)), models)
    axes.tick_params(axis="y", left=False)
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("G MACs (log)")
    handles = [
        Line2D([], [], color=BLUE, label="implicit: equivariance loss"),
        Line2D([], [], color=VERMILION, label="explicit: G-CNN, nearest parameters"),
        Line2D([], [], color="black", linestyle="none", marker="o", markersize=3, markerfacecolor="white",
               label="inference, one image"),
        Line2D([], [], color="black", linestyle="none", marker="D", markersize=3, label="training step, one sample"),
    ]  # fmt: skip
    remarks = [
        "Training step: forward and backward, of an image and its transformed copy (implicit) or of the image alone "
        "(explicit); closed form. Step: training step over inference."
    ]
    finish(figure, "Equivariance, learned or built in", "training and inference", handles, remarks)
    return Plot(name, figure, list(rows))
