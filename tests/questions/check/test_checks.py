from __future__ import annotations

from pathlib import Path

import pytest
import torch
from program import says

from e4profile.errors import SettingError, UnknownNameError
from e4profile.layers import E4Conv2d, GroupConv2d
from e4profile.networks.cards import all_cards
from e4profile.questions.check.checks import check_subject, check_table, random_cards, run_checks, select
from e4profile.subjects.subject import of_card, resolve
from e4profile.witnesses.counts import ledger
from e4profile.witnesses.counts.measure import Coverage


@pytest.mark.parametrize("name", ["e4net", "e4net-large-printed", "p4-e4r18", "p4m-r18", "r18"])
def test_cards_hold(name: str) -> None:
    result = check_subject(resolve(name))
    assert result.problems == ()
    assert result.agrees
    assert result.layers > 10


def test_random_settings_hold_and_are_reproducible() -> None:
    results = [check_subject(of_card(card)) for card in random_cards(12, 3)]
    assert [problem for result in results for problem in result.problems] == []
    again = [card.name for card in random_cards(12, 3)]
    assert again == [result.model for result in results]
    assert again != [card.name for card in random_cards(12, 4)]
    assert len(set(again)) == 12


def test_an_unknown_operator_fails_the_check_with_the_layer_named(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten, known = (torch.ops.aten.amax.default, torch.ops.aten.relu.default), ledger.family_of
    monkeypatch.setattr(ledger, "family_of", lambda func: None if func in forgotten else known(func))
    card = resolve("e4net").with_arguments({"width": 2})
    result = check_subject(card)
    assert not result.agrees
    problems = [p for p in result.problems if "unknown operator aten::amax" in p]
    assert len(problems) == 1
    assert says(problems[0], "e4net", "group_pool", "aten::amax", "1 times")
    assert any("layer1.relu" in p and "aten::relu" in p for p in result.problems)


@pytest.mark.parametrize(
    ("layer", "table", "term", "quantity"),
    [
        (E4Conv2d, "macs", "aggregation", "aggregation"),
        (E4Conv2d, "macs", "squeeze", "convolution"),
        (E4Conv2d, "params", "generator bias", "params"),
        (E4Conv2d, "elements", "squeeze norm", "group_norm"),
        (GroupConv2d, "params", "weight", "params"),
    ],
)
def test_a_wrong_term_is_found_in_every_layer_that_has_it(
    layer: type, table: str, term: str, quantity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = dict(getattr(layer, table))
    monkeypatch.setattr(layer, table, {**terms, term: 2 * terms[term]})
    card = resolve("e4net").with_arguments({"width": 2, "layer": "e4" if layer is E4Conv2d else "group"})
    result = check_subject(card)
    for index in range(2, 8):
        assert any(f"e4net: layer{index}.conv" in p and f": {quantity}: closed form" in p for p in result.problems)


PARTLY = """
import torch
from torch import nn

class Partly(nn.Module):
    def __init__(self, inside=10, outside=2148, norm=False):
        super().__init__()
        self.known = nn.BatchNorm1d(10) if norm else nn.Linear(inside, 4)
        self.weight = nn.Parameter(torch.randn(10, outside))

    def forward(self, x):
        return self.known(x).sum() + (x @ self.weight).sum()
"""


@pytest.mark.parametrize(
    ("arguments", "coverage"),
    [
        ({"outside": 12}, "partial: 25% of the MACs, 27% of the parameters"),
        ({"outside": 200_000}, "partial: 0.002% of the MACs, 0.002% of the parameters"),
        ({"outside": 0}, "whole"),
    ],
)
def test_the_verdict_says_how_much_it_is_about(tmp_path: Path, arguments: dict[str, int], coverage: str) -> None:
    (tmp_path / "net.py").write_text(PARTLY)
    (result,) = run_checks([f"{tmp_path}/net.py:Partly"], inputs=["1x10"], arguments=arguments)
    assert result.agrees
    assert result.row()["coverage"] == coverage
    assert result.row()["partial"] is (coverage != "whole")
    said = check_table([result]).notes[0]
    partly = f"the network holds where it has a closed form: {coverage}"
    assert said == ("the network holds" if coverage == "whole" else partly)


SUMMED = """
import torch
from torch import nn

class Summed(nn.Module):
    def __init__(self, learned=False):
        super().__init__()
        self.known = nn.Linear(10, 4)
        weight = torch.randn(4, 3)
        self.weight = nn.Parameter(weight) if learned else weight

    def forward(self, x):
        return (self.known(x)[:, :, None] * self.weight.detach()).sum(1)
"""


@pytest.mark.parametrize(
    ("learned", "coverage"),
    [
        (False, "all but 12 MACs of summed products, which are not charged"),
        (True, "partial: 100% of the MACs, 79% of the parameters, without 12 MACs of summed products, which are not "
               "charged"),
    ],
)  # fmt: skip
def test_a_verdict_says_that_summed_products_are_not_charged(tmp_path: Path, learned: bool, coverage: str) -> None:
    (tmp_path / "net.py").write_text(SUMMED)
    (result,) = run_checks([f"{tmp_path}/net.py:Summed"], inputs=["1x10"], arguments={"learned": learned})
    assert result.agrees
    assert result.coverage == coverage
    assert check_table([result]).notes[0] == f"the network holds where it has a closed form: {coverage}"


def test_several_verdicts_name_the_networks_that_hold_in_part(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(PARTLY)
    name = f"{tmp_path}/net.py:Partly"
    results = list(run_checks(["e4net", name], inputs=["1x10"], arguments={"outside": 12}))
    named = f"{name} (partial: 25% of the MACs, 27% of the parameters)"
    assert check_table(results).notes[0] == f"all 2 networks hold where they have a closed form: {named}"


def test_closed_forms_of_no_macs_prove_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(PARTLY)
    (result,) = run_checks([f"{tmp_path}/net.py:Partly"], inputs=["2x10"], arguments={"norm": True})
    assert not result.agrees
    assert result.coverage.startswith("partial: 0% of the MACs, ")
    assert "none of them is proven" in result.problems[0]


@pytest.mark.parametrize(
    ("part", "of", "said"),
    [
        (40, 1_933_352, "0.002"), (1, 2, "50"), (1, 10**12, "0.0000000001"), (10**12 - 1, 10**12, "99.9999999999"),
        (0, 5, "0"), (5, 5, "100"), (999, 1000, "99.9"), (1, 100, "1"),
    ],
)  # fmt: skip
def test_no_share_is_rounded_to_nothing_or_to_all(part: int, of: int, said: str) -> None:
    assert str(Coverage(part, of, 0, 0, whole=False)) == (f"partial: {said}% of the MACs" if part else "none")


def test_names() -> None:
    assert [card.name for card in select([], [], {})] == list(all_cards())
    assert next(result.model for result in run_checks(["e4net"], 1, 0)) == "e4net"
    with pytest.raises(UnknownNameError):
        select(["e4nt"], [], {})
    with pytest.raises(SettingError, match="random"):
        next(run_checks(["e4net"], -1))
