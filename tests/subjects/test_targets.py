"""Names that stand for models."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from own_nets import NET, write

import e4profile
from e4profile import SettingError, UnknownNameError
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import measure

EXACT = ("closed-form", "dispatch")


def test_builder_class_and_instance_are_the_same_network(net: str) -> None:
    for name, arguments in (("build", {"width": 4}), ("Net", {}), ("ready", {})):
        measured = measure(resolve(f"{net}:{name}", ["2x3x8x8"], arguments), EXACT)
        assert measured.dispatch.macs == 2 * (27 * 4 * 36 + 4 * 2)
        assert measured.dispatch.params == 27 * 4 + 4 + 4 * 2 + 2
        assert measured.agrees


def test_a_package_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownpackage").mkdir()
    write(tmp_path / "ownpackage", "", "__init__.py")
    write(tmp_path / "ownpackage", NET, "models.py")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    try:
        target = resolve("ownpackage.models:build", ["1x3x8x8"], {"width": 3})
        assert measure(target, EXACT).dispatch.params == 27 * 3 + 3 + 3 * 2 + 2
        assert sys.path == before
    finally:
        for name in ("ownpackage", "ownpackage.models"):
            sys.modules.pop(name, None)


def test_a_file_imports_its_neighbours_also_while_building(tmp_path: Path) -> None:
    write(tmp_path, "from torch import nn\nlayer = nn.Conv2d(3, 5, 1)\n", "neighbour_of_net.py")
    file = write(tmp_path, "def build():\n    from neighbour_of_net import layer\n    return layer\n")
    try:
        assert measure(resolve(f"{file}:build", ["1x3x4x4"]), EXACT).dispatch.macs == 15 * 16
    finally:
        sys.modules.pop("neighbour_of_net", None)


def test_a_file_does_not_take_the_name_of_a_module(tmp_path: Path) -> None:
    file = write(tmp_path, "from torch import nn\nmodel = nn.ReLU()\n", "random.py")
    resolve(f"{file}:model", ["1x3"]).build()
    assert sys.modules["random"] is random


def test_cards_and_card_files_resolve_too(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    text = 'name = "small"\nnetwork = "rot_mnist"\ninput = [1, 28, 28]\n[arguments]\ngroup = "p4"\nwidth = 2\n'
    file.write_text(text, encoding="utf-8")
    for name in ("e4net", str(file)):
        target = resolve(name, arguments={"width": 2, "slices": 1}, batch_size=3)
        assert target.costed_whole
        assert target.example().single_shape == (3, 1, 28, 28)
        assert target.input == (1, 28, 28)
        assert measure(target, EXACT).agrees
    assert resolve("e4net", ["2x1x33x33"]).example().single_shape == (2, 1, 33, 33)


def test_the_batch_replaces_every_leading_size(net: str) -> None:
    target = resolve(f"{net}:ready", ["image=1x3x8x8", "mask=1x1x6x6"], batch_size=4)
    assert [tuple(one.shape) for one in target.example().tensors] == [(4, 3, 8, 8), (4, 1, 6, 6)]
    with pytest.raises(SettingError, match="--batch-size"):
        resolve(f"{net}:ready", ["image=1x3x8x8", "mask=3x1x6x6"], batch_size=4)


def test_a_card_takes_float32_images() -> None:
    assert resolve("p4-cnn", ["1x1x28x28:float32"]).batch_size == 1
    with pytest.raises(SettingError, match=r"p4-cnn takes images of float32, not \(1x1x28x28:bool\)"):
        resolve("p4-cnn", ["1x1x28x28:bool"])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("build", {}, "needs width: give --set width=VALUE"),
        ("build", {"width": 2, "dept": 1}, "did you mean depth"),
        ("Net", {"height": 2}, "unknown argument"),
        ("ready", {"width": 2}, "takes no arguments"),
        ("reddy", {}, "did you mean ready"),
        ("number", {}, "int: neither"),
        ("makes_nothing", {}, "returned list"),
        ("raises", {}, "cannot build.*ValueError: no luck"),
    ],
)
def test_what_a_name_cannot_be(net: str, name: str, arguments: dict, message: str) -> None:
    with pytest.raises(e4profile.E4ProfileError, match=message):
        resolve(f"{net}:{name}", ["1x3x8x8"], arguments).build()


def test_files_without_a_builder_suggest_one(net: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"net\.py:build"):
        resolve(net, ["1x3x8x8"])
    with pytest.raises(SettingError, match="needs its inputs"):
        resolve(f"{net}:ready")
    with pytest.raises(SettingError, match="no such file"):
        resolve(f"{tmp_path}/none.py:build", ["1x3"])
    with pytest.raises(UnknownNameError, match="e4net"):
        resolve("e4nett")
