from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import e4profile
from e4profile import SettingError, UnknownNameError, check, count, sweep
from e4profile.questions.sweep.sweeps import COLUMNS


def test_count_a_card() -> None:
    frame = count("e4net", width=8, slices=2)
    assert {"path", "layer", "params", "closed_form", "dispatch", "fvcore", "thop", "agrees"} <= set(frame.columns)
    assert frame["agrees"].all()
    assert frame.attrs["totals"]["dispatch"]["params"] == frame["params"].sum()
    assert frame.attrs["totals"]["dispatch"]["macs"] == frame["dispatch"].sum() == frame["closed_form"].sum()
    assert frame.attrs["unknown"] == {}
    assert all(gap["unexplained"] == 0 for gap in frame.attrs["gaps"].values())


def test_conventions_and_batches() -> None:
    exact = ("closed-form", "dispatch")
    macs = count("e4net", counters=exact)
    assert count("e4net", counters=exact, convention="flops")["dispatch"].sum() == 2 * macs["dispatch"].sum()
    assert count("e4net", counters=exact, batch_size=3)["dispatch"].sum() == 3 * macs["dispatch"].sum()


def test_count_any_module_and_leave_it_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).train()
    frame = count(model, (3, 8, 8))
    assert frame.attrs["totals"]["dispatch"]["macs"] == 4 * 27 * 36 + 2 * 144
    assert model.training
    with pytest.raises(SettingError, match="needs its inputs"):
        count(model)
    with pytest.raises(SettingError, match="width"):
        count(model, (3, 8, 8), width=3)
    with pytest.raises(RuntimeError):
        count(model, (3, 9, 9), counters=("dispatch",))
    assert all(p.device.type == "cpu" for p in model.parameters())


def test_a_shape_is_given_with_its_batch_and_the_title_says_it() -> None:
    exact = ("dispatch",)
    tokens = count(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), (2, 10, 8), counters=exact)
    one = count(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), (1, 10, 8), counters=exact)
    assert tokens.attrs["totals"]["dispatch"]["macs"] == 2 * one.attrs["totals"]["dispatch"]["macs"]
    assert tokens.attrs["title"] == "TransformerEncoderLayer on (2, 10, 8)"
    maps = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    image = count(maps, (3, 8, 8), counters=exact)
    assert image.attrs["title"] == "Sequential on (1, 3, 8, 8)"
    assert "(3, 8, 8) is read as one image: the network does not run on an input of three sizes" in image.attrs["notes"]
    three = count(maps, (3, 8, 8), counters=exact, batch_size=3)
    assert three.attrs["title"] == "Sequential on (3, 3, 8, 8)"
    assert count(maps, (3, 3, 8, 8), counters=exact).equals(three)


@pytest.mark.parametrize("change", [{"counters": ("dispach",)}, {"convention": "mac"}, {"widht": 3}])
def test_unknown_names(change: dict) -> None:
    with pytest.raises(UnknownNameError):
        count("e4net", **change)


def test_sweep_gives_the_columns_of_the_command(tmp_path: Path) -> None:
    frame = sweep("e4net", group="p4", reduction=[1, 3], slices=[1], kernel=[3], width=[4], out=tmp_path)
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["model"]) == ["e4net-gcnn", "e4net"]
    assert frame["macs_measured"].dtype == "int64"
    assert pd.isna(frame["reduction"][0])
    assert frame["macs_ratio"][0] == 1.0
    assert frame.attrs["skipped"][0][1] == "reduction (=3) must divide c_in (=4): 1, 2, 4"
    again = sweep("e4net", group="p4", reduction=[1, 3], slices=[1], kernel=[3], width=[4], out=tmp_path)
    pd.testing.assert_frame_equal(frame, again)
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 2


def test_sweep_without_a_folder_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep("r18", width=[2])
    assert list(tmp_path.iterdir()) == []


def test_check() -> None:
    frame = check("e4net", random=2)
    assert frame["agrees"].all()
    assert len(frame) == 3
    assert frame.attrs["problems"] == []


def test_the_front_door() -> None:
    assert {"count", "sweep", "check"} <= set(e4profile.__all__)
    assert torch.is_grad_enabled()


class _Partly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.known, self.weight = nn.Linear(4, 3), nn.Parameter(torch.zeros(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.known(x) + x @ self.weight + torch.linalg.matrix_exp(x.new_zeros(1, 1))


def test_totals_say_what_they_leave_out() -> None:
    frame = count(_Partly(), (1, 4), counters=["dispatch"])
    coverage = "partial: 75% of the MACs, 79% of the parameters"
    assert frame.attrs["totals"] == {
        "closed_form": {"params": 15, "macs": 12, "coverage": coverage},
        "dispatch": {"params": 19, "macs": 16, "at_least": True},
    }
    assert frame.attrs["coverage"] == coverage


@pytest.mark.parametrize("network", [nn.Identity(), nn.Sequential(nn.ReLU()), nn.MaxPool2d(2)])
def test_a_network_without_parameters_and_macs_has_totals_of_nothing(network: nn.Module) -> None:
    totals = count(network, (1, 3, 4, 4)).attrs["totals"]
    assert set(totals) >= {"closed_form", "dispatch", "thop"}
    assert all((one["params"], one["macs"]) == (0, 0) for one in totals.values())


def test_notes_of_one_kind_are_one() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.layers = nn.Linear(3, 3), nn.ModuleList(nn.Linear(3, 3) for _ in range(20))

        def forward(self, x: Tensor) -> Tensor:
            x = self.seen(x)
            for layer in self.layers:
                x = layer(input=x)
            return x

    notes = [note for note in count(Keywords(), (2, 3), counters=["dispatch"]).attrs["notes"] if "not a tensor" in note]
    shown = ", ".join(f"layers.{i}" for i in range(5))
    assert notes == [f"no closed form: {shown}, and 15 more: Linear: its first input is not a tensor of one shape"]
