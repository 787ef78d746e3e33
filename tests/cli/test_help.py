"""The help of every command: at most a screen of 80 columns, in whole words, without what only Python reads."""

from __future__ import annotations

import re

import pytest
from program import Run, caller, says

from e4profile.cli.help import HEADINGS
from e4profile.cli.main import listed
from e4profile.cli.topics import TOPICS
from e4profile.questions.options import MODEL

MOST_LINES = 40


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "80")
    return caller(capsys, monkeypatch)


@pytest.mark.parametrize("name", ["", *listed()])
def test_a_command_is_explained_on_a_screen(run: Run, name: str) -> None:
    code, text, _ = run(*name.split(), "--help")
    assert code == 0
    lines = text.splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 80
    assert not re.search(r"<(list|str|int|Path)|\[\[[A-Z]|\]\.\.\.\]|\.{4}", text), "what only Python reads"
    # a word that the wrapping divided would begin the next line
    assert not re.search(r"\w-\n +\w", text), "a divided word"
    if name:
        found = [line.removesuffix(":") for line in lines if re.fullmatch(r"[A-Z][a-z]+:", line)]
        assert [one for one in found if one in HEADINGS] == [one for one in HEADINGS if one in found] != []


@pytest.mark.parametrize("name", listed())
def test_no_option_is_left_out_of_the_help(run: Run, name: str) -> None:
    text = " ".join(run(*name.split(), "--help").out.split())
    for one in listed()[name].params:
        if one.param_type_name == "argument":
            assert one.metavar in text
            # how a network is named is said once
            assert one.metavar != MODEL or "e4profile help networks" in text
        elif not one.hidden and one.name != "help":
            shown = [option for option in (*one.opts, *one.secondary_opts) if re.search(rf"(?<![\w-]){option}\b", text)]
            assert shown, one.opts
            assert one.help


def test_topics_are_explained(run: Run) -> None:
    for topic in TOPICS:
        code, out, _ = run("help", topic)
        assert code == 0
        assert max(map(len, out.splitlines())) <= 80
    assert says(run("help", "costs").out, "forward-peak", "without gradients")
    assert run("help", "guard", "diff").out == run("guard", "diff", "--help").out
    assert run("help").out == run("--help").out
    code, out, err = run("help", "network")
    assert (code, out) == (2, "")
    assert "did you mean networks" in err
