"""What the steerable networks cost apart: inference, filter expansion in training, filters kept in evaluation."""

from __future__ import annotations

from typing import Any

from e4profile.conventions import EXPANSION, EXPANSION_REFERENCE
from e4profile.networks.cards import Card, built_in_cards
from e4profile.questions.columns import table_of_rows
from e4profile.questions.published.rows import IRREP_MACS, built_object, irrep_macs
from e4profile.show.tables import Column, Table
from e4profile.subjects.subject import of_card

SHARE_BATCH = 32
"""Images of the training forward in which the share of the expansion is stated."""

QUANTITIES = {
    "inference_macs": "macs",
    "irrep_macs": "macs, group convolutions in the irrep basis",
    "expansion_macs": "macs per training forward, whatever the batch, as executed here",
    "expansion_reference_macs": "macs per training forward, one contraction per field pair, as the reference library",
    "dense_filter_bytes": "bytes of float32 filters kept in evaluation mode",
}
"""The built figures and how each is counted."""


def steerable_rows() -> list[dict[str, Any]]:
    """One row per published steerable network, in the order of the published table."""
    found = [
        (row.order, card) for card in built_in_cards().values() for row in card.published if row.table == "steerable"
    ]
    return [_row(card) for _, card in sorted(found, key=lambda pair: (pair[0], pair[1].name))]


def _row(card: Card) -> dict[str, Any]:
    from e4profile.layers.steerable import dense_filter_bytes, expansion_share
    from e4profile.witnesses.counts.closed_form import count_closed_form

    subject = of_card(card)
    model = subject.build("meta")
    count = count_closed_form(model, card.input_shape())
    batch = count_closed_form(model, card.input_shape(SHARE_BATCH))
    return {
        "model": card.name,
        "group": card.arguments["group"],
        "width": card.arguments["width"],
        "params": count.params,
        "inference_macs": count.macs,
        IRREP_MACS.key: irrep_macs(subject, count.macs),
        "expansion_macs": count.operations.get(EXPANSION, 0),
        "expansion_share": 100 * expansion_share(batch.operations),
        "expansion_reference_macs": count.operations.get(EXPANSION_REFERENCE, 0),
        "expansion_reference_share": 100 * expansion_share(batch.operations, EXPANSION_REFERENCE),
        "dense_filter_bytes": dense_filter_bytes(model),
    }


def steerable_table() -> Table:
    """Inference, filter expansion in training, filters kept in evaluation."""
    columns = (
        IRREP_MACS,
        Column("expansion_macs", "expansion MACs", "integer", priority=90),
        Column("expansion_share", "expansion share %", "percent", priority=70),
        Column("expansion_reference_macs", "expansion MACs, reference library", "integer", "expansion ref.", 60),
        Column("expansion_reference_share", "share %, reference library", "percent", "share ref. %", 40),
        Column("dense_filter_bytes", "dense filters", "bytes", priority=85),
    )
    return table_of_rows(
        "Steerable ResNets: inference, filter expansion in training, filters kept in evaluation",
        steerable_rows(),
        (
            "expansion runs once per training forward, whatever the batch, and not at inference",
            f"shares: of a training forward of {SHARE_BATCH} images, the expansion included",
            "reference library: one dense contraction per field pair, a factor of the group order more",
        ),
        "macs, one image",
        columns=columns,
        priorities={"group": 50, "width": 50},
    )


def steerable_objects() -> list[dict[str, Any]]:
    """The same figures as built figures without a published one: one line each, for programs."""
    return [
        built_object(row["model"], row["model"], quantity, meaning, row[quantity])
        for row in steerable_rows()
        for quantity, meaning in QUANTITIES.items()
        if row[quantity] is not None
    ]
