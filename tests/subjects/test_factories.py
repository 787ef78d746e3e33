"""Factories as model libraries write them: keyword arguments, weights that are not asked for, outputs of every kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from e4profile.cli.main import main

LIBRARY = """
    from collections import OrderedDict, namedtuple
    from functools import partial

    import torch
    from torch import nn

    Outputs = namedtuple("Outputs", ["logits", "aux_logits"])

    class Net(nn.Module):
        def __init__(self, num_classes=1000, width=4, norm_layer=None, aux_logits=False):
            super().__init__()
            norm_layer = norm_layer or partial(nn.BatchNorm2d, eps=1e-3)
            stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
            self.stem = nn.Sequential(stem, norm_layer(width), nn.Hardswish(True))
            self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
            self.squeeze = nn.Conv2d(width, 2, 1)
            self.excite = nn.Conv2d(2, width, 1)
            self.head = nn.Linear(width, num_classes)
            self.aux = nn.Linear(width, num_classes) if aux_logits else None

        def forward(self, x):
            x = self.depthwise(self.stem(x))
            gate = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
            x = (x * gate).mean((2, 3))
            if self.aux is not None and self.training:
                return Outputs(self.head(x), self.aux(x))
            return self.head(x)

    class Segmenter(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.head = nn.Conv2d(4, num_classes, 1)
            self.aux_head = nn.Conv2d(4, num_classes, 1)

        def forward(self, x):
            found = OrderedDict()
            body = self.body(x)
            for name, head in (("out", self.head), ("aux", self.aux_head)):
                found[name] = nn.functional.interpolate(head(body), x.shape[-2:], mode="bicubic", antialias=True)
            return found

    def _check(weights, pretrained=False):
        if weights is not None or pretrained:
            raise ValueError("no weights here")

    def small(*, weights=None, progress=True, **kwargs):
        _check(weights)
        return Net(**kwargs)

    def segment(*, weights=None, progress=True, num_classes=21, **kwargs):
        _check(weights)
        return Segmenter(num_classes, **kwargs)

    def create_model(model_name, pretrained=False, **kwargs):
        _check(None, pretrained)
        return {"small": small, "segment": segment}[model_name](**kwargs)
"""

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "library_of_nets.py").write_text(dedent(LIBRARY))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["e4profile", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().out

    return call


MACS = 4 * 64 * 27 + 4 * 64 * 9 + 2 * 2 * 4
INPUT = ("--input", "1x3x8x8")


@pytest.mark.parametrize("source", ["library_of_nets", "library_of_nets.py"])
@pytest.mark.parametrize(
    ("arguments", "classes"),
    [
        (["{}:small"], 1000),
        (["{}:small", "--arg", "num_classes=7", "--arg", "progress=false"], 7),
        (["{}:create_model", "--arg", "model_name=small", "--arg", "num_classes=7"], 7),
        (["{}:small", "--arg", "aux_logits=true", "--arg", "num_classes=7"], 7),
    ],
)
def test_a_factory_is_counted(run: Run, source: str, arguments: list[str], classes: int) -> None:
    name, *rest = (argument.format(source) for argument in arguments)
    code, out = run("count", name, *rest, *INPUT, "--format", "json")
    assert code == 0
    found = json.loads(out)
    assert found["totals"]["dispatch"] == MACS + 4 * classes
    aux = 5 * classes if "aux_logits=true" in rest else 0
    # a head that does not run has parameters that no closed form was held against
    assert found["totals"]["closed_form"] == (None if aux else found["totals"]["dispatch"])
    assert found["totals"]["params"] == 4 * 27 + 8 + 40 + 10 + 12 + 5 * classes + aux


@pytest.mark.parametrize("name", ["small", "segment"])
def test_every_command_takes_a_factory(run: Run, name: str) -> None:
    target = ("library_of_nets.py:create_model", "--arg", f"model_name={name}", "--arg", "num_classes=3", *INPUT)
    for command in (["count"], ["check"], ["memory"], ["time", "--min-run-time-s", "0.01", "--max-run-time-s", "0.05"]):
        code, out = run(*command, *target)
        assert (command[0], code) == (command[0], 0)
        assert out
    code, out = run("equivariance", *target, "--group", "p4")
    assert code == 1  # a stride or a kernel without symmetry breaks it, and the command says so
    assert "not equivariant" in out
