from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e4profile.errors import SettingError
from e4profile.questions.guard.checks import layer_changes, setting_changes
from e4profile.records.baseline import Baseline, LayerCosts, ModelCosts, read_baseline, write_baseline


def model(**layers: LayerCosts) -> ModelCosts:
    costs = {name: sum(one.costs[name] for one in layers.values()) for name in ("params", "macs")}
    return ModelCosts("net.py:build", "1x3x8x8", {"width": 4}, costs, layers)


def layer(params: int, macs: int, name: str = "Conv2d", **more: int) -> LayerCosts:
    return LayerCosts(name, {"params": params, "macs": macs, **more})


COMMITTED = Baseline("2.13.0", {"net": model(z=layer(10, 10**30), a=layer(5, 6)), "e4": model(b=layer(1, 2))})


def test_a_baseline_comes_back_exactly(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    write_baseline(file, COMMITTED)
    assert read_baseline(file) == COMMITTED
    assert [entry.name for entry in tmp_path.iterdir()] == ["counts.json"]


def test_the_text_is_sorted_and_has_one_number_per_line(tmp_path: Path) -> None:
    text = COMMITTED.to_text()
    data = json.loads(text)
    assert list(data) == sorted(data) == ["convention", "models", "schema", "torch"]
    assert list(data["models"]["net"]["layers"]) == ["a", "z"]
    assert text == replace(COMMITTED, models=dict(reversed(COMMITTED.models.items()))).to_text()
    moved = replace(COMMITTED, models={**COMMITTED.models, "e4": model(b=layer(1, 3))})
    changed = [pair for pair in zip(text.splitlines(), moved.to_text().splitlines(), strict=True) if len({*pair}) > 1]
    assert [pair[1].strip() for pair in changed] == ['"macs": 3,', '"macs": 3,']


def test_no_file_is_no_baseline(tmp_path: Path) -> None:
    assert read_baseline(tmp_path / "none.json") is None


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "counts.json"
    write_baseline(file, COMMITTED)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(SettingError, match="No space left"):
        write_baseline(file, Baseline("1"))
    monkeypatch.undo()
    assert read_baseline(file) == COMMITTED
    assert [entry.name for entry in tmp_path.iterdir()] == ["counts.json"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2}, "schema 2; this version of e4profile reads 1.*--update"),
        ({"schema": True}, "schema True"),
        ({"schema": None}, "schema None"),
        ({"convention": "flops"}, "convention 'flops', not 'macs'.*--update"),
        ({"torch": 2}, "damaged"),
        ({"models": []}, "damaged"),
        ({"models": {"net": {"params": 1}}}, "damaged"),
    ],
)
def test_another_schema_or_damage_is_said_with_the_remedy(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    file = tmp_path / "counts.json"
    file.write_text(json.dumps({**json.loads(COMMITTED.to_text()), **change}))
    with pytest.raises(SettingError, match=reason):
        read_baseline(file)


@pytest.mark.parametrize("text", ["", "<<<<<<< HEAD\n", "[]", "3"])
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "counts.json"
    file.write_text(text)
    with pytest.raises(SettingError, match="--update"):
        read_baseline(file)


def test_moved_layers_are_found_and_explained() -> None:
    before = model(
        same=layer(1, 1), grown=layer(10, 100), strided=layer(4, 400), bias=layer(9, 50),
        old=layer(7, 70), gone=layer(3, 30), typed=layer(2, 20),
    )  # fmt: skip
    after = model(
        same=layer(1, 1), grown=layer(20, 200), strided=layer(4, 100), bias=layer(8, 50),
        new=layer(7, 70), typed=layer(2, 21, "Linear"), fresh=layer(6, 60),
    )  # fmt: skip
    macs = {change.path: change for change in layer_changes(before, after, "macs")}
    assert [(c.before, c.after) for c in macs.values()] == [
        (400, 100), (100, 200), (0, 70), (70, 0), (0, 60), (30, 0), (20, 21),
    ]  # fmt: skip
    assert macs["strided"].why.startswith("x 1/4 at equal parameters")
    assert macs["grown"].why == "its parameters changed too"
    assert macs["old"].why == "gone: equal to new, a renamed layer"
    assert macs["new"].why == "new: equal to old, a renamed layer"
    assert (macs["gone"].why, macs["fresh"].why) == ("gone", "new")
    assert macs["typed"].why == "Conv2d became Linear"
    params = {change.path: change for change in layer_changes(before, after, "params")}
    assert params["bias"].why.startswith("at equal MACs")
    assert "typed" not in params
    assert "same" not in macs | params


def test_two_equal_layers_are_not_called_a_renaming() -> None:
    before, after = model(old=layer(7, 70)), model(one=layer(7, 70), two=layer(7, 70))
    assert {c.path: c.why for c in layer_changes(before, after, "macs")}["old"] == "gone"


def test_what_was_asked_differently_is_listed() -> None:
    before = model(a=layer(1, 1))
    after = replace(before, input="2x3x8x8", arguments={"width": 5, "bias": False})
    assert setting_changes(before, before) == []
    assert setting_changes(before, after) == ["input 1x3x8x8 -> 2x3x8x8", "bias unset -> False", "width 4 -> 5"]


def test_a_baseline_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("")
    with pytest.raises(SettingError, match=r"cannot write the baseline .*counts\.json"):
        write_baseline(tmp_path / "afile" / "counts.json", COMMITTED)
