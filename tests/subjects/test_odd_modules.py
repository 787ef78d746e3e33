"""User-defined networks that are no ordinary modules, and what to write for inputs that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from own_nets import write
from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.inputs import memory_bytes, parse_input
from e4profile.subjects.subject import resolve
from e4profile.subjects.user_code import check_module
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.counts.measure import measure

ODD = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x)

class NotSetUp(nn.Module):
    def __init__(self):
        pass

class HoldsOne(Base):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([Base(), NotSetUp()])

class InsideItself(Base):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([self])

class Loud(Base):
    def train(self, mode=True):
        print("train", mode)
        return super().train(mode)

    def named_parameters(self, *a, **k):
        print("parameters")
        return super().named_parameters(*a, **k)

class Refuses(Base):
    def eval(self):
        raise RuntimeError("only for training")

class Returns(Base):
    def eval(self):
        super().eval()

class Two(Base):
    def forward(self, image, depth, scale=1):
        return self.conv(image) + depth

def script():
    return torch.jit.script(Base())

def dense():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
"""


@pytest.fixture
def odd(tmp_path: Path) -> str:
    return str(write(tmp_path, ODD, "odd.py"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NotSetUp", r"NotSetUp is not set up: its __init__ must call super\(\)"),
        ("HoldsOne", r"inner\.1 \(NotSetUp\) is not set up"),
        ("InsideItself", r"inner\.0 is the network itself again: a module must not contain itself"),
    ],
)
def test_a_module_that_cannot_be_followed_is_one_line(odd: str, name: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        resolve(f"{odd}:{name}", ["1x3x8x8"]).build()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_script_module_is_refused(odd: str) -> None:
    with pytest.raises(SettingError, match="is a ScriptModule, which is not supported"):
        resolve(f"{odd}:script", ["1x3x8x8"]).build()


def test_a_module_that_stands_twice_is_no_cycle() -> None:
    shared = nn.Sequential(nn.ReLU())
    check_module("net", nn.Sequential(shared, nn.Sequential(shared), shared))


def test_what_eval_prints_is_kept_from_the_data(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = resolve(f"{odd}:Loud", ["1x3x8x8"])
    target.build()
    target.example()
    said = capsys.readouterr()
    assert said.out == ""
    assert "train False" in said.err
    assert "parameters" in said.err


def test_an_eval_that_raises_keeps_its_own_traceback(odd: str) -> None:
    with pytest.raises(UserCodeError, match="has no evaluation mode: RuntimeError: only for training") as raised:
        resolve(f"{odd}:Refuses", ["1x3x8x8"]).build()
    assert "odd.py" in raised.value.details
    assert "targets.py" not in raised.value.details


def test_an_eval_that_returns_nothing_is_no_matter(odd: str) -> None:
    model = resolve(f"{odd}:Returns", ["1x3x8x8"]).build()
    assert isinstance(model, nn.Module)
    assert not model.training


@pytest.mark.parametrize(
    ("name", "inputs", "remedy"),
    [
        ("Two", ["1x3x8x8"], "--input image=1x3x8x8 --input depth=SHAPE"),
        ("Two", ["depth=1x4x6x6"], "--input image=SHAPE --input depth=1x4x6x6"),
        ("dense", ["3x8x8"], "with its batch: --input 1x3x8x8"),
        ("dense", ["2x4x8x8"], "with 3 channels: --input 2x3x8x8"),
    ],
)
def test_inputs_that_do_not_fit_name_the_remedy(odd: str, name: str, inputs: list[str], remedy: str) -> None:
    with pytest.raises(UserCodeError, match=remedy):
        measure(resolve(f"{odd}:{name}", inputs), ["dispatch"])


def test_an_error_without_a_line_of_the_users_is_said_once(odd: str) -> None:
    with pytest.raises(UserCodeError) as raised:
        measure(resolve(f"{odd}:Two", ["1x3x8x8"]), ["dispatch"])
    assert raised.value.details == ""


def test_relative_imports_name_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pk" / "sub").mkdir(parents=True)
    for folder in (tmp_path / "pk", tmp_path / "pk" / "sub"):
        write(folder, "", "__init__.py")
    file = write(tmp_path / "pk" / "sub", "from . import other\n", "net.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserCodeError, match=r"as part of its package: pk\.sub\.net:build$"):
        resolve(f"{file}:build", ["1x3x8x8"])


def test_a_missing_file_names_its_nearest_neighbour(odd: str) -> None:
    with pytest.raises(SettingError, match=r"od\.py: no such file; did you mean .*odd\.py"):
        resolve(odd.replace("odd.py", "od.py") + ":Base", ["1x3x8x8"])


def test_an_input_beyond_the_memory_names_its_size() -> None:
    spec = parse_input("99999999999x3x8x8")
    with pytest.raises(SettingError, match=r"needs 69\.8 TiB"):
        spec.make(torch.float32, torch.Generator())
    assert spec.make(torch.float32, torch.Generator(), torch.device("meta")).shape[0] == 99999999999
    with pytest.raises(SettingError, match="a tensor can have"):
        parse_input("9223372036854775807x3").make(torch.float32, torch.Generator(), torch.device("meta"))
    assert 2**28 < memory_bytes() < 2**60


def test_other_digits_than_ours_are_no_shape() -> None:
    with pytest.raises(SettingError, match="must be a shape"):
        parse_input("1x3x\uff18x8")


class Hidden(nn.Module):
    """Operators that are made of others, inside inference mode or not."""

    def __init__(self, hides: bool) -> None:
        super().__init__()
        self.hides = hides
        self.conv, self.norm, self.dense = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode(self.hides):
            y = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
            y = F.scaled_dot_product_attention(y, y, y) @ self.dense.weight
            return torch.einsum("bnc,cd->bnd", self.dense(y), self.dense.weight)


def test_inference_mode_hides_no_operator() -> None:
    shown, hidden = (count_dispatch(Hidden(hides), (torch.zeros(2, 3, 6, 6),)) for hides in (False, True))
    assert hidden.operations == shown.operations
    assert not hidden.uncounted
    products = 2 * 16 * 8 * 8 * 3
    assert shown.operations["convolution"] == 2 * 16 * 8 * 27
    assert shown.macs == 2 * 16 * 8 * 27 + products + 2 * 2 * 16 * 16 * 8
