"""The script that profiles other people's networks: what it asks, and what it says of a fault, on small stand-ins."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from e4profile.subjects.inputs import Example

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("strangers", ROOT / "scripts" / "strangers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["strangers"] = module
    spec.loader.exec_module(module)
    return module


class Attending(nn.Module):
    """Two layers around attention, and one product that PyTorch's counter has no formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.extra = nn.Linear(8, 8), nn.Linear(8, 3), nn.Linear(3, 3)
        self.seen: list[int] = []

    def forward(self, words: Tensor) -> Tensor:
        self.seen.append(len(words))
        mixed = self.first(words)
        out: Tensor = self.extra(self.last(nn.functional.scaled_dot_product_attention(mixed, mixed, mixed)))
        return torch.mv(out[0], out[0, 0]).sum() * out


def stranger(script: ModuleType, build: Any = Attending, **more: Any) -> Any:
    return script.Stranger("one", build, lambda _: Example((torch.rand(2, 5, 8),)), **more)


def test_a_network_is_asked_everything(script: ModuleType) -> None:
    row = script.examine(stranger(script, saved=True))
    attention = 2 * 2 * 5 * 5 * 8
    assert row["macs"] - row["macs_said"] == 5 * 3
    assert row["macs_said"] == 2 * 5 * (8 * 8 + 8 * 3 + 3 * 3) + attention
    assert row["verdict"] == "named: aten::mv +15"
    assert row["as_found"] == "yes"
    assert row["saved_bytes"] == row["saved_bytes_hooks"] > 0


def test_a_network_is_counted_on_the_meta_device(script: ModuleType) -> None:
    row = script.examine(stranger(script, on_meta=True, briefly=True))
    assert (row["device"], row["verdict"], "macs_said" in row) == ("meta", "counted", False)


@pytest.mark.parametrize(("params", "billions", "said"), [(1, "0.0", "parameters"), (111, "2.5", "10^9 MACs 0.000")])
def test_metadata_that_says_otherwise_is_a_difference(
    script: ModuleType, params: int, billions: str, said: str
) -> None:
    assert script.examine(stranger(script, said=(params, billions)))["verdict"] == f"DIFFERS: {said}"


def test_a_fingerprint_sees_every_change(script: ModuleType) -> None:
    model = Attending()
    before = script.fingerprint(model)
    assert script.fingerprint(model) == before
    changes = (
        lambda: model.seen.append(1), model.last.eval, model.first.weight.data.view(-1)[3:4].neg_,
        lambda: model.extra.register_forward_hook(lambda *_: None), lambda: torch.rand(1),
        lambda: setattr(model.last, "bias", nn.Parameter(model.last.bias.detach().clone())),
        lambda: model.first.weight.requires_grad_(False),
    )  # fmt: skip
    for change in changes:
        change()
        assert script.fingerprint(model) != before
        before = script.fingerprint(model)


def test_a_change_is_named(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(model: Any, *_: Any, **__: Any) -> Any:
        model.seen.append(0)
        raise RuntimeError

    monkeypatch.setattr(script, "saved_for_backward", careless)
    row = script.examine(stranger(script))
    assert row["as_found"] == "CHANGED by failing saved bytes"


def test_a_run_goes_on_and_its_tables_are_the_same_bytes(script: ModuleType, tmp_path: Path) -> None:
    def broken() -> nn.Module:
        raise RuntimeError("no such layer")

    asked = [stranger(script), script.Stranger("broken", broken, lambda _: Example(()))]
    cache = tmp_path / "rows.jsonl"
    rows = script.run("timm", asked, cache)
    assert rows["broken"]["verdict"] == "FAILED: RuntimeError: no such layer"
    with cache.open("a") as lines:
        lines.write('{"name": "cut')
    # what is done comes from the cache, what failed is tried again
    assert set(script.read(cache)) == {"one"}
    script.write(tmp_path / "a.csv", script.COLUMNS, rows.values())
    script.write(tmp_path / "b.csv", script.COLUMNS, reversed(rows.values()))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    found = script.summary("timm", 9, rows.values())
    assert (found["listed"], found["run"], found["named"], found["failed"], found["as_found"]) == (9, 2, 1, 1, 1)


def test_a_known_difference_is_known_by_its_words(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    known = (("timm", "resnet*", "parameters", "it folds them"),)
    monkeypatch.setattr(script, "KNOWN_DIFFERENCES", known)
    rows = [{"name": "resnet1", "verdict": f"DIFFERS: {said}"} for said in ("parameters", "parameters; 10^9 MACs 2")]
    for row in rows:
        script.name_known("timm", row)
    assert [row["verdict"] for row in rows] == ["known: parameters (it folds them)", "DIFFERS: parameters; 10^9 MACs 2"]


def test_the_environment_has_a_torchvision_for_its_torch() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "scripts" / "strangers.txt").read_text().splitlines() if "==" in line
    )
    # its operators are compiled for one release of torch: 0.15 came with 2.0
    assert int(pins["torchvision"].split(".")[1]) - int(pins["torch"].split(".")[1]) == 15


def test_the_committed_summary_is_that_of_the_committed_rows(script: ModuleType) -> None:
    with (script.OUT / "summary.csv").open(encoding="utf-8", newline="") as lines:
        summaries = list(csv.DictReader(lines))
    assert {row["library"] for row in summaries} <= set(script.LIBRARIES)
    for row in summaries:
        with (script.OUT / f"{row['library']}.csv").open(encoding="utf-8", newline="") as lines:
            rows = [{key: value or None for key, value in one.items()} for one in csv.DictReader(lines)]
        assert row.pop("made_with")
        again = script.summary(row["library"], int(row["listed"]), rows)
        assert {key: str(value) for key, value in again.items()} == row
