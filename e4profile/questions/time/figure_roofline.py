"""Layers of networks under a device's roof, from records; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.figures import Figure, rows_of_records
from e4profile.records.store import Record
from e4profile.show import style

if TYPE_CHECKING:
    from e4profile.questions.time.roofline import Roofline

KIND = "roofline"

_PANEL_INCHES = 2.6
_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.ORANGE, style.PURPLE, style.SKY_BLUE, style.BLACK)
_MARKERS = ("o", "^", "s", "D", "v", "P")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def roofline_record(found: Roofline) -> Record:
    """A roofline as the line of a store: the peaks, every layer's work and time, and where it was measured."""
    peaks = found.peaks
    return Record(
        kind=KIND,
        card=found.name,
        arguments={"batch_size": found.input_shape[0], "device": peaks.device, "dtype": peaks.dtype,
                   "threads": peaks.threads},
        counts={
            "input_shape": list(found.input_shape),
            "macs_per_s": peaks.macs_per_s,
            "bytes_per_s": peaks.bytes_per_s,
            "layers": [
                {"path": one.traffic.path, "layer": one.traffic.layer, "macs": one.traffic.macs,
                 "bytes": one.traffic.bytes, "measured_s": one.measured_s,
                 **({"quartiles_s": list(one.quartiles_s)} if one.quartiles_s else {})}
                for one in found.layers
            ],
        },
        counters={"clock": peaks.device},
        environment=dict(peaks.environment),
    )  # fmt: skip


def roofline_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row per record and layer, with the roof that it was measured under and what distinguishes the roof.

    Of several records of the same work the last one counts.

    Raises:
        SettingError: for a record that lacks a value.
    """
    return rows_of_records(records, KIND, _rows)


def _rows(record: Record) -> list[dict[str, Any]]:
    counts, arguments = record.counts, record.arguments
    device = record.environment.get("device", arguments["device"])
    return [
        {
            "model": record.card,
            "batch_size": arguments["batch_size"],
            "roof": f"{device}, {arguments['dtype']}, threads {arguments['threads']}",
            "macs_per_s": counts["macs_per_s"],
            "bytes_per_s": counts["bytes_per_s"],
            **{name: layer[name] for name in ("path", "layer", "macs", "bytes", "measured_s")},
            # records of before have none
            **({"quartiles_s": tuple(layer["quartiles_s"])} if layer.get("quartiles_s") else {}),
        }
        for layer in counts["layers"]
    ]


def roofline_plots(name: str, rows: Sequence[Mapping[str, Any]]) -> list[style.Plot]:
    """One figure per roof, in the order in which the roofs appear; from the second on numbered.

    Args:
        name: of the files.
        rows: with the keys of ``roofline_rows``.

    Raises:
        SettingError: without a layer that has MACs.
    """
    if not rows:
        raise SettingError("no layers to draw under a roof")
    roofs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        roofs.setdefault((row["macs_per_s"], row["bytes_per_s"], row["roof"]), []).append(row)
    names = [name, *(f"{name}-{number}" for number in range(2, len(roofs) + 1))]
    return [
        roofline_plot(one, f"Roofline: {found[0]['roof']}", found)
        for one, found in zip(names, roofs.values(), strict=True)
    ]


def roofline_plot(name: str, title: str, rows: Sequence[Mapping[str, Any]]) -> style.Plot:
    """Layers under one roof; those without MACs have no place on logarithmic axes and are counted below.

    A layer's class has a colour, a network and batch a marker.

    Raises:
        SettingError: without a layer that has MACs.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter

    shown = [row for row in rows if row["macs"]]
    if not shown:
        raise SettingError(f"{title}: no layer has MACs to draw")
    macs_per_s, bytes_per_s = rows[0]["macs_per_s"], rows[0]["bytes_per_s"]
    figure = style.new_figure(_PANEL_INCHES)
    axes = figure.subplots()
    ridge = macs_per_s / bytes_per_s
    low, high = style.around([*(row["macs"] / row["bytes"] for row in shown), ridge], 2)
    corner = [low, ridge, high]
    axes.plot(corner, [min(x * bytes_per_s, macs_per_s) for x in corner], color=style.BLACK, zorder=2)
    colours = _assigned([row["layer"] for row in shown], _COLOURS)
    markers = _assigned([_series(row) for row in shown], _MARKERS)
    for row in shown:
        if between := row.get("quartiles_s"):
            at, rates = row["macs"] / row["bytes"], [row["macs"] / end_s for end_s in between]
            axes.plot([at, at], rates, color=colours[row["layer"]], linewidth=0.7, zorder=2)
        axes.plot(
            [row["macs"] / row["bytes"]], [row["macs"] / row["measured_s"]], linestyle="none",
            marker=markers[_series(row)], markerfacecolor="none", markeredgecolor=colours[row["layer"]], zorder=3,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity (MACs per byte)", ylabel="MACs per second")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"10{str(round(log10(value))).translate(_RAISED)}"))
    handles = [Line2D([], [], color=style.BLACK, label=rows[0]["roof"])]
    handles += [
        Line2D([], [], linestyle="none", marker="o", color=colour, label=layer) for layer, colour in colours.items()
    ]
    if len(markers) > 1:
        handles += [
            Line2D([], [], linestyle="none", marker=marker, color=style.GREY, markerfacecolor="none", label=series)
            for series, marker in markers.items()
        ]
    remark = (
        f"Roof: {macs_per_s:.3g} MACs/s and {bytes_per_s:.3g} bytes/s, both measured. Bytes: each input, "
        "output and weight once, with filters as expanded."
    )
    spread = any(row.get("quartiles_s") for row in shown)
    remark += " Lines: from quartile to quartile of the passes." if spread else " The records hold no spread."
    if len(shown) < len(rows):
        remark += f" {len(rows) - len(shown)} layers without MACs are not shown."
    style.finish(figure, title, "", handles, [remark], convention_name=None)
    return style.Plot(name, figure, [_numbers(row) for row in rows])


def _series(row: Mapping[str, Any]) -> str:
    return f"{row['model']}, B={row['batch_size']}"


def _assigned(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """A value per name in order of appearance; beyond the last value they repeat."""
    unique = list(dict.fromkeys(names))
    return {name: values[index % len(values)] for index, name in enumerate(unique)}


def _numbers(row: Mapping[str, Any]) -> dict[str, object]:
    ideal_s = max(row["macs"] / row["macs_per_s"], row["bytes"] / row["bytes_per_s"])
    return {
        "series": _series(row),
        **{name: row[name] for name in ("path", "layer", "macs", "bytes")},
        "intensity": row["macs"] / row["bytes"],
        "ideal_s": ideal_s,
        "measured_s": row["measured_s"],
        **dict(zip(("measured_q1_s", "measured_q3_s"), row.get("quartiles_s", ()), strict=False)),
        "achieved": ideal_s / row["measured_s"],
    }


FIGURE = Figure(
    "roofline",
    "each layer under the device's measured roof, from records",
    roofline_rows,
    roofline_plots,
    place=7,
    records=KIND,
    takes_settings=False,
)
