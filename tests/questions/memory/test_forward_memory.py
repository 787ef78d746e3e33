"""The memory of a forward pass: predicted without values, against the storages of passes that run for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from program import Run, says
from torch import Tensor, nn

from e4profile.layers import Chain, E4Conv2d, GroupConv2d, GroupMaxPool, LiftingConv2d, SteerableConv2d
from e4profile.subjects.subject import resolve
from e4profile.witnesses.memory.peak import LiveStorages, forward_emulation


class OneOutput(nn.Module):
    """The first output of a layer that gives several."""

    def __init__(self, layer: nn.Module, times: int = 1, **keywords: Any) -> None:
        super().__init__()
        self.layer, self.times, self.keywords = layer, times, keywords

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.layer(*[tokens] * self.times, **self.keywords)[0]
        return found


def layers() -> Chain:
    """Every kind of layer that keeps filters in evaluation: by banks, in irreps, on maps that are turned."""
    return Chain(
        lift=LiftingConv2d(1, 4, 3, group="p4", padding=1),
        bank=GroupConv2d(4, 4, 3, group="p4", padding=1),
        irreps=GroupConv2d(4, 4, 3, group="p4", padding=1, execution="irreps"),
        e4=E4Conv2d(4, 4, 3, group="p4"),
        wide=GroupConv2d(4, 64, 3, group="p4", padding=1),
        turned=GroupConv2d(64, 128, 3, group="p4", padding=1, bias=True),
        pool=GroupMaxPool(128, group="p4"),
    )


NETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "layers": (layers, (1, 4, 4)),
    "a card": (lambda: resolve("e4net").build("cpu"), (1, 28, 28)),
    "steerable": (lambda: SteerableConv2d(2, 2, 3, group="C8", padding=1), (16, 5, 5)),
    "norms": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(True)), (3, 9, 9)),
    "attention": (lambda: OneOutput(nn.MultiheadAttention(16, 2, batch_first=True), 3), (6, 16)),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (6, 16)),
    "recurrent": (lambda: OneOutput(nn.LSTM(16, 24, batch_first=True)), (6, 16)),
}


@pytest.mark.parametrize("name", NETS)
def test_the_prediction_is_what_passes_hold(name: str) -> None:
    build, image = NETS[name]
    model = build().eval()
    found = forward_emulation(model, torch.zeros(3, *image), batch_size=3)
    ran = forward_emulation(model, torch.zeros(3, *image), batch_size=3, device="cpu")
    assert (found.peak_bytes, found.kept_bytes) == (ran.peak_bytes, ran.kept_bytes)
    # a network of somebody's own, in somebody's own loop
    images = torch.zeros(3, *image)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), LiveStorages([*model.parameters(), *model.buffers(), images]) as live:
            for _ in range(3):
                model(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert (live.peak_bytes, live.live_bytes) == (found.peak_bytes, found.kept_bytes)


def test_kept_filters_are_those_of_the_layers() -> None:
    layer = GroupConv2d(8, 8, 3, group="p4", padding=1)
    weight_bytes = 8 * 8 * 4 * 9 * 4
    # on the CPU a copy of the weight tells whether it was written to
    for kernels, kept in (("cpu", 5), ("cuda", 4)):
        assert forward_emulation(layer, (32, 4, 4), kernels=kernels).kept_bytes == kept * weight_bytes
    assert layer._cached_filters is None


class Growing(nn.Module):
    """Keeps every output."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.kept.append(images + 1)
        return self.kept[-1]


def test_a_network_that_keeps_more_with_every_pass_is_told() -> None:
    found = forward_emulation(Growing(), (1, 16, 16), batch_size=1)
    assert found.kept_bytes == 2048
    assert "1,024 bytes more with every pass" in found.notes[0]


def test_the_command(run: Run) -> None:
    def rows(*more: str) -> list[dict[str, Any]]:
        found = run("memory", "p4cnn", "--pass", "forward", *more, "--format", "json")
        assert found.code == 0
        decoded: list[dict[str, Any]] = json.loads(found.out)
        return decoded

    (fits,) = rows("--fits", "3MB")
    assert fits["forward_bytes"] <= fits["budget_bytes"] == 3_000_000 < fits["next_forward_bytes"]
    here, above = rows("--batch-size", f"{fits['batch_size']},{fits['batch_size'] + 1}")
    assert (here["forward_bytes"], above["forward_bytes"]) == (fits["forward_bytes"], fits["next_forward_bytes"])
    known = here["parameter_bytes"] + here["buffer_bytes"] + here["input_bytes"] + here["forward_peak_bytes"]
    assert here["forward_bytes"] == known
    assert 0 < here["kept_bytes"] < here["forward_peak_bytes"]


@pytest.mark.parametrize(("what", "unit"), [("step", "MiB"), ("forward", "MB")])
def test_the_answer_is_in_the_unit_of_the_question(run: Run, what: str, unit: str) -> None:
    found = run("memory", "p4cnn", "--pass", what, "--fits", f"3{unit.lower()}")
    assert says(found.out, "p4cnn", f" 3.00 {unit}")
    assert found.out.count(f" {unit}") == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--pass", "forwards"), ("unknown pass 'forwards'", "did you mean forward")),
        (("--pass", "forward", "--layers"), ("--layers", "--pass forward")),
        (("--pass", "forward", "--optimiser", "adam"), ("--optimiser adam", "--pass forward")),
        (("--pass", "forward", "--loss", "sum"), ("--loss sum", "--pass forward")),
    ],
)
def test_what_a_forward_pass_has_not_is_refused(run: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    found = run("memory", "e4net", *arguments)
    assert found.code == 2
    assert found.err.count("\n") == 1
    assert says(found.err, *words)


def test_nothing_fits(run: Run) -> None:
    found = run("memory", "p4cnn", "--pass", "forward", "--fits", "50kB")
    assert (found.code, "no network runs on a single image in 50kB" in found.err) == (1, True)


def test_bytes_that_grow_faster_than_the_batch_are_said_to_do_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.py").write_text(
        "from torch import nn\n\n\nclass Pairs(nn.Linear):\n    def forward(self, x):\n"
        "        y = super().forward(x)\n        return (y @ y.T).exp()\n\n\nnet = Pairs(2, 2)\n"
    )
    rows = [json.loads(run("memory", "pairs.py:net", "--input", f"{b}x2", "-f", "json").out)[0] for b in (1, 8, 9)]
    one, eight, nine = (row["saved_measured_bytes"] for row in rows)
    assert nine - eight > eight / 8 > one
    assert says(
        run("memory", "pairs.py:net", "--input", "8x2").out, "image 9 adds more than the average of the first 8"
    )
