"""User-defined models that cannot be imported, built, copied or run: one line, and their own traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_model_nets import IMAGES_ONLY, write
from program import Run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("net.py:needs", "--input", "1x3x8x8"), "needs width: give --set width=VALUE"),
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
def test_bad_input_is_one_line_and_exit_2(own: Run, command: str, arguments: tuple[str, ...], line: str) -> None:
    code, out, err = own(command, *arguments)
    assert code == 2
    assert out == ""
    (first,) = [text for text in err.splitlines() if text.startswith("e4profile: ")]
    if command != "equivariance" or "Conv2d" not in line:
        assert line in first


def test_an_import_error_keeps_its_traceback_below_one_line(own: Run, tmp_path: Path) -> None:
    write(tmp_path, "import torch\nx = {}['key']\n", "broken.py")
    code, out, err = own("count", "broken.py:build", "--input", "1x3")
    lines = err.splitlines()
    assert (code, out) == (2, "")
    assert lines[0] == "e4profile: broken.py does not import: KeyError: 'key'"
    assert lines[1] == "Traceback (most recent call last):"
    assert any('broken.py", line 2' in text for text in lines)
    assert lines[-1] == "KeyError: 'key'"


@pytest.mark.parametrize("command", ["check", "count", "time"])
@pytest.mark.parametrize("raised", ["SystemExit(0)", "type('Own', (BaseException,), {})('gone')", "Mute()"])
def test_whatever_a_forward_raises_is_one_line_and_exit_2(own: Run, tmp_path: Path, command: str, raised: str) -> None:
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
    write(tmp_path, text, "ends.py")
    for name, place in (("Net", "cannot run on"), ("build", "cannot build with")):
        found = own(command, f"ends.py:{name}", "--input", "1x3x8x8")
        assert (found.code, found.out) == (2, "")
        assert place in found.err
        assert "ends.py" in found.err.split("Traceback")[1]
        if raised == "Mute()":
            assert "Mute: (its text cannot be shown" in found.err


@pytest.mark.parametrize("command", ["check", "count", "time", "memory", "roofline", "equivariance"])
@pytest.mark.parametrize("returned", ["(x for x in [x])", "self.later(x)", "{'all': [x, iter([x])]}"])
def test_a_forward_that_has_not_run_is_no_success(own: Run, tmp_path: Path, command: str, returned: str) -> None:
    text = f"""
        from torch import nn

        class Net(nn.Module):
            def forward(self, x):
                return {returned}

            async def later(self, x):
                return x
    """
    write(tmp_path, text, "lazy.py")
    group = ("--group", "p4") if command == "equivariance" else ()
    code, out, err = own(command, "lazy.py:Net", "--input", "1x3x8x8", *group)
    assert (code, out) == (2, "")
    kind = {"(": "generator", "s": "coroutine", "{": "list_iterator"}[returned[0]]
    assert f"forward returned a {kind}, which has not run" in err


@pytest.mark.parametrize("command", ["count", "time", "memory", "equivariance"])
def test_a_builder_that_yields_is_no_builder(own: Run, tmp_path: Path, command: str) -> None:
    write(tmp_path, "from torch import nn\ndef build():\n    yield nn.Linear(3, 2)\n", "yields.py")
    code, out, err = own(command, "yields.py:build", "--input", "1x3")
    assert (code, out) == (2, "")
    assert "yields.py:build returned generator, not a torch.nn.Module" in err


@pytest.mark.parametrize("command", ["count", "time", "memory", "roofline"])
def test_a_forward_may_take_its_inputs_apart(own: Run, tmp_path: Path, command: str) -> None:
    text = """
        from torch import nn

        class Net(nn.Linear):
            def __init__(self):
                super().__init__(3, 2)

            def forward(self, batch):
                return super().forward(batch.pop("x"))
    """
    write(tmp_path, text, "takes.py")
    quick = {"time": ("--pass", "step", "--max-run-time-s", "0.01"), "roofline": ("--max-run-time-s", "0.01")}
    assert own(command, "takes.py:Net", "--input", "batch.x=2x3", *quick.get(command, ())).code == 0


def test_a_model_that_refuses_to_be_copied_is_measured_all_the_same(own: Run, tmp_path: Path) -> None:
    text = """
        from torch import nn

        class Net(nn.Linear):
            def __init__(self):
                super().__init__(8, 2)

            def __deepcopy__(self, memo):
                raise TypeError("one only")
    """
    write(tmp_path, text, "single.py")
    code, out, err = own("memory", "single.py:Net", "--input", "1x8")
    assert (code, "one only" in err) == (0, False)
    assert "single.py:Net" in out


@pytest.mark.parametrize("command", ["time", "memory"])
def test_time_and_memory_name_the_module_that_refuses(own: Run, tmp_path: Path, command: str) -> None:
    write(tmp_path, IMAGES_ONLY, "images.py")
    code, out, err = own(command, "images.py:build", "--input", "1x3x9x9")
    assert (code, out) == (2, "")
    assert "in 3 (Linear): RuntimeError" in err
    code, _, err = own(command, "images.py:build", "--input", "image=1x3x8x8")
    assert code == 2
    assert "unexpected keyword argument 'image'" in err
    _, out, _ = own(command, "--help")
    assert "code to run (e4profile help networks)" in " ".join(out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("count", ":build", "--input", "1x3x8x8"), "for example net.py:build"),
        (("count", "net.py:", "--input", "1x3x8x8"), "for example net.py:build"),
        (("count", "net.py:build.foo", "--input", "1x3x8x8"), "unknown name in net.py 'build.foo': build holds no foo"),
        (("equivariance", "e4net", "--input", "1x3x28x28"), "layer1.conv: LiftingConv2d takes 1 channels"),
        (("match", "e4net", "--to", "1k", "--vary", "group"), "for example --vary group=A,B"),
        (("match", "e4net", "--to", "1k", "--vary", "classes"), "for example --vary classes=1..8"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_write(own, arguments, message) -> None:
    code, out, err = own(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len([line for line in err.splitlines() if line != "imported"]) == 1


@pytest.mark.parametrize("command", ["count", "memory"])
def test_what_a_network_prints_while_it_is_walked_stays_off_the_data(command: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "from torch import nn\n\nclass Net(nn.Conv2d):\n"
        "    def named_modules(self, *args, **kwargs):\n        print('walked')\n"
        "        return super().named_modules(*args, **kwargs)\n\n"
        "    def train(self, mode=True):\n        print('switched')\n        super().train(mode)\n\n"
        "def build():\n    return Net(3, 4, 3)\n"
    )
    done = run(command, f"{tmp_path / 'loud.py'}:build", "--input", "1x3x8x8", "--format", "json")
    json.loads(done.out)
    assert done.code == 0
