"""Networks as they are named: a name for the row, the network, and arguments of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_nets import NET, write
from program import Run, says

from e4profile.errors import SettingError
from e4profile.subjects.named import Named, parse_named, split_named
from e4profile.subjects.subject import resolve

WORDS = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,5}", fullmatch=True).filter(
    lambda word: word.lower() not in ("none", "null", "true", "false")
)
VALUES = st.one_of(
    st.integers(-99, 99), st.booleans(), st.none(), st.lists(st.integers(0, 9), max_size=3),
    st.text("ab,=(){}[]: '", max_size=6),
)  # fmt: skip
NETWORKS = st.builds(
    Named,
    st.sampled_from(["e4net", "net.py:Net", "a.b:build", "folder (1)/it's.py:Net", "card.toml"]),
    st.dictionaries(WORDS, VALUES, max_size=3),
    st.one_of(st.just(""), WORDS, st.just("Ours (r=2)")),
)


def written(network: Named) -> str:
    values = {key: json.dumps(value).replace("null", "None") for key, value in network.arguments.items()}
    arguments = ", ".join(f"{key}={value}" for key, value in values.items())
    name = f"{network.name}=" if network.name else ""
    return f"{name}{network.reference}{f'({arguments})' if arguments else ''}"


@given(st.lists(NETWORKS, min_size=1, max_size=3))
def test_what_is_written_is_read(networks: list[Named]) -> None:
    texts = [written(one) for one in networks]
    assert [parse_named(text) for text in texts] == networks
    assert split_named(",".join(texts)) == texts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=e4net", "the name before = is empty"),
        ("Ours= ", "the network behind = is empty"),
        ("e4net(width=8", "unbalanced parentheses"),
        ("e4net(width=8))", "unbalanced parentheses"),
        ("Ours=e4net)", "unbalanced parentheses"),
        ("net.py:Net(name='a)", "unbalanced parentheses or quotes"),
        ("e4net(8)", "'8' must be ARGUMENT=VALUE"),
        ("e4net(width=)", "'width=' must be ARGUMENT=VALUE"),
        ("e4net(width=8, width=9)", "width is given twice"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, words: str) -> None:
    with pytest.raises(SettingError, match=words.replace("(", r"\(")):
        resolve(text)


def test_a_file_is_itself_however_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0").mkdir()
    write(tmp_path / "lr=0", NET)
    file = next((tmp_path / "lr=0").glob("*.py")).name
    assert resolve(f"lr=0/{file}:Net", ["1x3x8x8"]).row == ""
    assert parse_named(f"lr=1/{file}:Net").name == "lr"


def test_every_network_has_its_own_arguments(run: Run, net: str) -> None:
    small, large = f"Small={net}:build(width=4)", f"{net}:build(width=6)"
    shared = ("--input", "2x3x8x8", "--arg", "width=5")
    found = run("count", small, large, f"{net}:build", "e4net(width=8)", *shared, "--counter", "dispatch", "-f", "json")
    assert found.code == 0
    rows = json.loads(found.out)
    assert [row["arguments"]["width"] for row in rows] == [4, 6, 5, 8]
    assert (rows[0]["name"], rows[0]["model"]) == ("Small", f"{net}:build")
    assert "name" not in rows[1]
    table = run("count", small, large, *shared, "--counter", "dispatch", "-f", "csv").out.splitlines()
    assert table[1].startswith("Small,")


def test_a_name_stays_where_arguments_change() -> None:
    named = resolve("Ours=e4net(width=8)")
    assert (named.full_name, named.short_name) == ("Ours", "Ours")
    assert named.label.startswith("Ours: ")
    assert named.with_arguments({"reduction": 2}).full_name == "Ours reduction=2"


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        (("A=e4net", "A=p4-cnn"), ("'A' is given 2 times",)),
        (("p4-cnn=e4net", "p4-cnn"), ("'p4-cnn' is given 2 times",)),
        (("e4net(widht=8)",), ("unknown argument of e4net 'widht'", "did you mean width")),
        (("A=nothere(width=8)",), ("unknown model 'nothere'",)),
        (("e4net(width=8",), ("unbalanced",)),
    ],
)
@pytest.mark.parametrize("command", ["count", "memory", "check", "time"])
def test_bad_names_are_one_line_and_exit_code_2(
    run: Run, command: str, networks: tuple[str, ...], words: tuple[str, ...]
) -> None:
    found = run(command, *networks)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert says(found.err, *words)
