"""The share of the measured peak that a pass uses, and images per second: MACs, time and peak each by their witness."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from program import Run, says
from torch import nn

from e4profile.questions.time.table import time_table
from e4profile.questions.time.utilisation import pass_macs
from e4profile.records.times import from_record, to_record
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.training_step import count_training_step
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.samples import Samples, TimeRecord

SECONDS = Samples((0.002,) * 20, 0, 0.002, 6, True, "noise target", "")


def record(**changes: Any) -> TimeRecord:
    """A pass of 3 MMACs in 2 ms, four images at a time."""
    made = TimeRecord(
        "net", "step", "train", "mean", "cpu", "float32", (4, 1, 8, 8), False, False, 1, "clock", SECONDS, {},
        macs=3_000_000, peak_macs_per_s=6e9,
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize("pass_", ["forward", "backward", "step"])
def test_the_macs_are_those_that_run(pass_: str) -> None:
    card = resolve("p4cnn(width=2)")
    counted = count_training_step(card.build("cpu"), card.batched, 3)
    runs = {"forward": counted.forward, "backward": counted.backward, "step": counted.forward + counted.backward}
    assert pass_macs(card, PassSetting(pass_, batch_size=3)) == runs[pass_]
    # without a closed form, from what runs
    in_hand = resolve(Plain(), example=torch.zeros(3, 2, 4, 4))
    plain = 3 * 2 * 5 * 9 * 4
    of_plain = {"forward": plain, "backward": plain, "step": 2 * plain}
    assert pass_macs(in_hand, PassSetting(pass_, batch_size=3)) == of_plain[pass_]


class Plain(nn.Module):
    """One convolution in a forward that no closed form follows; its input needs no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.convolution(images).relu() * 2
        return found


def test_a_share_is_of_what_was_measured_and_kept() -> None:
    made = record()
    assert made.mfu == pytest.approx(3e6 / 2e-3 / 6e9)
    assert made.images_per_s == pytest.approx(2000)
    assert from_record(to_record(made)) == made
    early = to_record(record(macs=None, peak_macs_per_s=None))
    assert not {"macs", "peak_macs_per_s"} & set(early.counts)
    assert from_record(early).mfu is None
    assert record(input_shape=(1,)).images_per_s is None
    (row,) = time_table([made]).rows
    assert (row["images_per_s"], row["mfu_percent"]) == (pytest.approx(2000), pytest.approx(25))
    assert any("6.000 GMACs/s" in text and "matrix product" in text for text in time_table([made]).notes)
    assert any("above 100%" in text for text in time_table([record(macs=30_000_000)]).notes)


def test_both_commands_state_it(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("e4profile.witnesses.timing.peaks.PRODUCT_SIZE", {"cpu": 8})
    monkeypatch.setattr("e4profile.witnesses.timing.peaks.COPY_BYTES", {"cpu": 1024})
    asked = ("z2cnn(width=2)", "--batch-size", "2", "--max-run-time-s", "0.02", "-f", "csv")
    for more in ([], ["--roofline"]):
        found = run("time", *asked, *more)
        assert found.code == 0
        *_, last = csv.DictReader(io.StringIO(found.out))
        assert float(last["mfu_percent"]) > 0
        median_s = float(last["measured_s" if more else "median_s"])
        assert float(last["images_per_s"]) == pytest.approx(2 / median_s)


def test_a_lower_bound_is_no_share(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Net(nn.Module):\n    def forward(self, x):\n        return torch.linalg.matrix_exp(x)\n"
    )
    found = run("time", "net.py:Net", "--input", "2x3x8x8", "--max-run-time-s", "0.02", "-f", "csv")
    (row,) = csv.DictReader(io.StringIO(found.out))
    assert (found.code, row["mfu_percent"]) == (0, "")
    assert says(found.err, "MFU is not stated", "operators without a cost")
