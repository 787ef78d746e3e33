"""Each term's share of the time beside its share of the MACs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from e4profile.errors import SettingError
from e4profile.show.axes import readable_on
from e4profile.show.style import (
    BLUE,
    GREEN,
    LIGHT_GREY,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILION,
    YELLOW,
    Plot,
    finish,
    new_figure,
)

_ROW_INCHES = 0.36
_NAMED_SHARE = 0.095
_BAR = 0.36
COLOURS = {
    "filter expansion": PURPLE,
    "convolution": BLUE,
    "generator": GREEN,
    "aggregation": ORANGE,
    "attention": VERMILION,
    "linear": "#35978F",
    "norm": SKY_BLUE,
    "activation": YELLOW,
    "pooling": "#8C510A",
    "other": "#6E6E6E",
    "unattributed": LIGHT_GREY,
}
"""Every term that a profiled pass can have."""
_SHARES = {"mac_share": "MACs", "time_share": "time"}


def share_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Two stacked bars per profiled pass: the MACs of a forward pass above, the time of the pass below.

    Args:
        name: of the files.
        rows: with the keys of ``e4profile.questions.time.share_rows.share_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.patches import Patch

    if not rows:
        raise SettingError("no profiled pass to draw")
    passes: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        label = f"{row['model']}\n{row['pass']}, B={row['batch_size']}"
        passes.setdefault(f"{label}\n{row['device']}" if _devices(rows) > 1 else label, []).append(row)
    figure = new_figure(0.5 + _ROW_INCHES * len(passes))
    axes = figure.subplots()
    for place, found in enumerate(passes.values()):
        for side, share in zip((-1, 1), _SHARES, strict=True):
            y, edge = place + side * 0.52 * _BAR, 0.0
            shares = {row["term"]: row[share] for row in found}
            for term, colour in COLOURS.items():
                length = 100 * shares.get(term, 0.0)
                axes.barh(y, length, left=edge, height=_BAR, color=colour, edgecolor="white", linewidth=0.3)
                if length >= 100 * _NAMED_SHARE:
                    axes.text(
                        edge + length / 2, y, f"{length:.0f}%", ha="center", va="center", fontsize=5,
                        color=readable_on(colour),
                    )  # fmt: skip
                edge += length
            axes.text(101.5, y, _SHARES[share], va="center", fontsize=5.5)
    axes.set_yticks(range(len(passes)), list(passes))
    axes.tick_params(axis="y", left=False)
    axes.set_ylim(len(passes) - 0.45, -0.55)
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share in %")
    present = {row["term"] for row in rows if row["mac_share"] or row["time_share"]}
    handles = [Patch(color=colour, label=term) for term, colour in COLOURS.items() if term in present]
    first = rows[0]
    where = f"{first['device']}, {first['dtype']}" if _devices(rows) == 1 else str(first["dtype"])
    remarks = [
        f"MACs of a forward pass, time of the pass named at the left ({where}), under a profiler, which slows small "
        "operators down. Unattributed: between operators."
    ]
    finish(figure, "Shares by named term", "of MACs and of time", handles, remarks)
    return Plot(name, figure, list(rows))


def _devices(rows: Sequence[Mapping[str, Any]]) -> int:
    return len({row["device"] for row in rows})
