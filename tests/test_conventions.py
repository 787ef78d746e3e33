from __future__ import annotations

from pathlib import Path

import pytest

from e4profile.conventions import CONVENTIONS, MAC_KINDS, NORM_KINDS, all_conventions, convention, rule_names
from e4profile.errors import SettingError, UnknownNameError

OPERATIONS = {
    "convolution": 1000, "linear": 200, "aggregation": 30, "attention": 7, "batch_norm": 11, "group_norm": 13,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("macs", 1237),
        ("flops", 2474),
        ("printed", 1200 + 5 * 24),
        ("fvcore", 1200 + 2 * 11 + 5 * 13),
        ("convolution", 1000),
    ],
)
def test_what_is_counted_as_what(name: str, total: int) -> None:
    assert convention(name).total(OPERATIONS) == total


def test_a_kind_that_a_convention_does_not_name_weighs_nothing() -> None:
    assert all(one.total({"no such kind": 5}) == 0 for one in CONVENTIONS.values())


def test_kinds_are_disjoint_and_every_convention_explains_itself() -> None:
    assert not set(MAC_KINDS) & set(NORM_KINDS)
    for name, one in CONVENTIONS.items():
        assert one.name == name
        assert one.meaning


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean macs"):
        convention("mac")


def test_a_rule_comes_as_a_file_and_so_does_ones_own(tmp_path: Path) -> None:
    assert list(all_conventions()) == [*CONVENTIONS, *rule_names()]
    for name in rule_names():
        assert (convention(name).name, bool(convention(name).source), convention(name).elementwise) == (
            name,
            True,
            True,
        )
    file = tmp_path / "mine.toml"
    file.write_text('meaning = "MACs and gelu"\n[weights]\nconvolution = 1\ngelu = 8\n')
    mine = convention(str(file))
    assert (mine.name, mine.total({"convolution": 10, "gelu": 2, "relu": 5}), mine.elementwise) == ("mine", 26, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[weights]\nadd = 1", "mine.toml: meaning: missing; for example meaning = "),
        ('meaning = "x"', "mine.toml: weights: missing; for example [weights] with add = 1"),
        (
            'meaning = "x"\n[weights]\ngelo = 1',
            "mine.toml: weights.gelo: unknown kind of operation 'gelo'; did you mean ",
        ),
        ('meaning = "x"\n[weights]\ngelu = 0.5', "mine.toml: weights.gelu: 0.5 must be a whole number"),
        ('meaning = "x"\nweight = 1\n[weights]', "mine.toml: weight: unknown key 'weight'; did you mean weights"),
        (
            'name = "macs"\nmeaning = "x"\n[weights]',
            "mine.toml: name: 'macs' is a convention of e4profile; give it anot",
        ),
        ("x = = 3", "mine.toml: not TOML"),
        (None, "mine.toml: cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_key_value_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("mine.toml").write_text(text)
    with pytest.raises(SettingError) as error:
        convention("mine.toml")
    assert str(error.value).startswith(said)
