"""Committed GPU measurements are found, belong to a device, and stand beside the emulation with their label."""

from __future__ import annotations

from e4profile.questions.published import rows as published_tables
from e4profile.records import gpu_records
from e4profile.records.store import Record, RecordStore
from e4profile.subjects.subject import resolve


def record(card: str, peak_bytes: int, device: str, kind: str = "gpu_memory") -> Record:
    return Record(
        kind=kind, card=card, arguments={}, counts={"peak_bytes": peak_bytes, "batch_size": 2},
        counters={"allocator": "2"}, environment={"device": device},
    )  # fmt: skip


def test_the_last_record_of_a_card_on_a_device_counts(tmp_path):
    for folder, device, peak in (("b", "Device B", 7), ("a", "Device A", 5)):
        RecordStore(tmp_path / folder / "memory.jsonl").append(record("z2cnn", peak, device))
    RecordStore(tmp_path / "a" / "memory.jsonl").append(record("z2cnn", 9, "Device A", kind="sweep"))
    RecordStore(tmp_path / "b" / "memory.jsonl").append(record("z2cnn", 8, "Device B"))
    assert gpu_records.recorded_gpu_memory(tmp_path) == {"z2cnn": [("Device A", 5), ("Device B", 8)]}
    assert gpu_records.recorded_gpu_memory(tmp_path / "none") == {}


def test_a_measured_value_stands_beside_the_emulated_one(monkeypatch):
    measured = round(0.84 * 2**20)
    monkeypatch.setattr(gpu_records, "recorded_gpu_memory", lambda: {"z2cnn": [("A GPU", measured)]})
    network = resolve("z2cnn")
    cells = [
        cell for cell in published_tables.build_row(network, network.published[0]) if cell.cell.quantity == "gpu_memory"
    ]
    emulated, on_gpu = published_tables.table_rows(cells)
    assert emulated["convention"] == published_tables.MEMORY_CONVENTION
    assert emulated["verdict"] == "unresolved"
    assert on_gpu["convention"] == "peak bytes at batch 2, measured on A GPU"
    assert (on_gpu["built"], on_gpu["verdict"]) == (measured, "measured")
