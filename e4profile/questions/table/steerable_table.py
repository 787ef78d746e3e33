"""What the steerable networks cost apart, as a table and as lines for programs."""

from __future__ import annotations

from typing import Any

from e4profile.questions.table.rows import built_object
from e4profile.questions.table.steerable_rows import QUANTITIES, SHARE_BATCH, steerable_rows
from e4profile.show.tables import Column, Table


def steerable_table() -> Table:
    """Inference, filter expansion in training, filters kept in evaluation."""
    columns = (
        Column("model", "model", "text", priority=100),
        Column("group", "group", "text", priority=50),
        Column("width", "width", "integer", priority=50),
        Column("params", "params", "integer", priority=80),
        Column("inference_macs", "inference MACs", "integer", priority=95),
        Column("expansion_macs", "expansion MACs", "integer", priority=90),
        Column("expansion_share", "expansion share %", "percent", priority=70),
        Column("expansion_reference_macs", "expansion MACs, reference library", "integer", "expansion ref.", 60),
        Column("expansion_reference_share", "share %, reference library", "percent", "share ref. %", 40),
        Column("dense_filter_bytes", "dense filters", "bytes", priority=85),
    )
    return Table(
        "Steerable ResNets: inference, filter expansion in training, filters kept in evaluation",
        columns,
        tuple(steerable_rows()),
        (
            "expansion runs once per training forward, whatever the batch, and not at inference",
            f"shares: of a training forward of {SHARE_BATCH} images, the expansion included",
            "reference library: one dense contraction per field pair, a factor of the group order more",
        ),
        convention="macs, one image",
    )


def steerable_objects() -> list[dict[str, Any]]:
    """The same figures as built figures that nobody published: one line each, for programs."""
    return [
        built_object(row["model"], row["model"], quantity, meaning, row[quantity])
        for row in steerable_rows()
        for quantity, meaning in QUANTITIES.items()
    ]
