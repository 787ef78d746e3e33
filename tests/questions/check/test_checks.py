from __future__ import annotations

import pytest
import torch

from e4profile.errors import SettingError, UnknownNameError
from e4profile.layers import E4Conv2d, GroupConv2d
from e4profile.networks.cards import all_cards
from e4profile.questions.check.checks import check_subject, random_cards, run_checks, select
from e4profile.subjects.subject import of_card, resolve
from e4profile.witnesses.counts import ledger


@pytest.mark.parametrize("name", ["e4net", "e4net-large-printed", "p4-e4r18", "p4m-r18", "r18"])
def test_cards_hold(name: str) -> None:
    result = check_subject(resolve(name))
    assert result.problems == ()
    assert result.agrees
    assert result.layers > 10


def test_random_settings_hold_and_are_reproducible() -> None:
    results = [check_subject(of_card(card)) for card in random_cards(30, 3)]
    assert [problem for result in results for problem in result.problems] == []
    again = [card.name for card in random_cards(30, 3)]
    assert again == [result.model for result in results]
    assert again != [card.name for card in random_cards(30, 4)]
    assert len(set(again)) == 30


def test_an_unknown_operator_fails_the_check_with_the_layer_named(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten, known = (torch.ops.aten.amax.default, torch.ops.aten.relu.default), ledger.family_of
    monkeypatch.setattr(ledger, "family_of", lambda func: None if func in forgotten else known(func))
    card = resolve("e4net").with_arguments({"width": 2})
    result = check_subject(card)
    assert not result.agrees
    problems = [p for p in result.problems if "unknown operator aten::amax" in p]
    assert problems == ["e4net: group_pool: unknown operator aten::amax, executed 1 times"]
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


def test_names() -> None:
    assert [card.name for card in select([], [], {})] == list(all_cards())
    assert next(result.model for result in run_checks(["e4net"], 1, 0)) == "e4net"
    with pytest.raises(UnknownNameError):
        select(["e4nt"], [], {})
    with pytest.raises(SettingError, match="random"):
        next(run_checks(["e4net"], -1))
