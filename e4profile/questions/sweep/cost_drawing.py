"""Cost against each setting: the paper's formula, the closed form and what runs, with the G-CNN beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.show.axes import around, log_axis, value_ticks
from e4profile.show.style import E4_COLOUR, GCNN_COLOUR, ORANGE, Plot, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {
    "reduction": "reduction r",
    "slices": "slices s",
    "channels_per_slice": "channels\nper slice",
    "kernel": "kernel k",
    "width": "width c",
    "group": "order A",
}
_QUANTITIES = {"macs": "MACs", "params": "parameters"}


def cost_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """A column of panels per setting, MACs above parameters, all on logarithmic axes: a slope is an exponent.

    Args:
        name: of the files.
        rows: of one network, with the keys of ``e4profile.questions.sweep.cost_rows.cost_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise SettingError("no setting to draw costs against")
    panels = {setting: [row for row in rows if row["setting"] == setting] for setting in TITLES}
    panels = {setting: sorted(found, key=lambda row: row["value"]) for setting, found in panels.items() if found}
    figure = new_figure(2.75)
    grid = figure.subplots(len(_QUANTITIES), len(panels), sharey="row", squeeze=False)
    for line, (quantity, title) in zip(grid, _QUANTITIES.items(), strict=True):
        costs = [row[column] for row in rows for column in _columns(quantity) if row[column] is not None]
        scale, prefix = (1e6, "M") if min(costs) >= 1e5 else (1e3, "thousand")
        for axes, (setting, found) in zip(line, panels.items(), strict=True):
            _panel(axes, quantity, found, scale)
            value_ticks(axes, [row["value"] for row in found], doubled=setting != "kernel")
        log_axis(line[0], "y", *around([cost / scale for cost in costs], 1.2))
        line[0].set_ylabel(f"{prefix} {title}")
        for axes in line[1:]:
            axes.tick_params(axis="y", left=False)
    for axes, setting in zip(grid[-1], panels, strict=True):
        axes.set_xlabel(TITLES[setting])
    figure.align_ylabels(list(grid[:, 0]))
    handles = [
        Line2D([], [], color=ORANGE, linewidth=3, label="paper's formula"),
        Line2D([], [], color=E4_COLOUR, label="closed form"),
        Line2D([], [], **_MEASURED, label="measured (operators that run)"),
    ]
    if any(row["gcnn_macs"] is not None for row in rows):
        handles.append(Line2D([], [], color=GCNN_COLOUR, linestyle="--", label="G-CNN, same topology"))
    if not all(row["agrees"] for row in rows):
        handles.append(Line2D([], [], **_DISAGREES, label="measured, disagrees"))
    first = rows[0]
    own = [row for row in rows if row["own"] and row["setting"] != "group"]
    settings = ", ".join(f"{TITLES[row['setting']]}={row['value']}".replace("\n", " ") for row in own)
    remarks = [
        f"Filled: the network itself ({settings}; {first['group']}). One setting is varied at a time; A is the order "
        "of the point group. All axes are logarithmic but that of k."
    ]
    finish(figure, f"{first['model']}, {first['group']}", "cost against its settings", handles, remarks)
    return Plot(name, figure, list(rows))


_MEASURED: dict[str, Any] = {
    "color": "black", "linestyle": "none", "marker": "o", "markersize": 3, "markerfacecolor": "white",
    "markeredgewidth": 0.6,
}  # fmt: skip
_DISAGREES: dict[str, Any] = {"color": GCNN_COLOUR, "linestyle": "none", "marker": "X", "markersize": 4}


def _columns(quantity: str) -> tuple[str, ...]:
    return (f"{quantity}_printed", f"{quantity}_closed", f"{quantity}_measured", f"gcnn_{quantity}")


def _panel(axes: Axes, quantity: str, rows: Sequence[Mapping[str, Any]], scale: float) -> None:
    printed, closed, measured, gcnn = _columns(quantity)
    values = [row["value"] for row in rows]
    # the closed form often lies on the paper's formula: a wide line under a thin one shows both
    styles: list[tuple[str, dict[str, Any]]] = [
        (printed, {"color": ORANGE, "linewidth": 3.0}),
        (closed, {"color": E4_COLOUR}),
        (gcnn, {"color": GCNN_COLOUR, "linestyle": "--"}),
    ]
    for column, style in styles:
        if all(row[column] is not None for row in rows):
            axes.plot(values, [row[column] / scale for row in rows], **style)
    for row in rows:
        style = {**(_MEASURED if row["agrees"] else _DISAGREES)}
        if row["own"] and row["agrees"]:
            style["markerfacecolor"] = "black"
        axes.plot([row["value"]], [row[measured] / scale], zorder=3, **style)
