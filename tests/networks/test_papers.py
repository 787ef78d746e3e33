"""What the cards cite: every citation has an entry, every entry is cited, and CITATION.cff names them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e4profile.networks.cards import all_cards, find_card
from e4profile.networks.papers import bibliography, bibtex, cited_as, cited_by

ROOT = Path(__file__).resolve().parents[2]
OWN = "e4profile, by the pattern of the published family"


def test_every_card_cites_an_entry_and_every_entry_is_cited() -> None:
    without = {name for name, card in all_cards().items() if not cited_by(card)}
    assert {all_cards()[name].source for name in without} == {OWN}
    assert {key for card in all_cards().values() for key in cited_by(card)} == set(bibliography())
    assert set(cited_as().values()) == set(bibliography())


def test_no_source_names_a_year_that_has_no_entry() -> None:
    for card in all_cards().values():
        for source in (card.source, *(row.source for row in card.published)):
            rest = re.sub("|".join(map(re.escape, cited_as())), "", source)
            assert not re.search(r"\b(19|20)\d\d\b", rest), f"{card.name}: {source}"


@pytest.mark.parametrize(
    ("card", "keys"),
    [
        ("e4net", ["he2021efficient"]),
        ("p4-sa", ["romero2021group", "he2021efficient"]),
        ("alpha-p4-cnn", ["romero2020attentive", "he2021efficient"]),
        ("resnet18", ["he2016deep"]),
        ("d4resnet18", ["klee_equivision"]),
    ],
)
def test_the_network_comes_before_who_measured_it(card: str, keys: list[str]) -> None:
    assert cited_by(find_card(card)) == keys
    assert bibtex([*keys, *keys]).count("@") == len(keys)


def test_an_entry_is_well_formed() -> None:
    for key, entry in bibliography().items():
        assert entry.count("{") == entry.count("}")
        fields = dict(re.findall(r"^  (\w+) += \{(.+)\},?$", entry, re.MULTILINE))
        assert {"title", "author"} <= set(fields), key
        assert {"url", "eprint"} & set(fields), key
        assert len(fields) == entry.count("\n") - 1, key
        if "year" in fields and key[-1].isalpha():
            assert fields["year"] in key


def test_the_citation_file_has_each_of_them() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    titles = re.findall(r'^    title: "(.*)"$', text, re.MULTILINE)
    assert titles == [re.search(r"title +=\s\{(.*)\}", entry)[1] for _, entry in sorted(bibliography().items())]  # type: ignore[index]
    for entry in bibliography().values():
        for number in re.findall(r"eprint +=\s\{(.*)\}", entry):
            assert f'"arXiv:{number}"' in text
    assert re.search(r"^date-released: \d{4}-\d\d-\d\d$", text, re.MULTILINE)
