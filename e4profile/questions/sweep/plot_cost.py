"""Cost against each setting: the paper's formula, the exact closed form and measured points on one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e4profile.questions.sweep.sweep_rows import SYMBOLS, Study, SweepRow
from e4profile.show.style import E4_COLOUR, ORANGE, VERMILION, Plot, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXIS_TITLES = {"kernel": "kernel k", "reduction": "reduction r", "slices": "slices s", "width": "width c"}
_MAX_TICKS = 6


def cost_against_settings(study: Study, name: str) -> Plot | None:
    """One column of panels per setting that varies, MACs above parameters; None when nothing varies.

    The other settings are held at the paper's (k=5, r=1, s=2) where the sweep has them.
    """
    from matplotlib.lines import Line2D

    lines = {axis: study.along(axis) for axis in AXIS_TITLES}
    panels = {axis: rows for axis, rows in lines.items() if len({row.setting(axis) for row in rows}) > 1}
    if not panels:
        return None
    figure = new_figure(2.75)
    grid = figure.subplots(2, len(panels), sharey="row", sharex="col", squeeze=False)
    quantities = (_Quantity("macs", study), _Quantity("params", study))
    data: list[dict[str, object]] = []
    for line, quantity in zip(grid, quantities, strict=True):
        for axes, (axis, rows) in zip(line, panels.items(), strict=True):
            quantity.draw(axes, axis, rows)
            data.extend(quantity.data(axis, row) for row in rows)
        line[0].set_ylabel(quantity.label)
        drawn = [y for axes in line for curve in axes.get_lines() for y in curve.get_ydata()]
        line[0].set_ylim(0, 1.08 * max(drawn, default=1) or 1)
    for axes, axis in zip(grid[-1], panels, strict=True):
        axes.set_xlabel(AXIS_TITLES[axis])
    figure.align_ylabels(list(grid[:, 0]))
    handles = [
        Line2D([], [], color=ORANGE, linewidth=3, label="paper's formula"),
        Line2D([], [], color=E4_COLOUR, label="exact closed form"),
        _measured_key(agrees=True),
    ]
    if any(not row.agrees for rows in panels.values() for row in rows):
        handles.append(_measured_key(agrees=False))
    remarks = [f"Held where not varied: {study.base.label(study.label_axes)}."]
    if not quantities[1].has_printed_form:
        remarks.append("The paper's formula is shown for MACs only.")
    finish(figure, study.title, "cost against its settings", handles, [" ".join(remarks)])
    return Plot(name, figure, data)


class _Quantity:
    """MACs or parameters: which columns of a row hold them, and in which unit they are drawn."""

    def __init__(self, kind: str, study: Study) -> None:
        self.kind = kind
        largest = max((self._value(row, "formula") or 0 for row in study.rows), default=0)
        self.scale, prefix = (1e6, "M") if kind == "macs" or largest >= 1e6 else (1e3, "thousand")
        self.label = f"{prefix} {'MACs' if kind == 'macs' else 'parameters'}"
        self.has_printed_form = any(self._value(row, "printed_form") is not None for row in study.rows)

    def _value(self, row: SweepRow, witness: str) -> int | None:
        value = getattr(row, f"{self.kind}_{witness}")
        assert value is None or isinstance(value, int)
        return value

    def draw(self, axes: Axes, axis: str, rows: tuple[SweepRow, ...]) -> None:
        # The closed form often lies on the paper's: a wide line under a thin one shows both.
        for witness, colour, width in (("printed_form", ORANGE, 3.0), ("formula", E4_COLOUR, 1.0)):
            known = [row for row in rows if self._value(row, witness) is not None]
            axes.plot(
                [row.setting(axis) or 0 for row in known],
                [(self._value(row, witness) or 0) / self.scale for row in known],
                color=colour,
                linewidth=width,
            )
        for row in rows:
            measured = self._value(row, "measured")
            if measured is not None:
                key = _measured_key(agrees=row.agrees)
                axes.plot(
                    [row.setting(axis) or 0],
                    [measured / self.scale],
                    color=key.get_color(),
                    marker=key.get_marker(),
                    markerfacecolor=key.get_markerfacecolor(),
                    zorder=3,
                )
        _setting_axis(axes, axis, rows)

    def data(self, axis: str, row: SweepRow) -> dict[str, object]:
        return {
            "quantity": self.kind,
            "against": SYMBOLS[axis],
            "model": row.model,
            "group": row.group,
            "width": row.width,
            "kernel": row.kernel,
            "reduction": row.reduction,
            "slices": row.slices,
            "printed_form": self._value(row, "printed_form"),
            "closed_form": self._value(row, "formula"),
            "measured": self._value(row, "measured"),
            "agrees": row.agrees,
        }


def _measured_key(*, agrees: bool) -> Any:
    from matplotlib.lines import Line2D

    if agrees:
        return Line2D([], [], color="black", linestyle="none", marker="o", markerfacecolor="white", label="measured")
    return Line2D([], [], color=VERMILION, linestyle="none", marker="X", label="measured, setting disagrees")


def _setting_axis(axes: Axes, axis: str, rows: tuple[SweepRow, ...]) -> None:
    from matplotlib.ticker import NullLocator

    values = sorted({row.setting(axis) or 0 for row in rows})
    # Reductions, slices and widths are doubled from one setting to the next; kernels grow by two.
    if axis != "kernel":
        axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    step = -(-len(values) // _MAX_TICKS)
    axes.set_xticks(values[::step], [str(value) for value in values[::step]])
    axes.margins(x=0.15)
