"""The documentation of own models and layers, run as it stands."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import e4profile
from e4profile.cli.main import main
from e4profile.questions.check.checks import run_checks
from e4profile.witnesses.counts import ledger
from e4profile.witnesses.counts.dispatch import count_dispatch

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "own_layers.md").read_text(encoding="utf-8")
SWEEP, LAYER, OPERATOR = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def cross(tmp_path: Path) -> Path:
    file = tmp_path / "cross.py"
    file.write_text(LAYER, encoding="utf-8")
    return file


def test_the_example_is_complete_and_short() -> None:
    assert len([line for line in LAYER.splitlines() if line.strip()]) <= 30


def test_its_check_holds_as_the_documented_command_says(cross: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = re.search(r"^    e4profile (check cross.*)$", TEXT, re.MULTILINE)
    assert command is not None
    monkeypatch.chdir(cross.parent)
    monkeypatch.setattr(sys, "argv", ["e4profile", *command[1].split()])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0


def test_every_weighted_layer_has_its_closed_form(cross: Path) -> None:
    frame = e4profile.count(f"{cross}:build", (2, 3, 32, 32), width=16)
    assert list(frame["path"]) == ["0", "2"]
    assert frame["agrees"].all()
    rows = 3 * 16 * 5 * 32 * 32
    assert list(frame["closed_form"]) == [2 * 2 * rows, 2 * 2 * 16 * 4 * 3 * 32 * 32]
    assert frame.attrs["sizes"] == "recorded"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"rows": c_in * c_out * k * h * w', '"rows": c_out * k * h * w'),
        ('"columns": c_in * c_out * k, "bias"', '"columns": c_in * c_out, "bias"'),
        ("h: shape[2]", "h: shape[2] - 1"),
    ],
)
def test_a_wrong_term_is_found(cross: Path, right: str, wrong: str) -> None:
    assert right in LAYER
    cross.write_text(LAYER.replace(right, wrong), encoding="utf-8")
    (result,) = run_checks([f"{cross}:build"], inputs=["2x3x32x32"])
    assert not result.agrees
    assert "closed form" in result.problems[0]


@pytest.fixture
def library() -> Iterator[None]:
    formulas, free = dict(ledger.FORMULAS), dict(ledger.FREE)
    mylib = torch.library.Library("mylib", "DEF")
    mylib.define("blur(Tensor image) -> Tensor")
    mylib.define("shuffle(Tensor image) -> Tensor")
    for name in ("blur", "shuffle"):
        mylib.impl(name, torch.clone, "CompositeExplicitAutograd")
    yield
    mylib._destroy()
    for table, before in ((ledger.FORMULAS, formulas), (ledger.FREE, free)):
        table.clear()
        table.update(before)


class Blurred(torch.nn.Module):
    def forward(self, x):
        return torch.ops.mylib.shuffle(torch.ops.mylib.blur(x))


@pytest.mark.usefixtures("library")
def test_operators_are_unknown_until_they_are_registered() -> None:
    image = torch.empty(1, 2, 4, 4)
    before = count_dispatch(Blurred(), (image,))
    assert before.uncounted == {"mylib::blur": 1, "mylib::shuffle": 1}
    assert before.macs == 0
    exec(OPERATOR, {})
    after = count_dispatch(Blurred(), (image,))
    assert after.uncounted == {}
    assert after.operations == {"convolution": 9 * 32}


@pytest.mark.usefixtures("library")
def test_a_registered_operator_reports_whole_numbers_of_known_kinds() -> None:
    image = torch.empty(1, 2, 4, 4)
    e4profile.register_operator("mylib::blur", lambda *args, out, **kw: {"convolutions": 1})
    with pytest.raises(e4profile.UnknownNameError, match="convolution"):
        count_dispatch(Blurred(), (image,))
    e4profile.register_operator("mylib::blur", lambda *args, out, **kw: {"convolution": 0.5})
    with pytest.raises(e4profile.SettingError, match="whole number"):
        count_dispatch(Blurred(), (image,))
    with pytest.raises(e4profile.SettingError, match="mylib::my_op"):
        e4profile.register_free("shuffle")


def test_it_imports_public_names_only() -> None:
    imported = {
        name for text in (SWEEP, LAYER, OPERATOR) for name in re.findall(r"(?:from|import) (e4profile\S*)", text)
    }
    assert imported <= {"e4profile", "e4profile.layers", "e4profile.symbols", "e4profile.groups"}


def test_the_sweep_holds() -> None:
    exec(compile(SWEEP, "own_layers.md", "exec"), {})
