"""Layers of networks under a device's roof, from records; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.plot.registry import Figure
from e4profile.questions.roofline.time_plots import Roof, RoofPoint, roofline_plot
from e4profile.records.store import Record
from e4profile.show.style import Plot

if TYPE_CHECKING:
    from e4profile.questions.roofline.roofline import Roofline

KIND = "roofline"


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
                 "bytes": one.traffic.bytes, "measured_s": one.measured_s}
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
    latest = {record.key: record for record in records if record.kind == KIND}
    return [row for record in latest.values() for row in _rows(record)]


def _rows(record: Record) -> list[dict[str, Any]]:
    try:
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
            }
            for layer in counts["layers"]
        ]
    except KeyError as error:
        raise SettingError(f"the roofline of {record.card!r} lacks {error}") from error


def roofline_plots(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """One figure per roof, in the order in which the roofs appear; from the second on numbered.

    Args:
        name: of the files.
        rows: with the keys of ``roofline_rows``.

    Raises:
        SettingError: without a layer that has MACs.
    """
    if not rows:
        raise SettingError("no layers to draw under a roof")
    roofs: dict[Roof, list[RoofPoint]] = {}
    for row in rows:
        roof = Roof(row["macs_per_s"], row["bytes_per_s"], row["roof"])
        series = f"{row['model']}, B={row['batch_size']}"
        roofs.setdefault(roof, []).append(
            RoofPoint(series, row["path"], row["layer"], row["macs"], row["bytes"], row["measured_s"])
        )
    names = [name, *(f"{name}-{number}" for number in range(2, len(roofs) + 1))]
    return [
        roofline_plot(one, f"Roofline: {roof.label}", roof, points)
        for one, (roof, points) in zip(names, roofs.items(), strict=True)
    ]


FIGURE = Figure(
    "roofline",
    "each layer under the device's measured roof, from records",
    roofline_rows,
    roofline_plots,
    place=7,
    records=KIND,
    takes_settings=False,
)
