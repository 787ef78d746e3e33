"""What ``count`` says of the irrep basis: a second build, counted, wherever it costs another amount."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from program import Run, says
from torch import nn

from e4profile.layers import GroupConv2d
from e4profile.questions.count.rows import irrep_basis
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import measure

QUICK = ("--counter", "closed-form,dispatch", "-f", "json")
NET = """
    from torch import nn
    from e4profile.layers import GroupConv2d

    class Net(nn.Module):
        def __init__(self, extra=False):
            super().__init__()
            self.lift = nn.Conv2d(3, 4 * 8, 3, padding=1)
            self.mix = GroupConv2d(4, 4, 3, group="p4m", padding=1)
            self.more = nn.Conv3d(1, 1, 1) if extra else None

        def forward(self, x):
            maps = self.mix(self.lift(x).relu())
            return maps if self.more is None else self.more(maps[:, None])

    net = Net()
    partly = Net(True)
"""


@pytest.mark.parametrize("name", ["p4m-r18", "e4net", "p4-e4r18"])
def test_the_line_is_what_the_other_execution_counts(run: Run, name: str) -> None:
    bank = json.loads(run("count", name, *QUICK).out)
    irreps = json.loads(run("count", name, "--execution", "irreps", *QUICK).out)
    amounts = bank["in_irrep_basis"]
    assert amounts["macs"] == irreps["totals"]["closed_form"] == irreps["totals"]["dispatch"]
    assert amounts["sums_and_differences"] > 0
    total = bank["totals"]["dispatch"]
    share = f"{100 * amounts['macs'] / total:.3g}%"
    assert says(bank["notes"][0], f"{amounts['macs']:,} MACs", share, f"{amounts['sums_and_differences']:,} sums")
    assert "in_irrep_basis" not in irreps
    assert not any("irrep basis" in text for text in irreps["notes"])


def test_it_follows_the_total_and_names_the_network_among_several(run: Run) -> None:
    lines = run("count", "e4net", "--counter", "closed-form,dispatch").out.splitlines()
    (total,) = [place for place, line in enumerate(lines) if "total" in line]
    assert says(lines[total + 3], "in the irrep basis: ", "% of the 17,640,160 that run")
    out = run("count", "e4net", "r18", "--counter", "closed-form,dispatch").out
    assert says(out, "e4net: in the irrep basis: ")
    assert "r18: in the irrep basis" not in out
    both = json.loads(run("count", "e4net", "r18", *QUICK).out)
    assert ["in_irrep_basis" in one for one in both] == [True, False]


def test_a_mixed_network_is_set_against_itself(run: Run) -> None:
    auto = json.loads(run("count", "p4m-r18", "--execution", "auto", *QUICK).out)
    irreps = json.loads(run("count", "p4m-r18", "--execution", "irreps", *QUICK).out)["totals"]["dispatch"]
    assert auto["in_irrep_basis"]["macs"] == irreps < auto["totals"]["dispatch"]


@pytest.mark.parametrize("name", ["net", "partly"])
def test_a_user_defined_network_has_the_line_and_stays(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "own_groups.py").write_text(dedent(NET), encoding="utf-8")
    found = json.loads(run("count", f"own_groups.py:{name}", "--input", "2x3x8x8", *QUICK).out)
    mixed = 2 * 4 * 4 * 9 * 64
    assert found["totals"]["dispatch"] - found["in_irrep_basis"]["macs"] == mixed * (64 - 12)
    assert found["totals"]["dispatch"] > mixed * 64


def test_a_module_in_hand_is_left_as_it_is() -> None:
    model = nn.Sequential(GroupConv2d(2, 3, 3, group="p4", padding=1))
    weight = model[0].weight
    subject = resolve(model, example=torch.zeros(1, 8, 6, 6))
    amounts, said = irrep_basis(subject, measure(subject, ()))
    assert amounts["macs"] == 2 * 3 * 9 * 6 * 36
    assert len(said) == 1
    assert model[0].execution == "bank"
    assert model[0].weight is weight


def test_what_cannot_be_built_again_is_no_figure(run: Run, tmp_path: Path) -> None:
    text = dedent(NET) + dedent("""
        made = []

        def once():
            made.append(1)
            if len(made) > 1:
                raise ValueError("only once")
            return Net()
    """)
    (tmp_path / "own_once.py").write_text(text, encoding="utf-8")
    code, out, _ = run("count", "own_once.py:once", "--input", "1x3x8x8", *QUICK)
    found = json.loads(out)
    assert code == 0
    assert found["totals"]["dispatch"] > 0
    assert "in_irrep_basis" not in found
    assert says("\n".join(found["notes"]), "in the irrep basis: no figure", "only once")
