"""One network's table: blocks and the costliest layers add up to the same total, and a file keeps every layer."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import Run, says

from e4profile.questions.count.layers import shown_layers
from e4profile.records.count_document import totals
from e4profile.witnesses.counts.base import Count

RAN = Count("dispatch", "1", ())
ASKED = ("count", "e4net", "--counter", "dispatch")

paths = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join), min_size=1, unique=True)


@given(paths=paths, depth=st.none() | st.integers(1, 5), top=st.none() | st.integers(1, 9), room=st.integers(1, 9))
def test_what_is_shown_adds_up(paths: list[str], depth: int | None, top: int | None, room: int) -> None:
    rows = [
        {"agrees": True, "path": path, "layer": "L", "params": 2**place, "dispatch": 3**place, "output": "1x1"}
        for place, path in enumerate(paths)
    ]
    found = shown_layers(rows, RAN, depth, top, room)
    assert totals([*found.rows, *([found.rest] if found.rest else [])], ()) == totals(rows)
    assert bool(found.note) == (len(found.rows) < len(rows))
    if depth is not None:
        assert all(row["path"].count(".") < depth or row.get("layers", 1) == 1 for row in found.rows)
    if top is not None:
        assert len(found.rows) <= top
    elif depth is None:
        assert len(found.rows) <= max(room, len({path[0] for path in paths}))


def test_a_disagreement_shows_in_its_block() -> None:
    rows = [
        {"agrees": agrees, "path": path, "layer": "L", "params": 1, "dispatch": 1}
        for path, agrees in (("a.x", True), ("a.y", False), ("b.x", True), ("b.y", None))
    ]
    assert [row["agrees"] for row in shown_layers(rows, RAN, 1, None, None).rows] == [False, None]


def test_a_screen_folds_and_files_do_not(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "17")
    table = run(*ASKED).out
    assert "blocks at depth 1 of 2: --depth 2 shows all 15 layers" in table
    (block,) = [line.split() for line in table.splitlines() if line.startswith("layer2")]
    assert block[:4] == ["layer2", "2", "Chain", "1x64x14x14"]
    assert block[-1] == "57.74%"
    document = json.loads(run(*ASKED, "-f", "json").out)
    rows = list(csv.DictReader(io.StringIO(run(*ASKED, "-f", "csv").out)))
    assert len(rows) == len(document["layers"]) == 15
    assert sum(float(row["share_percent"]) for row in rows) == pytest.approx(100)
    costliest = json.loads(run(*ASKED, "--top", "2", "--depth", "1", "-f", "json").out)
    assert [row["path"] for row in costliest["layers"]] == ["layer2", "layer3"]
    assert costliest["totals"] == document["totals"]


def test_columns_without_a_value_are_left_out_for_readers(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own_gates.py").write_text(
        "from torch import nn\nclass Gates(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.unit = nn.LSTM(4, 4)\n    def forward(self, x):\n        return self.unit(x)[0]\n"
    )
    asked = ("count", tmp_path / "own_gates.py:Gates", "--input", "2x1x4", "--counter", "closed-form,dispatch")
    header = run(*asked).out.splitlines()[2].split()
    assert header[:4] == ["path", "layer", "output", "params"]
    assert "closed" not in header
    assert run(*asked, "-f", "csv").out.startswith("agrees,path,layer,params,closed_form,dispatch,output")


def test_layers_are_of_one_network(run: Run) -> None:
    done = run(*ASKED, "r18", "--top", "3")
    assert (done.code, says(done.err, "--depth and --top", "one network")) == (2, True)
    assert run(*ASKED, "--depth", "0").code == 2
