"""Measure the published GPU-memory column on this machine's CUDA device, then peaks beside predictions.

python benchmarks/gpu_memory.py [--out reports/gpu] [--peaks peaks.json] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import torch

from e4profile.networks.cards import GPU_MEMORY, Card, all_cards
from e4profile.records.gpu_records import FILE, KIND
from e4profile.records.store import Record, RecordStore
from e4profile.subjects.stand_ins import Kernels
from e4profile.witnesses.environment import environment
from e4profile.witnesses.memory.peak import allocator_emulation, allocator_peak

BATCH_SIZE = 2
"""The batch at which the publication measured."""


def measure_gpu_memory(card: Card) -> Record:
    """One card as the publication measured it: forward and backward at batch 2."""
    peak = allocator_peak(card.build("cpu"), card.input, batch_size=BATCH_SIZE)
    return Record(
        kind=KIND,
        card=card.name,
        arguments=dict(card.arguments),
        counts={"peak_bytes": peak.peak_bytes, "batch_size": BATCH_SIZE},
        counters={"allocator": str(environment()["torch"])},
        environment=dict(environment()),
    )


# networks and batches whose peak is predicted without the device, then measured on it
PEAKS = (("e4net", 128), ("e4net-large", 128), ("p4-r18", 32), ("p4-e4r18", 32), ("p4m-r18", 32), ("p4m-e4r18", 32))
DRY_RUN = (("z2cnn", 2),)


def peak_beside_prediction(name: str, batch_size: int, device: str) -> dict[str, object]:
    """Peak bytes of forward and backward: emulated without the device for its kernels, and measured on it.

    On a CPU, which has no allocator that counts, the live storages of a real run stand for the measurement.
    """
    card = all_cards()[name]
    kernels: Kernels = "cuda" if device == "cuda" else "cpu"
    predicted = allocator_emulation(card.build("meta"), card.input, batch_size=batch_size, kernels=kernels)
    measure = allocator_peak if device == "cuda" else allocator_emulation
    measured = measure(card.build("cpu"), card.input, batch_size=batch_size, device=device)
    return {
        "card": name,
        "batch_size": batch_size,
        "predicted_peak_bytes": predicted.peak_bytes,
        "measured_peak_bytes": measured.peak_bytes,
        "method": measured.method,
        "notes": list(predicted.notes),
    }


def record_published(folder: Path) -> None:
    """One record per card with a published GPU-memory cell."""
    store = RecordStore(folder / re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()) / FILE)
    for card in all_cards().values():
        if any(cell.quantity == GPU_MEMORY for row in card.published for cell in row.cells):
            record = measure_gpu_memory(card)
            store.append(record)
            print(card.name, record.counts["peak_bytes"], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("reports/gpu"))
    parser.add_argument("--device", default="cuda", help="cpu: a dry run, which records no published cell")
    parser.add_argument("--peaks", type=Path, help="also compare predicted and measured peaks, written to this file")
    asked = parser.parse_args()
    if asked.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("no CUDA device here")
        record_published(asked.out)
    rows = []
    for name, batch_size in (PEAKS if asked.device == "cuda" else DRY_RUN) if asked.peaks else ():
        rows.append(peak_beside_prediction(name, batch_size, asked.device))
        print(json.dumps(rows[-1]), flush=True)
        document = {"environment": dict(environment()), "rows": rows}
        asked.peaks.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
