"""What stock counters report, as a fraction of the MACs that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.sweep.sweep_rows import Study, SweepRow
from e4profile.show.numbers import MISSING, fixed
from e4profile.show.style import BLUE, VERMILION, Plot, beside, finish, new_figure, plain_log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SETTINGS = 12
COUNTERS = {"fvcore": (BLUE, "o"), "thop": (VERMILION, "D")}
_ROW_INCHES = 0.2
_OFFSET = 0.17
_COLUMN_POINTS = {"fvcore": 30, "thop": 60}


def stock_counters(study: Study, name: str) -> Plot | None:
    """A stem per counter and setting, from 100% to what it reports; None when no counter reported anything.

    The distance is logarithmic: what a counter misses by a factor of a thousand stays readable.
    """
    from matplotlib.lines import Line2D

    bars = _bars(study)
    fractions = [_fraction(bar, counter) for bar in bars for counter in COUNTERS]
    reported = [fraction for fraction in fractions if fraction is not None]
    if not reported:
        return None
    positive = [fraction for fraction in reported if fraction > 0]
    low, high = min([0.5, *positive]) / 1.6, max([1.0, *positive]) * 1.25
    figure = new_figure(0.55 + _ROW_INCHES * len(bars))
    axes = figure.subplots()
    axes.set_xlim(100 * low, 100 * high)
    plain_log_ticks(axes)
    axes.axvline(100, color="black", linewidth=0.8, zorder=2)
    for place, bar in enumerate(bars):
        for sign, counter in zip((-1, 1), COUNTERS, strict=True):
            _stem(axes, place, place + sign * _OFFSET, counter, _fraction(bar, counter))
    for counter, (colour, _) in COUNTERS.items():
        beside(axes, _COLUMN_POINTS[counter], -0.8, counter, colour)
    axes.set_yticks(range(len(bars)), [_label(study, bar) for bar in bars])
    axes.tick_params(axis="y", left=False)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("reported, in % of the MACs that run (log)")
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=3, label=counter)
        for counter, (colour, marker) in COUNTERS.items()
    ]
    handles.append(Line2D([], [], color="black", linewidth=0.8, label="MACs that run"))
    settings = sum(not bar.is_baseline for bar in bars)
    thinned = settings < len(study.rows)
    remarks = [f"{settings} of {len(study.rows)} settings: one value varied at a time."] if thinned else []
    if None in fractions:
        remarks.append(f"{MISSING}: the counter gave no figure.")
    finish(figure, study.title, "what stock counters report", handles, remarks)
    return Plot(name, figure, [_data(bar, counter) for bar in bars for counter in COUNTERS])


def _bars(study: Study) -> list[SweepRow]:
    """The chosen settings after their baselines, as far as they ran: what did not run has no fraction."""
    settings = study.at_most(MOST_SETTINGS)
    compared = {(row.width, row.kernel) for row in settings}
    baselines = [row for row in study.baselines if (row.width, row.kernel) in compared]
    return [row for row in (*baselines, *settings) if row.macs_measured]


def _fraction(bar: SweepRow, counter: str) -> float | None:
    reported: int | None = getattr(bar, counter)
    if reported is None or not bar.macs_measured:
        return None
    return reported / bar.macs_measured


def _stem(axes: Axes, row: float, place: float, counter: str, fraction: float | None) -> None:
    colour, marker = COUNTERS[counter]
    beside(axes, _COLUMN_POINTS[counter], row, MISSING if fraction is None else _percent(fraction), colour)
    if fraction is None:
        return
    # Nothing counted lies infinitely far to the left: an arrow at the edge stands for it.
    end, marker = (100 * fraction, marker) if fraction > 0 else (axes.get_xlim()[0], "<")
    axes.plot([100, end], [place] * 2, color=colour, linewidth=0.8)
    axes.plot([end], [place], color=colour, marker=marker, markersize=3, zorder=3, clip_on=False)


def _percent(fraction: float) -> str:
    if fraction == 0:
        return "0%"
    percent = 100 * fraction
    return f"{fixed(percent, 1 if percent >= 10 else 2)}%"


def _label(study: Study, bar: SweepRow) -> str:
    return f"G-CNN {bar.label(study.label_axes)}" if bar.is_baseline else bar.label(study.label_axes)


def _data(bar: SweepRow, counter: str) -> dict[str, object]:
    return {
        "model": bar.model,
        "group": bar.group,
        "width": bar.width,
        "kernel": bar.kernel,
        "reduction": bar.reduction,
        "slices": bar.slices,
        "counter": counter,
        "reported": getattr(bar, counter),
        "macs_measured": bar.macs_measured,
        "fraction": _fraction(bar, counter),
    }
