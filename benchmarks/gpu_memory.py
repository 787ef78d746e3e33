"""Measure the published GPU-memory column on this machine's CUDA device.

python benchmarks/gpu_memory.py [--out reports/gpu]
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

from e4profile.records.gpu_records import FILE, cards_with_gpu_memory, measure_gpu_memory
from e4profile.records.store import RecordStore


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("reports/gpu"))
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here")
    device = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower())
    store = RecordStore(out / device / FILE)
    for card in cards_with_gpu_memory():
        record = measure_gpu_memory(card)
        store.append(record)
        print(card.name, record.counts["peak_bytes"])


if __name__ == "__main__":
    main()
