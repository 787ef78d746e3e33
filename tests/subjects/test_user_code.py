"""Running somebody's code: its errors stay its own, and what it changes is given back."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from own_nets import write

from e4profile.errors import UnknownNameError
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import measure

EXACT = ("closed-form", "dispatch")


@pytest.mark.parametrize(
    ("text", "first_line"),
    [
        ("import torch\nboom = 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def build(:\n", "SyntaxError"),
        ("import a_module_that_is_not_there\n", "ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_module_that_does_not_import_keeps_its_traceback(tmp_path: Path, text: str, first_line: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UserCodeError, match="does not import") as caught:
        resolve(f"{file}:build", ["1x3"])
    assert first_line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "net.py" in caught.value.details
    assert "user_code.py" not in caught.value.details
    assert file not in [getattr(module, "__file__", None) for module in list(sys.modules.values())]


def test_a_wrong_shape_names_the_module(net: str) -> None:
    with pytest.raises(UserCodeError, match=r"in first \(Conv2d\): RuntimeError: .*expected input") as caught:
        measure(resolve(f"{net}:ready", ["1x4x8x8"]), EXACT)
    assert "in forward" in caught.value.details
    with pytest.raises(UserCodeError, match="image"):
        measure(resolve(f"{net}:ready", ["mask=1x1x8x8"]), EXACT)


def test_what_the_code_sets_is_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        tmp_path,
        """
        import random
        import numpy, torch
        from torch import nn
        print("importing")
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(5)

        def build():
            torch.set_num_threads(torch.get_num_threads() + 1)
            torch.set_grad_enabled(False)
            random.seed(1)
            numpy.random.seed(1)
            return nn.Conv2d(3, 4, 3)
        """,
    )
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # type: ignore[index]
    target = resolve(f"{file}:build", ["1x3x8x8"])
    assert measure(target, EXACT).agrees
    assert next(target.build().parameters()).dtype == torch.float64
    assert (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # type: ignore[index]
    words = " ".join(target.notes)
    for part in ("default dtype from torch.float32 to torch.float64", "threads", "gradients"):
        assert part in words
    out, err = capsys.readouterr()
    assert (out, err) == ("", "importing\n")


def test_the_working_directory_is_the_codes_own_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    file = write(
        tmp_path,
        """
        import os
        from torch import nn

        class Net(nn.Conv2d):
            def forward(self, x):
                assert os.path.basename(os.getcwd()) == "inside"
                return super().forward(x)

        def build():
            os.chdir("inside")
            return Net(3, 4, 3)
        """,
    )
    monkeypatch.chdir(tmp_path)
    target = resolve(f"{file}:build", ["1x3x8x8"])
    assert measure(target, EXACT).dispatch.macs == 27 * 4 * 36
    assert Path.cwd() == tmp_path
    assert "working directory" in " ".join(target.notes)


def test_settings_are_given_back_when_the_code_raises(tmp_path: Path) -> None:
    file = write(tmp_path, "import torch\ntorch.set_default_dtype(torch.float64)\nraise ValueError('x')\n")
    with pytest.raises(UserCodeError):
        resolve(f"{file}:build", ["1x3"])
    assert torch.get_default_dtype() == torch.float32


def test_what_a_file_puts_on_the_path_holds_when_its_code_runs(tmp_path: Path) -> None:
    for folder in ("first", "last"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"only_{folder}.py").write_text("from torch import nn\nlayer = nn.Linear\n")
    file = write(
        tmp_path,
        """
        import os, sys
        from torch import nn
        here = os.path.dirname(__file__)
        sys.path.insert(0, os.path.join(here, "first"))
        sys.path.append(os.path.join(here, "last"))

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                from only_first import layer
                self.layer = layer(2, 3)

            def forward(self, x):
                import only_last
                return self.layer(x)
        """,
    )
    before = list(sys.path)
    assert measure(resolve(f"{file}:Net", ["1x2"]), EXACT).dispatch.macs == 6
    assert sys.path == before


def test_the_digest_of_code_knows_what_a_constructor_imports(tmp_path: Path) -> None:
    late = tmp_path / "late_part.py"
    late.write_text("WIDTH = 1\n")
    net = tmp_path / "net.py"
    net.write_text(
        "from torch import nn\ndef build():\n    from late_part import WIDTH\n    return nn.Linear(4, WIDTH)\n"
    )

    before, again = (resolve(f"{net}:build", ("1x4",)).code_digest for _ in range(2))
    assert before == again
    late.write_text("WIDTH = 20\n")
    assert resolve(f"{net}:build", ("1x4",)).code_digest != before


def test_a_name_that_is_not_there_is_answered_with_what_could_be_built(tmp_path: Path) -> None:
    file = tmp_path / "parts.py"
    file.write_text("from torch import nn\nfrom torch.nn import Linear\n")
    with pytest.raises(UnknownNameError, match="Linear"):
        resolve(f"{file}:Net", ["1x2"])
    file.write_text("from torch import nn\nfrom torch.nn import Linear\nclass Attention(nn.Module):\n    pass\n")
    with pytest.raises(UnknownNameError, match="known: Attention"):
        resolve(f"{file}:Net", ["1x2"])
