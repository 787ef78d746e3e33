"""Layers of several networks under one device's roof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from e4profile.errors import SettingError
from e4profile.questions.roofline.time_plots import Roof, RoofPoint, roofline_plot
from e4profile.show.style import Plot


def roofline_plots(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """One figure per roof, in the order in which the roofs appear; from the second on numbered.

    Args:
        name: of the files.
        rows: with the keys of ``e4profile.questions.roofline.figure_rows.roofline_rows``.

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
