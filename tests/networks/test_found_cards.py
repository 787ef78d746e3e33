"""Cards that are not the package's: where they are found, and what is said of one that cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from e4profile.networks import found_cards as places
from e4profile.networks.cards import CardError, all_cards, built_in_cards, find_card
from e4profile.networks.found_cards import found_cards, looking_in

CARD = 'name = "{}"\ninput = [3, 8, 8]\nbuilder = "net.py:build"\n'


def write(folder: Path, name: str, text: str = CARD) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text.format(name))
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_folder_that_is_asked_for_is_searched_while_it_is_asked_for(tmp_path: Path) -> None:
    with looking_in([write(tmp_path / "mine", "one")]):
        assert find_card("ONE").file == "mine/one.toml"
        assert set(all_cards()) == {*built_in_cards(), "one"}
    assert "one" not in all_cards()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", '[tool.e4profile]\ncards = ["cards", "more/two.toml"]'),
        ("e4profile.toml", 'cards = ["cards", "more/two.toml"]'),
        ("e4profile.toml", '[tool.e4profile]\ncards = ["cards", "more/two.toml"]'),
    ],
)
def test_a_project_lists_folders_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    write(tmp_path / "cards", "one")
    write(write(tmp_path / "more", "two"), "three")
    (tmp_path / file).write_text(text)
    (tmp_path / "below" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "below" / "here")
    assert list(found_cards(distributions=False)) == ["one", "two"]
    assert find_card("two").name == "two"
    with looking_in(project=tmp_path.parent):
        assert found_cards(distributions=False) == {}


def test_a_distribution_names_a_package_of_cards_that_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "site" / "atlas_of_mine" / "cards", "shipped")
    (tmp_path / "site" / "atlas_of_mine" / "__init__.py").write_text("raise RuntimeError('imported')")
    info = tmp_path / "site" / "atlas_of_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: atlas-of-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{places.GROUP}]\nall = atlas_of_mine.cards\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert Path(find_card("shipped").file) == tmp_path / "site" / "atlas_of_mine" / "cards" / "shipped.toml"
    assert "atlas_of_mine" not in sys.modules
    (info / "entry_points.txt").write_text(f"[{places.GROUP}]\nall = atlas_of_nobody\n")
    places._of_distributions.cache_clear()
    with pytest.raises(
        CardError, match=r"^atlas-of-mine: entry point e4profile.cards: all = 'atlas_of_nobody': is not a p"
    ):
        all_cards()
    assert find_card("e4net").name == "e4net"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CARD.replace("{}", "e4net"), "mine/x.toml: name: 'e4net' is a card of e4profile; give it another name"),
        (CARD.replace("{}", "My net"), "mine/x.toml: name: 'My net' must be letters, digits and any of . _ + -"),
        (CARD.replace("{}", "a"), "mine/x.toml: name: 'a' is the name of mine/a.toml too; give one of them another"),
        (CARD.replace("input", "inputs"), "mine/x.toml: inputs: unknown key 'inputs'; did you mean input"),
        (CARD.replace("input = [3, 8, 8]", ""), "mine/x.toml: input: missing; for example input = [3, 32, 32]"),
        (CARD.replace('builder = "net.py:build"', ""), "mine/x.toml: network: missing; name a topology of e4profile"),
        (CARD.replace(":build", ""), "mine/x.toml: builder: 'net.py' must name code behind a colon, for example"),
        (CARD.replace("net.py:build", ""), "mine/x.toml: network: '' names no topology; give its name, or builder"),
        (CARD.replace("[3, 8, 8]", "[0]"), "mine/x.toml: input: [0] must be positive integers, the sizes without"),
        (CARD.replace("[3, 8, 8]", '"3x8"'), "mine/x.toml: input: '3x8' must be a list"),
        (CARD + 'network = "rot_mnist"', "mine/x.toml: builder: 'net.py:build' and network 'rot_mnist' are both given"),
        (
            CARD.replace('builder = "net.py:build"', 'network = "rot_mnist"\ninstall = "pip"'),
            "mine/x.toml: install: 'pip' is about a builder's package: name a builder, or omit install",
        ),
        (
            CARD + '[[published]]\ntable = "t"\norder = 1\nrow = "r"\nsource = "s"\nparams = "5M"',
            "mine/x.toml: published[0].params: '5M' must be a table, for example params = { value = ",
        ),
        (
            CARD + '[[published]]\ntable = "all"\norder = 1\nrow = "r"\nsource = "s"\n',
            "mine/x.toml: published[0].table: 'all' has a meaning of its own; give another name",
        ),
    ],
)
def test_a_card_that_cannot_be_used_is_named_with_key_value_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    write(write(tmp_path / "mine", "a"), "x", text)
    with looking_in([Path("mine")]), pytest.raises(CardError) as error:
        # also where one of the package's cards is meant
        find_card("r18")
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_of_several_bad_cards_each_has_a_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "mine", name, CARD.replace("input", "inputs"))
    with looking_in([Path("mine")]), pytest.raises(CardError, match=r"^mine/a\.toml: inputs: ") as error:
        all_cards()
    assert error.value.details.startswith("e4profile: mine/b.toml: inputs: ")


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ('"cards"', "cards: 'cards' must be a list of folders or files, for example cards = [\"cards\"]"),
        ('["nowhere"]', "cards: 'nowhere': no such folder or file; name a folder that holds cards"),
        ('["empty"]', "cards: 'empty': the folder holds no card: put a card's .toml into it"),
    ],
)
def test_a_list_that_leads_nowhere_is_named(tmp_path: Path, listed: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pyproject.toml").write_text(f"[tool.e4profile]\ncards = {listed}")
    with pytest.raises(CardError) as error:
        find_card("e4net")
    assert str(error.value).startswith(f"{tmp_path}/pyproject.toml: {said}")
