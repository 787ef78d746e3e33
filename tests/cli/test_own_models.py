"""Models of one's own on the command line."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

from e4profile.cli.main import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]

NET = """
    import torch
    from torch import nn
    from e4profile.layers import Chain, E4Conv2d, GroupMaxPool, LiftingConv2d

    print("imported")

    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3)
            self.tokens = nn.Conv1d(width, 2, 1)

        def forward(self, image, mask=None, times=1):
            maps = self.conv(image)
            for _ in range(times):
                maps = maps.relu()
            if mask is not None:
                maps = maps * mask
            return {"maps": maps, "tokens": self.tokens(maps.flatten(2))}

    def build(width=4):
        return Net(width)

    def needs(width):
        return Net(width)

    def plain():
        return nn.Conv1d(3, 2, 1)

    def wrong():
        class Wrong(nn.Conv2d):
            pass
        model = nn.Sequential(nn.Conv2d(3, 4, 3))
        # one more convolution than the layer's form knows
        model[0].forward = lambda x: nn.functional.conv2d(x, model[0].weight) + nn.functional.conv2d(x, model[0].weight)
        return model

    def unknown():
        class Odd(nn.Module):
            def forward(self, x):
                return torch.special.bessel_j0(x)
        return nn.Sequential(nn.Conv2d(3, 4, 3), Odd())

    class Mixed(nn.Module):
        def __init__(self, affine="field"):
            super().__init__()
            self.lift = LiftingConv2d(1, 2, 3, group="p4", padding=1)
            self.e4 = E4Conv2d(2, 2, 3, group="p4", squeeze_affine=affine)
            self.pool = GroupMaxPool(2, group="p4")

        def forward(self, x):
            maps = torch.relu(self.lift(x))
            return self.pool(maps + self.e4(maps)).amax((2, 3))
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    (tmp_path / "net.py").write_text(dedent(NET), encoding="utf-8")

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["e4profile", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return Result(stop.value.code, *capsys.readouterr())

    yield call
    sys.modules.pop("net", None)


def test_count_keeps_stdout_for_data(run: Run) -> None:
    code, out, err = run("count", "net.py:build", "--input", "2x3x8x8", "--arg", "width=6", "-f", "json")
    found = json.loads(out)
    rows = {row["path"]: row for row in found["layers"]}
    assert code == 0
    assert (found["model"], found["arguments"], found["input"]) == ("net.py:build", {"width": 6}, "2x3x8x8")
    assert (found["totals"]["closed_form"], found["agrees"]) == (None, None)
    assert "imported" in err
    assert rows["conv"]["closed_form"] == rows["conv"]["dispatch"] == 2 * 27 * 6 * 36
    assert rows["conv"]["agrees"] is True
    assert rows["tokens"]["closed_form"] is None
    assert rows["tokens"]["agrees"] is None
    assert rows["tokens"]["dispatch"] == 2 * 12 * 36


def test_count_shows_what_is_absent_and_why(run: Run) -> None:
    code, out, _ = run("count", "net:plain", "--input", "1x3x5")
    assert code == 0
    (row,) = [line.split() for line in out.splitlines() if "Conv1d" in line and ":" not in line]
    assert row.count("–") >= 2
    assert "closed-form: no figure: by topology, the network: Conv1d has no closed form" in out


def test_keyword_and_plain_inputs(run: Run) -> None:
    inputs = ("--input", "image=1x3x8x8", "--input", "mask=1x1x6x6:bool", "--input", "times:=3")
    code, out, _ = run("count", "net.py:build", *inputs, "-f", "csv")
    assert code == 0
    assert [row["fvcore"] for row in csv.DictReader(io.StringIO(out))] == [str(27 * 4 * 36), str(8 * 36)]
    _, table, _ = run("count", "net.py:build", *inputs)
    assert "image=1x3x8x8 mask=1x1x6x6:bool times:=3" in table
    assert "shapes recorded from the run" in table


def test_a_form_that_is_not_what_runs_fails(run: Run) -> None:
    code, _, err = run("count", "net.py:wrong", "--input", "1x3x8x8")
    assert code == 1
    assert f"0: convolution: closed form {27 * 4 * 36}, measured {2 * 27 * 4 * 36}" in err
    code, out, _ = run("check", "net.py:wrong", "--input", "1x3x8x8")
    assert code == 1
    assert "net.py:wrong: 0: convolution: closed form" in out


def test_check_says_how_much_it_covered(run: Run) -> None:
    code, out, _ = run("check", "net.py:build", "--input", "1x3x8x8")
    assert code == 0
    assert f"layers with a closed form run {27 * 4 * 36:,} of {27 * 4 * 36 + 8 * 36:,} MACs" in out
    code, out, _ = run("check", "net.py:plain", "e4net", "--input", "1x3x5")
    assert code == 1
    assert "nothing is proven" in out
    assert "e4net" in out


def test_unknown_operators_stand_in_the_ledger(run: Run) -> None:
    code, out, _ = run("count", "net.py:unknown", "--input", "1x3x8x8")
    assert code == 0
    assert "unknown: aten::special_bessel_j0 (1)" in out
    assert "register_operator" in out
    code, out, _ = run("check", "net.py:unknown", "--input", "1x3x8x8")
    assert code == 1
    assert "unknown operator aten::special_bessel_j0" in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("net.py:needs", "--input", "1x3x8x8"), "needs width: give --arg width=VALUE"),
        (("net.py:build", "--input", "1x3x8x8", "--arg", "widht=3"), "did you mean width"),
        (("net.py:bild", "--input", "1x3x8x8"), "did you mean build"),
        (("net.py:build",), "needs its inputs"),
        (("net.py", "--input", "1x3x8x8"), "net.py:"),
        (("net.py:build", "--input", "1x4x8x8"), "in conv (Conv2d): RuntimeError"),
        (("net.py:build", "--input", "3,8,8"), "--input: '3,8,8'"),
        (("net.py:build", "--input", "1x3x8x8", "--arg", "width"), "--arg: 'width' must be KEY=VALUE"),
        (("none.py:build", "--input", "1x3x8x8"), "no such file"),
    ],
)
@pytest.mark.parametrize("command", ["count", "check", "equivariance"])
def test_bad_input_is_one_line_and_exit_2(run: Run, command: str, arguments: tuple[str, ...], line: str) -> None:
    code, out, err = run(command, *arguments)
    assert code == 2
    assert out == ""
    (first,) = [text for text in err.splitlines() if text.startswith("e4profile: ")]
    if command != "equivariance" or "Conv2d" not in line:
        assert line in first


def test_an_import_error_keeps_its_traceback_below_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import torch\nx = {}['key']\n")
    code, out, err = run("count", "broken.py:build", "--input", "1x3")
    lines = err.splitlines()
    assert (code, out) == (2, "")
    assert lines[0] == "e4profile: broken.py does not import: KeyError: 'key'"
    assert lines[1] == "Traceback (most recent call last):"
    assert any('broken.py", line 2' in text for text in lines)
    assert lines[-1] == "KeyError: 'key'"


@pytest.mark.parametrize("command", ["count", "check", "equivariance"])
def test_the_help_says_that_importing_runs_the_code(run: Run, command: str) -> None:
    _, out, _ = run(command, "--help")
    words = " ".join(out.replace("│", " ").split())
    assert "runs its code" in words
    assert "--input" in words


def test_equivariance_of_a_mixed_model(run: Run) -> None:
    arguments = ("equivariance", "net.py:Mixed", "--input", "1x1x7x7")
    code, out, _ = run(*arguments, "-f", "json")
    rows = json.loads(out)
    assert code == 0
    assert [row["element"] for row in rows if row["layer"] == "output"] == ["0°", "90°", "180°", "270°"]
    assert {row["path"] for row in rows} == {"", "lift", "e4", "pool"}
    assert all(row["holds"] for row in rows)
    code, out, err = run(*arguments, "--arg", "affine=channel", "-f", "json")
    assert code == 1
    broken = {row["path"] for row in json.loads(out) if row["holds"] is False}
    assert broken == {"", "e4", "e4.squeeze_norm"}
    assert "equivariant at initialisation only under C4" in err
    code, out, _ = run(*arguments, "--arg", "affine=channel")
    assert "breaks at e4.squeeze_norm (FieldGroupNorm)" in out
    assert "affine='channel' learns one affine pair per group element" in out


def test_equivariance_refuses_what_it_cannot_do(run: Run) -> None:
    arguments = ("equivariance", "net.py:Mixed", "--input", "1x1x7x7")
    for options, line in (
        (("--group", "C8"), "maps the square grid onto itself"),
        (("--group", "p5"), "unknown group 'p5'"),
        (("--dtype", "float16"), "unknown dtype 'float16'"),
        (("--train-steps", "-1"), "must not be negative"),
        (("--field-in", "regulr"), "did you mean regular"),
    ):
        code, _, err = run(*arguments, *options)
        assert code == 2
        assert line in err
    code, _, err = run("equivariance", "net.py:build", "--input", "1x3x8x8")
    assert code == 2
    assert "say which one acts" in err


IMAGES_ONLY = """
    from torch import nn

    def build(width=4):
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 5))
"""


def test_time_and_memory_take_models_of_one_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "images.py").write_text(dedent(IMAGES_ONLY), encoding="utf-8")
    own = ("images.py:build", "--input", "1x3x8x8", "--arg", "width=2", "-f", "json")
    code, out, _ = run("memory", *own, "--batch-size", "1,3")
    assert code == 0
    rows = json.loads(out)
    params = 3 * 2 * 9 + 2 + 72 * 5 + 5
    assert [row["parameter_bytes"] for row in rows] == [4 * params] * 2
    # the ReLU's output; the flattened maps are the same memory
    assert [row["saved_measured_bytes"] for row in rows] == [4 * 72, 3 * 4 * 72]
    code, out, _ = run("time", *own, "--batch-size", "2", "--min-run-time-s", "0.01", "--max-run-time-s", "0.02")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["network"], row["batch_size"]) == ("images.py:build", 2)


@pytest.mark.parametrize("command", ["time", "memory"])
def test_time_and_memory_name_the_module_that_refuses(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "images.py").write_text(dedent(IMAGES_ONLY), encoding="utf-8")
    code, out, err = run(command, "images.py:build", "--input", "1x3x9x9")
    assert (code, out) == (2, "")
    assert "in 3 (Linear): RuntimeError" in err
    code, _, err = run(command, "images.py:build", "--input", "image=1x3x8x8")
    assert code == 2
    assert "unexpected keyword argument 'image'" in err
    _, out, _ = run(command, "--help")
    assert "runs its code" in " ".join(out.replace("│", " ").split())


def test_a_model_without_parameters_or_products_has_an_empty_table(run: Run, tmp_path: Path) -> None:
    text = """
        from torch import nn

        class Lists(nn.Module):
            def forward(self, xs):
                return [x * 2 for x in xs]
    """
    (tmp_path / "lists.py").write_text(dedent(text), encoding="utf-8")
    arguments = ("count", "lists.py:Lists", "--input", "xs.0=1x3", "--input", "xs.1=2x3")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "2 element by element; unknown: none" in out
    code, out, _ = run(*arguments, "-f", "json")
    found = json.loads(out)
    assert (code, found["layers"]) == (0, [])
    assert found["totals"] == dict.fromkeys(("params", "closed_form", "dispatch", "fvcore", "thop"), 0)


def test_dicts_of_indices_and_flags(run: Run, tmp_path: Path) -> None:
    text = """
        from torch import nn

        class Words(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding, self.head = nn.Embedding(10, 4), nn.Linear(4, 3)

            def forward(self, batch):
                assert batch["flag"] is True
                return self.head(self.embedding(batch["ids"])), batch
    """
    (tmp_path / "words.py").write_text(dedent(text), encoding="utf-8")
    inputs = ("--input", "batch.ids=2x5:int64", "--input", "batch.flag:=true")
    code, out, _ = run("count", "words.py:Words", *inputs, "-f", "json")
    assert code == 0
    rows = {row["path"]: row for row in json.loads(out)["layers"]}
    assert rows["head"]["closed_form"] == rows["head"]["dispatch"] == rows["head"]["thop"] == 10 * 12
    assert (rows["embedding"]["params"], rows["embedding"]["closed_form"]) == (40, None)


@pytest.mark.parametrize("command", ["check", "count", "time"])
@pytest.mark.parametrize(
    "raised", ["SystemExit(0)", "type('Own', (BaseException,), {})('gone')", "Mute()"]
)
def test_whatever_a_forward_raises_is_one_line_and_exit_2(
    run: Run, tmp_path: Path, command: str, raised: str
) -> None:
    text = f"""
from torch import nn

class Mute(ValueError):
    def __str__(self):
        raise TypeError("no text")

class Net(nn.Module):
    def forward(self, x):
        raise {raised}

def build():
    raise {raised}
"""
    (tmp_path / "ends.py").write_text(text, encoding="utf-8")
    for name, place in (("Net", "cannot run on"), ("build", "cannot build with")):
        found = run(command, f"ends.py:{name}", "--input", "1x3x8x8")
        assert (found.code, found.out) == (2, "")
        assert place in found.err
        assert "ends.py" in found.err.split("Traceback")[1]
        if raised == "Mute()":
            assert "Mute: (its text cannot be shown" in found.err


@pytest.mark.parametrize("command", ["check", "count", "time"])
@pytest.mark.parametrize("returned", ["(x for x in [x])", "self.later(x)"])
def test_a_forward_that_has_not_run_is_no_success(
    run: Run, tmp_path: Path, command: str, returned: str
) -> None:
    text = f"""
        from torch import nn

        class Net(nn.Module):
            def forward(self, x):
                return {returned}

            async def later(self, x):
                return x
    """
    (tmp_path / "lazy.py").write_text(dedent(text), encoding="utf-8")
    code, out, err = run(command, "lazy.py:Net", "--input", "1x3x8x8")
    assert (code, out) == (2, "")
    assert f"forward returned a {'coroutine' if 'later' in returned else 'generator'}, which has not run" in err


def test_a_model_that_cannot_be_copied_says_so(run: Run, tmp_path: Path) -> None:
    text = """
        from torch import nn

        class Net(nn.Linear):
            def __init__(self):
                super().__init__(8, 2)

            def __deepcopy__(self, memo):
                raise TypeError("one only")
    """
    (tmp_path / "single.py").write_text(dedent(text), encoding="utf-8")
    code, out, err = run("memory", "single.py:Net", "--input", "1x8")
    assert (code, out) == (2, "")
    assert "single.py:Net cannot be copied to meta: TypeError: one only" in err
    assert "__deepcopy__" in err.split("Traceback")[1]
