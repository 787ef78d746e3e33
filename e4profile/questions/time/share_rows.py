"""Where the time goes against where the MACs go, from records of profiled passes; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.records.store import Record

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
                {"term": one.term, "seconds": one.seconds, "macs": one.macs} for one in found.terms
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
    latest = {record.key: record for record in records if record.kind == KIND}
    return [row for record in latest.values() for row in _rows(record)]


def _rows(record: Record) -> list[dict[str, Any]]:
    try:
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
            }
            for term in terms
        ]
    except KeyError as error:
        raise SettingError(f"the breakdown of {record.card!r} lacks {error}") from error
