"""``models`` on the command line: a part of the cards, and the BibTeX of what they cite."""

from __future__ import annotations

import json
import re

import pytest
from program import Run


def names(run: Run, *options: str) -> list[str]:
    return [row["model"] for row in json.loads(run("cards", *options, "-f", "json").out)]


def test_a_part_of_the_cards(run: Run) -> None:
    assert names(run, "--table", "4") == ["p4-e4r18", "p4-r18", "p4m-e4r18-printed", "p4m-r18", "r18"]
    assert names(run, "--table", "4", "--group", "P4M") == ["p4m-e4r18-printed", "p4m-r18"]
    every = names(run)
    assert set(names(run, "--group", "p4")) < set(every)
    assert len(names(run, "--group", "p4")) > 3


def test_the_notes_say_what_the_endings_of_the_names_shown_mean(run: Run) -> None:
    both = run("cards").out
    assert "NAME-fast: the narrow variant" in both
    assert "NAME-printed: " in both
    assert "published rows: rows of published tables" in both
    assert "NAME-fast" not in run("cards", "--table", "4").out


def test_a_card_is_shown_with_the_arguments_in_its_name(run: Run) -> None:
    shown = {row["name"]: row["value"] for row in json.loads(run("cards", "r18(width=8)", "-f", "json").out)}
    released = {row["name"]: row["value"] for row in json.loads(run("cards", "r18", "-f", "json").out)}
    assert shown == {**released, "width": "8"} != released
    assert "published figures belong to r18 unchanged, without the width" in run("cards", "r18(width=8)").out
    code, _, err = run("cards", "r18(widht=8)")
    assert (code, "did you mean width" in err) == (2, True)


def test_bibtex_of_a_card_and_of_all(run: Run) -> None:
    assert run("cards", "e4net", "--bibtex").out.startswith("@inproceedings{he2021efficient,\n")
    cited = re.findall(r"(?m)^@\w+\{(\w+),$", run("cards", "--bibtex").out)
    assert len(set(cited)) == len(cited) >= 10
    assert {"he2021efficient", "cohen2016group", "weiler2019general"} <= set(cited)
    assert run("cards", "--table", "separable-mnist", "--bibtex").out.count("@") == 1
    code, out, err = run("cards", "d8resnet50", "--bibtex")
    assert (code, out) == (0, "")
    assert "cites no paper" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--table", "5"), "unknown table of cards '5'"),
        (("--group", "p5"), "did you mean p4"),
        (("e4net", "--group", "p4"), "omit the name"),
        (("e4net", "--bibtex", "-f", "json"), "omit --format json"),
    ],
)
def test_what_cannot_be_listed_is_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("cards", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
