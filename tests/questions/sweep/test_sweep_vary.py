"""``e4profile sweep MODEL --vary``: every combination of the arguments of one network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.program import Run

NET = """
from torch import nn

def build(width=4, kernel=3):
    if kernel == 9:
        raise ValueError("no nine")
    return nn.Sequential(nn.Conv2d(1, width, kernel, bias=False), nn.Flatten(), nn.LazyLinear(10, bias=False))
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    return "net.py:build"


def test_a_model_of_ones_own_over_two_arguments(run: Run, net: str) -> None:
    code, out, err = run(
        "sweep", net, "--input", "1x1x8x8", "--vary", "width=2,4", "--vary", "kernel=3,9,5", "--memory", "-f", "json"
    )
    assert code == 0
    rows = json.loads(out)
    assert [row["setting"] for row in rows] == [{"width": w, "kernel": k} for w in (2, 4) for k in (3, 5)]
    for row in rows:
        width, kernel = row["setting"]["width"], row["setting"]["kernel"]
        side = 9 - kernel
        assert row["params"] == width * kernel**2 + width * side**2 * 10
        assert row["macs"] == width * kernel**2 * side**2 + width * side**2 * 10
        assert row["step_bytes"] > 0
        assert row["median_s"] is None
    assert err.count("not built: width=") == 2
    assert "no nine" in err
    assert not list(Path().glob("reports"))


def test_a_card_over_what_the_grid_has_not(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("sweep", "p4cnn", "--vary", "width=8..10", "-f", "csv")
    assert code == 0
    counted = [run("count", "p4cnn", "--set", f"width={width}", "-f", "json").out for width in (8, 9, 10)]
    totals = [json.loads(text)["totals"] for text in counted]
    lines = out.splitlines()
    assert lines[0] == "width,params,macs"
    assert len(lines) == 1 + len(totals)
    for line, total in zip(lines[1:], totals, strict=True):
        assert line.split(",")[2] in json.dumps(total)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("e4net",), "--vary: give at least one argument with its values"),
        (("e4net", "--vary", "width"), "--vary width: give its values"),
        (("e4net", "--vary", "reduction=2", "-r", "1"), "reduction is given 2 times"),
        (("e4net", "--vary", "width=4", "--model", "p4-cnn"), "--model belongs to the grid of cards"),
        (("--vary", "dropout=4"), "need a network"),
        (("e4net", "--vary", "widht=4"), "widht"),
    ],
)
def test_what_does_not_fit_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("sweep", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
