"""GPU memory of published networks, measured on a device and committed under ``reports/gpu/<device>/``."""

from __future__ import annotations

from pathlib import Path

from e4profile.records.store import RecordStore

KIND = "gpu_memory"
FILE = "memory.jsonl"


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
