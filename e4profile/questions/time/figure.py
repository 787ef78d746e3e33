"""Where the time goes against where the MACs go, from records of profiled passes; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.figures import Figure, rows_of_records
from e4profile.records.store import Record
from e4profile.show import style

if TYPE_CHECKING:
    from e4profile.witnesses.timing.breakdown import Breakdown

KIND = "breakdown"
UNATTRIBUTED = "unattributed"


def breakdown_record(
    found: Breakdown, device: str, dtype: str, threads: int | None, environment: Mapping[str, Any]
) -> Record:
    """A profiled pass as the line of a store, with all that a figure of it needs.

    Args:
        found: the breakdown.
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        threads: intra-operator threads.
        environment: where it was measured (see ``e4profile.witnesses.environment``).
    """
    return Record(
        kind=KIND,
        card=found.name,
        arguments={"pass": found.pass_, "mode": found.mode, "batch_size": found.input_shape[0], "device": device,
                   "dtype": dtype, "threads": threads},
        counts={
            "input_shape": list(found.input_shape),
            "terms": [
                {"term": one.term, "seconds": one.seconds, "macs": one.macs,
                 **({"share_quartiles": list(one.share_quartiles)} if one.share_quartiles else {})}
                for one in found.terms
            ],
            "unattributed_s": found.unattributed_s,
            "total_s": found.total_s,
            "passes": found.passes,
            "median_s": found.whole.median_s,
            "witness": found.witness,
        },
        counters={"profiler": "torch"},
        environment=dict(environment),
    )  # fmt: skip


def share_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row per profiled pass and term: ``time_share`` of the pass, ``mac_share`` of the forward pass's MACs.

    The time that no operator accounts for is the term ``unattributed``. Of several records of the same work the
    last one counts.

    Raises:
        SettingError: for a record that lacks a value.
    """
    return rows_of_records(records, KIND, _rows)


def _rows(record: Record) -> list[dict[str, Any]]:
    counts, arguments = record.counts, record.arguments
    macs = sum(term["macs"] for term in counts["terms"])
    common = {
        "model": record.card,
        "pass": arguments["pass"],
        "mode": arguments["mode"],
        "batch_size": arguments["batch_size"],
        "device": record.environment.get("device", arguments["device"]),
        "dtype": arguments["dtype"],
    }
    terms = [*counts["terms"], {"term": UNATTRIBUTED, "seconds": counts["unattributed_s"], "macs": 0}]
    return [
        {
            **common,
            "term": term["term"],
            "seconds": term["seconds"],
            "time_share": term["seconds"] / counts["total_s"],
            "macs": term["macs"],
            "mac_share": term["macs"] / macs if macs else 0.0,
            # records of before have none
            **dict(zip(_QUARTILES, term.get("share_quartiles") or (), strict=False)),
        }
        for term in terms
    ]


_ROW_INCHES = 0.36
_NAMED_SHARE = 0.095
_BAR = 0.36
COLOURS = {
    "filter expansion": style.PURPLE,
    "convolution": style.BLUE,
    "generator": style.GREEN,
    "aggregation": style.ORANGE,
    "attention": style.VERMILION,
    "linear": "#35978F",
    "norm": style.SKY_BLUE,
    "activation": style.YELLOW,
    "pooling": "#8C510A",
    "other": "#6E6E6E",
    "unattributed": style.LIGHT_GREY,
}
"""Every term that a profiled pass can have."""
_QUARTILES = ("time_share_q1", "time_share_q3")
_SHARES = {"mac_share": "MACs", "time_share": "time"}


def share_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> style.Plot:
    """Two stacked bars per profiled pass: the MACs of a forward pass above, the time of the pass below.

    Args:
        name: of the files.
        rows: with the keys of ``share_rows``.

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
    figure = style.new_figure(0.5 + _ROW_INCHES * len(passes))
    axes = figure.subplots()
    for place, found in enumerate(passes.values()):
        for side, share in zip((-1, 1), _SHARES, strict=True):
            y = place + side * 0.52 * _BAR
            percents = {row["term"]: 100 * row[share] for row in found}
            style.stacked_shares(axes, y, percents, COLOURS, height=_BAR, named=100 * _NAMED_SHARE)
            if share == "time_share":
                _spreads(axes, y, found)
            axes.text(101.5, y, _SHARES[share], va="center")
    style.named_rows(axes, list(passes), 0.45)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share in %")
    present = {row["term"] for row in rows if row["mac_share"] or row["time_share"]}
    handles = [Patch(color=colour, label=term) for term, colour in COLOURS.items() if term in present]
    first = rows[0]
    where = f"{first['device']}, {first['dtype']}" if _devices(rows) == 1 else str(first["dtype"])
    remarks = [
        f"MACs of a forward pass, time of the pass named at the left ({where}), under a profiler, which slows small "
        "operators down. Unattributed: between operators."
    ]
    spread = any(_QUARTILES[0] in row for row in rows)
    remarks[0] += " Lines: a share's quartiles over the passes." if spread else " The records hold no spread."
    style.finish(figure, "Shares by named term", "of MACs and of time", handles, remarks)
    keys = dict.fromkeys(key for row in rows for key in row)
    return style.Plot(name, figure, [{key: row.get(key) for key in keys} for row in rows])


def _spreads(axes: Any, place: float, rows: Sequence[Mapping[str, Any]]) -> None:
    """At the end of each term's part the quartiles of its share, as far as they are known."""
    by_term = {row["term"]: row for row in rows}
    edge = 0.0
    for term in COLOURS:
        row = by_term.get(term)
        start, edge = edge, edge + (100 * row["time_share"] if row else 0.0)
        if row and row.get(_QUARTILES[0]) is not None:
            ends = [start + 100 * row[name] for name in _QUARTILES]
            axes.plot(ends, [place, place], color=style.BLACK, linewidth=0.8, solid_capstyle="butt")


def _devices(rows: Sequence[Mapping[str, Any]]) -> int:
    return len({row["device"] for row in rows})


FIGURE = Figure(
    "share",
    "share of time against share of MACs per named term, from records",
    share_rows,
    share_plot,
    place=6,
    records=KIND,
    takes_settings=False,
)
