"""What stock counters see of networks, as a share of the MACs that run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.figures import Figure
from e4profile.show.numbers import MISSING, percent
from e4profile.show.style import BLUE, VERMILION, Plot, around, beside, finish, named_rows, new_figure
from e4profile.witnesses.counts.registry import STOCK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from e4profile.subjects.subject import Subject

_STYLES = dict(zip(STOCK, ((BLUE, "o"), (VERMILION, "D")), strict=True))
_ROW_INCHES = 0.3
_OFFSET = 0.2
_EMS = {"reported": 5.2, "seen": 11.4}

_BESIDES = ("e4net", "e4net-large")


def default_models() -> tuple[str, ...]:
    """The networks of Table 4 of He et al. 2021 in its order, then both E4-Nets as released."""
    from e4profile.networks.cards import built_in_cards

    table = [(row.order, card.name) for card in built_in_cards().values() for row in card.published if row.table == "4"]
    return (*(name for _, name in sorted(table)), *_BESIDES)


def counter_rows(networks: Sequence[Subject]) -> list[dict[str, Any]]:
    """One row per network and stock counter, for one image; the counters run the real networks.

    A user-defined model is called with its own inputs.

    ``macs`` run, by the dispatch counter. ``reported`` is the counter's own figure, of which ``besides`` is charged
    for what is no MAC (norms, pooling) and ``seen`` is the rest. ``reported_share`` and ``seen_share`` are of
    ``macs``. A counter without an answer has None and its ``failure``.
    """
    from e4profile.witnesses.counts.measure import measure

    rows = []
    chosen = ("dispatch", *STOCK)
    for network in networks:
        found = measure(network, chosen)
        for counter in STOCK:
            gap = found.gaps.get(counter)
            causes = [] if gap is None else [cause.amount for cause in gap.causes]
            reported = None if gap is None else gap.reported
            row = counter_row(network.short_name, counter, found.dispatch.macs, reported, causes)
            rows.append({**row, "failure": found.failures.get(counter)})
    return rows


def counter_row(label: str, counter: str, macs: int, reported: int | None, causes: Sequence[int]) -> dict[str, Any]:
    """The row of one counter.

    Args:
        label: of the network.
        counter: its name.
        macs: that run.
        reported: the counter's figure; None without an answer.
        causes: of the gap between both, each with its sign.
    """
    row: dict[str, Any] = {"model": label, "counter": counter, "macs": macs}
    if reported is None or not macs:
        return row | dict.fromkeys(("reported", "besides", "seen", "reported_share", "seen_share"))
    besides = sum(amount for amount in causes if amount > 0)
    seen = reported - besides
    return row | {
        "reported": reported, "besides": besides, "seen": seen, "reported_share": reported / macs,
        "seen_share": seen / macs,
    }  # fmt: skip


def counters_plot(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    title: tuple[str, str] = ("Stock counters", "what they see of each network"),
    further: Sequence[str] = (),
) -> Plot:
    """Per network and counter a line from 100% down to the MACs it sees, with what it reports on the way.

    Args:
        name: of the files.
        rows: with the keys of ``counter_rows``.
        title: the subject, and what is shown of it.
        further: sentences below the figure, behind its own.

    Raises:
        SettingError: when no counter gave a figure.
    """
    from matplotlib.lines import Line2D

    shares = [row[key] for row in rows for key in ("reported_share", "seen_share") if row[key] is not None]
    if not shares:
        raise SettingError("no stock counter gave a figure")
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = new_figure(0.5 + _ROW_INCHES * len(models))
    axes = figure.subplots()
    low, high = around([100 * share for share in [*shares, 1.0]], 2.5)
    _percent_axis(axes, low, high)
    axes.axvline(100, color="black", linewidth=0.8, zorder=2)
    for row in rows:
        _stem(axes, models.index(row["model"]), row)
    for column, text in (("reported", "reports"), ("seen", "sees")):
        beside(axes, _EMS[column], -0.85, text, "black")
    named_rows(axes, models)
    axes.set_xlabel("% of the MACs that run (log)")
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=3, label=f"{counter}: MACs it sees")
        for counter, (colour, marker) in _STYLES.items()
    ]
    handles += [
        Line2D([], [], color=colour, linestyle="none", marker=marker, markersize=4, markerfacecolor="white",
               label=f"{counter}: what it reports")
        for counter, (colour, marker) in _STYLES.items()
    ]  # fmt: skip
    remarks = [
        "A counter reports what it sees and also charges for norms and pooling, which are not MACs. 100% are the "
        "MACs that run, by the dispatch counter."
    ]
    if None in [row["reported"] for row in rows]:
        remarks.append(f"{MISSING}: the counter gave no figure.")
    finish(figure, *title, handles, [*remarks, *further])
    return Plot(name, figure, list(rows))


def _percent_axis(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(low, high)
    lowest = math.ceil(math.log10(low))
    # from 100% down, so that the line of the MACs that run always has its number
    step = 2 if lowest < -2 else 1
    axes.xaxis.set_major_locator(FixedLocator([10.0**exponent for exponent in range(2, lowest - 1, -step)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def _stem(axes: Axes, place: int, row: Mapping[str, Any]) -> None:
    colour, marker = _STYLES[row["counter"]]
    y = place + _OFFSET * (-1 if row["counter"] == STOCK[0] else 1)
    for column, ems in _EMS.items():
        beside(axes, ems, y, _percent(row[f"{column}_share"]), colour)
    if row["reported"] is None:
        return
    # nothing seen lies infinitely far to the left: an arrow at the edge stands for it
    seen = 100 * row["seen_share"]
    end, end_marker = (seen, marker) if seen > 0 else (axes.get_xlim()[0], "<")
    axes.plot([100, end], [y] * 2, color=colour, linewidth=0.8)
    if row["reported"] > 0:
        axes.plot(
            [100 * row["reported_share"]], [y], color=colour, marker=marker, markersize=4, markerfacecolor="white",
            zorder=3,
        )  # fmt: skip
    axes.plot([end], [y], color=colour, marker=end_marker, markersize=3, zorder=4, clip_on=False)


def _percent(share: float | None) -> str:
    if share is None:
        return MISSING
    value = 100 * share
    # of less than one percent two digits
    places = 0 if not value else 1 if abs(value) >= 1 else 1 - math.floor(math.log10(abs(value)))
    return percent(value, places)


def _plain(value: float) -> str:
    """Without an exponent: 0.0001, 1, 100."""
    return f"{value:.10f}".rstrip("0").rstrip(".") if value < 1 else f"{value:g}"


FIGURE = Figure(
    "counters",
    "what fvcore and thop see of each network, as a share of the MACs that run",
    counter_rows,
    counters_plot,
    default_models,
    place=4,
)
