"""Measure the published GPU-memory column on this machine's CUDA device.

python benchmarks/gpu_memory.py [--out reports/gpu]
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

from e4profile.networks.cards import GPU_MEMORY, Card, all_cards
from e4profile.records.gpu_records import FILE, KIND
from e4profile.records.store import Record, RecordStore
from e4profile.witnesses.environment import environment
from e4profile.witnesses.memory.peak import allocator_peak

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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("reports/gpu"))
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here")
    device = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower())
    store = RecordStore(out / device / FILE)
    for card in all_cards().values():
        if any(cell.quantity == GPU_MEMORY for row in card.published for cell in row.cells):
            record = measure_gpu_memory(card)
            store.append(record)
            print(card.name, record.counts["peak_bytes"])


if __name__ == "__main__":
    main()
