"""The named terms of a user-defined network: its layers' where they have a closed form, kinds elsewhere."""

from __future__ import annotations

from pathlib import Path

from e4profile.questions.formula.figure_terms import macs_by_named_term
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import measure

NET = """
from torch import nn
from e4profile.layers import E4Conv2d, LiftingConv2d

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = LiftingConv2d(3, 8, 3, group="p4")
        self.e4 = E4Conv2d(8, 8, 3, group="p4", slices=2)
        self.plain = nn.Conv2d(32, 4, 1)

    def forward(self, x):
        maps = self.plain(self.e4(self.lift(x)))
        return maps.flatten(1) @ maps.new_zeros(maps[0].numel(), 5)
"""


def test_layers_with_a_closed_form_keep_their_terms(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    target = resolve(f"{tmp_path / 'net.py'}:Net", ["1x3x8x8"])
    found = macs_by_named_term(target)
    dispatch = measure(target, ()).dispatch
    assert sum(found.values()) == dispatch.macs
    side = 6
    assert found["lifting"] == 3 * 8 * 4 * 9 * side**2
    assert found["linear"] == 4 * side**2 * 5
    assert found["convolution"] == 32 * 4 * side**2
    assert {"encoder", "squeeze", "generator", "aggregation"} < set(found)
    # the layers first, then what no form names
    assert list(found)[-1] == "linear"
