"""``--execution`` on every command that has it: the same network, executed another way."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from program import Run, says
from torch import nn

from e4profile.errors import SettingError, UnknownNameError
from e4profile.layers import GroupConv2d
from e4profile.networks.cards import all_cards
from e4profile.questions.published import rows
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import measure
from e4profile.witnesses.timing import peaks

SMALL = ("--set", "width=4", "--set", "blocks=[1]")
NET = """
    from torch import nn
    from e4profile.layers import GroupConv2d

    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.lift = nn.Conv2d(3, width * 8, 3, padding=1)
            self.mix = GroupConv2d(width, width, 3, group="p4m", padding=1)

        def forward(self, x):
            return self.mix(self.lift(x).relu()).mean((2, 3))

    ready = Net()

    def shared():
        return ready

    def needs(width):
        return Net(width)
"""
MIX = {"bank": 4 * 4 * 9 * 64 * 64, "irreps": 4 * 4 * 9 * 12 * 64}
LIFT = 3 * 4 * 8 * 9 * 64


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "groups.py").write_text(dedent(NET), encoding="utf-8")
    return "groups.py"


def test_a_card_takes_it_as_its_argument(run: Run) -> None:
    given = run("count", "p4m-r18", *SMALL, "--execution", "irreps", "--counter", "dispatch", "-f", "json")
    wanted = run("count", "p4m-r18", *SMALL, "--set", "execution=irreps", "--counter", "dispatch", "-f", "json")
    assert given.code == 0
    assert given.out == wanted.out
    assert json.loads(given.out)["arguments"]["execution"] == "irreps"
    own = run("count", "p4m-r18", *SMALL, "--execution", "bank", "--counter", "dispatch", "-f", "json")
    assert own.out == run("count", "p4m-r18", *SMALL, "--counter", "dispatch", "-f", "json").out


@pytest.mark.parametrize("execution", ["bank", "irreps"])
@pytest.mark.parametrize("name", ["Net", "ready", "shared"])
def test_a_user_defined_model_is_switched_on_a_copy(run: Run, net: str, name: str, execution: str) -> None:
    asked = ("--input", "1x3x8x8", "--execution", execution, "--counter", "closed-form,dispatch")
    code, out, _ = run("count", f"{net}:{name}", *asked, "-f", "json")
    found = json.loads(out)
    assert code == 0
    assert found["arguments"] == {"execution": execution}
    assert found["totals"]["dispatch"] == LIFT + MIX[execution]
    assert {row["path"]: row["agrees"] for row in found["layers"]} == {"lift": True, "mix": True}
    assert f"{net}:{name}(execution={execution!r})" in run("count", f"{net}:{name}", *asked).out


def test_a_module_in_hand_stays_as_it_is() -> None:
    model = nn.Sequential(GroupConv2d(2, 3, 3, group="p4", padding=1))
    before = copy.deepcopy(model.state_dict())
    subject = resolve(model, example=(1, 8, 6, 6))
    switched = subject.executed("irreps")
    assert switched.has_executions
    assert measure(switched).dispatch.macs * 16 == measure(subject).dispatch.macs * 6
    assert switched.build() is not model
    assert subject.build() is model
    assert model[0].execution == "bank"
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    with pytest.raises(UnknownNameError, match="fft"):
        subject.executed("fft")


def test_a_network_without_group_convolutions_is_named(run: Run) -> None:
    code, _, err = run("count", "r18", *SMALL, "--execution", "irreps")
    assert code == 2
    assert says(err, "--execution irreps", "no group convolution", "r18")
    code, out, err = run(
        "count", "r18", "p4m-r18", *SMALL, "--execution", "irreps", "--counter", "dispatch", "-f", "json"
    )
    assert code == 0
    assert says(err, "no group convolution over C_n or D_n in r18", "nothing to switch")
    assert ["execution" in one["arguments"] for one in json.loads(out)] == [False, True]


def test_two_executions_are_not_one(run: Run) -> None:
    code, _, err = run("count", "p4m-r18", "--set", "execution=irreps", "--execution", "bank")
    assert code == 2
    assert says(err, "--execution bank", "--set execution=irreps")
    code, _, err = run("sweep", "p4m-r18", "--vary", "execution=bank,irreps", "--execution", "bank")
    assert code == 2
    assert says(err, "--execution bank", "--vary execution")
    code, _, err = run("count", "p4m-r18", "--execution", "fft")
    assert code == 2
    assert says(err, "unknown execution 'fft'", "bank", "irreps", "auto")


def test_an_execution_of_the_layers_own_is_not_overwritten() -> None:
    name = next(name for name, card in all_cards().items() if card.argument("execution") == "factored")
    with pytest.raises(SettingError, match=f"'composed'.*{name}"):
        resolve(name, arguments={"execution": "composed"}).executed("irreps")


def test_check_holds_in_another_execution(run: Run) -> None:
    code, out, _ = run("check", "p4m-r18", "r18", "--random", "2", "--execution", "irreps", "-f", "json")
    rows = {row["model"].partition(":")[0]: row for row in json.loads(out)}
    assert code == 0
    assert rows["p4m-r18"]["macs"] * 5 < 5_619_205_856
    assert (rows["p4m-r18"]["cells"], rows["r18"]["cells"]) == (0, 2)
    assert all(row["agrees"] for row in rows.values())
    plain = json.loads(run("check", "p4m-r18", "-f", "json").out)[0]
    assert (plain["macs"], plain["cells"]) == (5_619_205_856, 2)


def test_memory_time_and_roofline_take_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # what the machine reaches is no part of it
    monkeypatch.setattr(peaks, "cached_peaks", lambda *_, **__: peaks.Peaks(1e9, 1e9, "cpu", "float32", 1, {}))
    quick = ("--max-run-time-s", "0.01")
    saved = [
        json.loads(run("memory", "p4m-r18", *SMALL, "--execution", one, "-f", "json").out)[0]
        for one in ("bank", "irreps")
    ]
    assert saved[0]["agrees"]
    assert saved[1]["agrees"]
    assert saved[0]["saved_measured_bytes"] > saved[1]["saved_measured_bytes"]
    code, out, _ = run("time", "p4m-r18", *SMALL, "--execution", "irreps", "--against", "p4m-r18", *quick, "-f", "json")
    assert code == 0
    (row,) = json.loads(out)
    assert ("execution=irreps" in row["network"], "execution" in row["against"]) == (True, False)
    code, out, _ = run("time", "p4m-r18", "--roofline", *SMALL, "--execution", "irreps", *quick, "-f", "json")
    assert code == 0
    macs = {row["path"]: row["macs"] for row in json.loads(out)}
    assert macs["stage1.block1.residual.body.conv1"] == 4 * 4 * 9 * 12 * 32 * 32


def test_sweeps_take_it(run: Run, net: str) -> None:
    settings = ("--group", "p4", "-r", "1", "-s", "1", "-k", "3", "--width", "2")
    grid = ("sweep", *settings, "--counter", "torch", "-f", "json")
    found = [json.loads(run(*grid, "--no-plots", *given).out) for given in ((), ("--execution", "irreps"))]
    for bank, irreps in zip(*found, strict=True):
        assert bank["agrees"]
        assert irreps["agrees"]
        assert bank["macs_formula"] > irreps["macs_formula"]
        # the paper's formula is of filter banks
        assert bank["macs_printed_form"] == irreps["macs_printed_form"]
    asked = ("--input", "1x3x8x8", "--execution", "irreps", "-f", "json")
    code, out, _ = run("sweep", f"{net}:needs", "--vary", "width=4,8", *asked)
    assert code == 0
    assert [one["macs"] for one in json.loads(out)] == [LIFT + MIX["irreps"], 2 * LIFT + 4 * MIX["irreps"]]
    mixed = ("sweep", "p4m-r18", "--execution", "irreps", "-f", "json", "--vary")
    assert len(json.loads(run(*mixed, "group=z2,p4m").out)) == 2
    code, _, err = run(*mixed, "group=z2")
    assert code == 2
    assert says(err, "no group convolution", "p4m-r18")


def test_a_published_cell_has_no_verdict_in_another_execution(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = all_cards()
    monkeypatch.setattr(rows, "all_cards", lambda: {name: cards[name] for name in ("r18", "p4m-r18")})
    asked = ("table", "4", "--execution", "irreps")
    code, out, _ = run(*asked, "-f", "json")
    cells = {(one["row"], one["quantity"]): one for one in json.loads(out)}
    published = {(one["row"], one["quantity"]): one for one in json.loads(run("published", "4", "-f", "json").out)}
    assert code == 0
    assert cells["p4m-R18", "flops"]["verdict"] == "another execution"
    assert cells["p4m-R18", "flops"]["executed_macs"] * 5 < 5_619_205_856
    for key, cell in cells.items():
        if cell["built"] == published[key]["built"]:
            assert cell == published[key]
    assert {key for key, one in cells.items() if one["verdict"] == "another execution"} == {("p4m-R18", "flops")}
    assert published["R18", "flops"]["verdict"] == "reproduced"
    assert "another execution: 1 built as --execution says" in run(*asked).out
