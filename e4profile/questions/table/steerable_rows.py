"""What the steerable networks cost apart: inference, filter expansion in training, filters kept in evaluation."""

from __future__ import annotations

from typing import Any

from e4profile.conventions import EXPANSION, EXPANSION_REFERENCE
from e4profile.networks.cards import Card, all_cards

SHARE_BATCH = 32
"""Images of the training forward in which the share of the expansion is stated."""

QUANTITIES = {
    "inference_macs": "macs",
    "expansion_macs": "macs per training forward, whatever the batch, as executed here",
    "expansion_reference_macs": "macs per training forward, one contraction per field pair, as the reference library",
    "dense_filter_bytes": "bytes of float32 filters kept in evaluation mode",
}
"""The built figures and how each is counted."""


def steerable_rows() -> list[dict[str, Any]]:
    """One row per published steerable network, in the order of the published table."""
    found = [(row.order, card) for card in all_cards().values() for row in card.published if row.table == "steerable"]
    return [_row(card) for _, card in sorted(found, key=lambda pair: (pair[0], pair[1].name))]


def _row(card: Card) -> dict[str, Any]:
    from e4profile.layers.steerable import dense_filter_bytes, expansion_share
    from e4profile.witnesses.counts.closed_form import count_closed_form

    model = card.build("meta")
    count = count_closed_form(model, card.input_shape())
    batch = count_closed_form(model, card.input_shape(SHARE_BATCH))
    return {
        "model": card.name,
        "group": card.arguments["group"],
        "width": card.arguments["width"],
        "params": count.params,
        "inference_macs": count.macs,
        "expansion_macs": count.operations.get(EXPANSION, 0),
        "expansion_share": 100 * expansion_share(batch.operations),
        "expansion_reference_macs": count.operations.get(EXPANSION_REFERENCE, 0),
        "expansion_reference_share": 100 * expansion_share(batch.operations, EXPANSION_REFERENCE),
        "dense_filter_bytes": dense_filter_bytes(model),
    }
