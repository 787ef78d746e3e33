"""GPU memory of published networks, measured on a device and committed under ``reports/gpu/<device>/``."""

from __future__ import annotations

from pathlib import Path

from e4profile.networks.cards import GPU_MEMORY, Card
from e4profile.records.store import Record, RecordStore

KIND = "gpu_memory"
FILE = "memory.jsonl"
BATCH_SIZE = 2
"""The batch at which the publication measured."""


def recorded_gpu_memory(folder: Path | None = None) -> dict[str, list[tuple[str, int]]]:
    """(device, peak bytes) of every card that some record has, devices sorted; of several on a device the last.

    Args:
        folder: of device folders; ``reports/gpu`` beside the package by default, which an installed package does
            not have: then there are no records.
    """
    folder = folder or Path(__file__).resolve().parents[2] / "reports" / "gpu"
    found: dict[str, dict[str, int]] = {}
    for file in sorted(folder.glob(f"*/{FILE}")):
        for record in RecordStore(file).load():
            if record.kind == KIND:
                device = str(record.environment["device"])
                found.setdefault(record.card, {})[device] = int(record.counts["peak_bytes"])
    return {card: list(peaks.items()) for card, peaks in found.items()}


def measure_gpu_memory(card: Card) -> Record:
    """Measure one card on the CUDA device as the publication did: forward and backward at batch 2.

    Raises:
        SettingError: without a CUDA device.
    """
    from e4profile.witnesses.environment import environment
    from e4profile.witnesses.memory.peak import allocator_peak

    peak = allocator_peak(card.build("cpu"), card.input, batch_size=BATCH_SIZE)
    return Record(
        kind=KIND,
        card=card.name,
        arguments=dict(card.arguments),
        counts={"peak_bytes": peak.peak_bytes, "batch_size": BATCH_SIZE},
        counters={"allocator": str(environment()["torch"])},
        environment=dict(environment()),
    )


def cards_with_gpu_memory() -> list[Card]:
    """Every card with a published GPU memory."""
    from e4profile.networks.cards import all_cards

    return [
        card
        for card in all_cards().values()
        if any(cell.quantity == GPU_MEMORY for row in card.published for cell in row.cells)
    ]
