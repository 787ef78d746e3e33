"""What stock counters see of networks, as a share of the MACs that run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e4profile.networks.cards import Card, all_cards
from e4profile.questions.plot.registry import drawn_name
from e4profile.subjects.subject import Subject
from e4profile.witnesses.counts.measure import measure

STOCK = ("fvcore", "thop")
_BESIDES = ("e4net", "e4net-large")


def default_models() -> tuple[str, ...]:
    """The networks of Table 4 of He et al. 2021 in its order, then both E4-Nets as released."""
    table = [(row.order, card.name) for card in all_cards().values() for row in card.published if row.table == "4"]
    return (*(name for _, name in sorted(table)), *_BESIDES)


def counter_rows(networks: Sequence[Subject]) -> list[dict[str, Any]]:
    """One row per network and stock counter, for one image; the counters run the real networks.

    A model of one's own is called with its own inputs.

    ``macs`` run, by the dispatch counter. ``reported`` is the counter's own figure, of which ``besides`` is charged
    for what is no MAC (norms, pooling) and ``seen`` is the rest. ``reported_share`` and ``seen_share`` are of
    ``macs``. A counter without an answer has None and its ``failure``.
    """
    rows = []
    for network in networks:
        chosen = ("dispatch", *STOCK)
        found = measure(network, chosen) if isinstance(network, Card) else network.measure(chosen)
        for counter in STOCK:
            row: dict[str, Any] = {
                "model": drawn_name(network), "counter": counter, "macs": found.dispatch.macs, "reported": None,
                "besides": None, "seen": None, "reported_share": None, "seen_share": None,
                "failure": found.failures.get(counter),
            }  # fmt: skip
            if counter in found.gaps and found.dispatch.macs:
                gap = found.gaps[counter]
                besides = sum(cause.amount for cause in gap.causes if cause.amount > 0)
                seen = gap.reported - besides
                row |= {
                    "reported": gap.reported,
                    "besides": besides,
                    "seen": seen,
                    "reported_share": gap.reported / gap.truth,
                    "seen_share": seen / gap.truth,
                }
            rows.append(row)
    return rows
