from __future__ import annotations

from pathlib import Path

import pytest

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
from e4profile.networks.card_reader import parse_card
from e4profile.networks.cards import CardError, all_cards, find_card

HEAD = 'name = "x"\nnetwork = "rot_mnist"\ninput = [1, 28, 28]\n'
ARGUMENTS = '[arguments]\ngroup = "p4"\nwidth = 4\n'
ROW = '[[published]]\ntable = "9"\norder = 1\nrow = "X"\nsource = "nowhere"\n'
PARAMS = '[published.params]\nvalue = "18.8K"\nverdict = "reproduced"\n'
FLOPS = '[published.flops]\nvalue = "17M"\nverdict = "reproduced"\nconvention = "printed"\n'


def test_a_whole_card() -> None:
    card = parse_card(HEAD + ARGUMENTS + ROW + PARAMS + FLOPS, "f.toml")
    assert (card.title, card.input, card.arguments) == ("x", (1, 28, 28), {"group": "p4", "width": 4})
    assert [cell.quantity for cell in card.published[0].cells] == ["params", "flops"]
    assert card.build("meta").training is False


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("x = = 3", "", "not TOML"),
        (HEAD.replace("name", "nmae"), "nmae", "unknown key"),
        ("network = 'a'\ninput = [1, 2, 3]", "name", "missing"),
        (HEAD.replace('"x"', "3"), "name", "must be a text"),
        (HEAD.replace("[1, 28, 28]", "[1, 28]"), "input", "three positive integers"),
        (HEAD.replace("[1, 28, 28]", "[1, 0, 28]"), "input", "three positive integers"),
        (HEAD.replace("[1, 28, 28]", "[true, 28, 28]"), "input[0]", "True must be a whole number"),
        (HEAD.replace("[1, 28, 28]", "28"), "input", "28 must be a list"),
        (HEAD + 'published = "no"', "published", "'no' must be a list"),
        (HEAD + "published = [3]", "published[0]", "must be a table"),
        (HEAD + ROW.replace("order = 1", "order = true"), "published[0].order", "True must be a whole number"),
        (HEAD + ROW.replace('row = "X"\n', ""), "published[0].row", "missing"),
        (HEAD + ROW + "colour = 3", "published[0].colour", "unknown key"),
        (HEAD + ROW + PARAMS.replace('"18.8K"', "18.8"), "published[0].params.value", "must be a text"),
        (HEAD + ROW + PARAMS.replace("18.8K", "18.8Q"), "published[0].params.value", "printed figure"),
        (HEAD + ROW + PARAMS.replace('"reproduced"', '"fine"'), "published[0].params.verdict", "must be one of"),
        (HEAD + ROW + PARAMS.replace('"reproduced"', '"unresolved"'), "published[0].params.evidence", "must say why"),
        (HEAD + ROW + PARAMS + 'rounding = "up"', "published[0].params.rounding", "must be one of"),
        (HEAD + ROW + PARAMS + 'note = "up"', "published[0].params.note", "unknown key"),
        (HEAD + ROW + FLOPS.replace("printed", "macks"), "published[0].flops.", "did you mean macs"),
        (HEAD + ROW + FLOPS.replace('convention = "printed"', ""), "published[0].flops.convention", "missing"),
    ],
)
def test_an_error_names_file_key_and_reason(text: str, key: str, reason: str) -> None:
    with pytest.raises(CardError) as error:
        parse_card(text, "some/f.toml")
    assert str(error.value).startswith(f"some/f.toml: {key}")
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        (HEAD.replace("rot_mnist", "rot_mnst") + ARGUMENTS, "f.toml: network: ", "did you mean rot_mnist"),
        (HEAD + ARGUMENTS + "widht = 3\n", "f.toml: arguments.widht: ", "did you mean width"),
        (HEAD + "[arguments]\nwidth = 3\n", "f.toml: arguments: ", "lacks group"),
    ],
)
def test_what_only_building_finds_names_the_file_too(text: str, where: str, reason: str) -> None:
    with pytest.raises(CardError) as error:
        parse_card(text, "f.toml").build("meta")
    assert str(error.value).startswith(where)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dropout": 2}, "dropout probability has to be between 0 and 1"),
        ({"dropout": "x"}, "dropout='x'"),
        ({"width": 10**30}, "cannot be built"),
        ({"width": 2.5}, r"width (=2.5) must be a positive integer"),
        ({"group": 4}, "group (=4) must be a name"),
        ({"kernel": 99_999_999}, "must be at most"),
    ],
)
def test_a_value_that_the_network_refuses_is_one_line(change: dict, reason: str) -> None:
    with pytest.raises(E4ProfileError) as error:
        find_card("e4net").with_arguments(change).build("meta")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_an_input_that_the_network_cannot_take_is_refused_with_the_layer() -> None:
    from e4profile.subjects.subject import of_card
    from e4profile.witnesses.counts.measure import measure

    for size, layer in (("[1, 2, 2]", "layer4.pool"), ("[3, 28, 28]", "layer1.conv")):
        card = parse_card(HEAD.replace("[1, 28, 28]", size) + ARGUMENTS, "f.toml")
        with pytest.raises(SettingError, match=layer):
            measure(of_card(card), ("closed-form", "dispatch"))


def test_finding_cards(tmp_path: Path) -> None:
    assert find_card("E4NET") is all_cards()["e4net"]
    with pytest.raises(UnknownNameError, match="did you mean e4net"):
        find_card("e4nt")
    with pytest.raises(CardError, match=r"no\.toml: cannot be read: No such file"):
        find_card(str(tmp_path / "no.toml"))
    with pytest.raises(CardError, match="cannot be read"):
        find_card(str(tmp_path.with_suffix(".toml")))
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + ARGUMENTS)
    assert find_card(str(path)).name == "x"
    path.write_bytes(b"\xff\xff")
    with pytest.raises(CardError, match="cannot be read"):
        find_card(str(path))


def test_slices_and_channels_per_slice_replace_each_other() -> None:
    card = find_card("e4net")
    assert card.arguments["slices"] == 2
    by_channels = card.with_arguments({"channels_per_slice": 4})
    assert "slices" not in by_channels.arguments
    assert by_channels.build("meta").get_submodule("layer2.conv").slices == 4
    assert "channels_per_slice" not in by_channels.with_arguments({"slices": 1}).arguments
    with pytest.raises(UnknownNameError, match="unknown argument of e4net 'widht'; did you mean width"):
        card.with_arguments({"widht": 3})


def test_an_argument_is_the_cards_or_else_the_topologys() -> None:
    card = find_card("e4net")
    assert [card.argument(name) for name in ("width", "layer", "nonsense", "group")] == [16, "e4", None, "p4"]


def test_building_keeps_the_random_state_and_is_the_same_for_the_same_seed() -> None:
    import torch

    card, state = find_card("e4net").with_arguments({"width": 2}), torch.get_rng_state()
    first, again, other = card.build("cpu"), card.build("cpu"), card.build("cpu", seed=1)
    assert torch.equal(state, torch.get_rng_state())
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", all_cards())
def test_every_card_says_where_its_figures_are_from(name: str) -> None:
    card = all_cards()[name]
    assert card.title
    assert card.source
    card._check_arguments()
    for row in card.published:
        assert row.source
        card.with_arguments(row.arguments)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("reduction = 3", r"mine.toml: arguments.reduction: reduction \(=3\) must divide c_in \(=4\)"),
        ("kernel = 2", r"mine.toml: arguments.kernel: kernel \(=2\) must be odd"),
        ("encoder_norm = 'no'", r"mine.toml: arguments.encoder_norm: encoder_norm \(='no'\) must be true or false"),
        ("layer = 'e5'", r"mine.toml: arguments.layer: layer \(='e5'\)"),
        ("dropout = 2", r"mine.toml cannot be built with .*dropout=2"),
        ("layer = 'group'\nreduction = 2", r"mine.toml: arguments.reduction: reduction \(=2\) applies to E4 layers"),
    ],
)
def test_a_bad_value_in_a_card_file_is_named_with_its_key(tmp_path: Path, more: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + ARGUMENTS + more)
    with pytest.raises(E4ProfileError, match=said):
        find_card(str(path)).build()


def test_a_bad_group_in_a_card_file_is_named_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + ARGUMENTS.replace("p4", "p5x"))
    with pytest.raises(CardError, match=r"mine.toml: arguments.group: unknown group 'p5x'"):
        find_card(str(path)).build()


def test_a_value_from_elsewhere_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + ARGUMENTS + "reduction = 2")
    with pytest.raises(SettingError, match=r"^reduction \(=3\) must divide"):
        find_card(str(path)).with_arguments({"reduction": 3}).build()
    with pytest.raises(SettingError, match=r"^reduction \(=3\) must divide"):
        find_card("e4net").with_arguments({"reduction": 3}).build()


@pytest.mark.parametrize(
    ("name", "arguments", "refused"),
    [
        ("p4-r18", {"reduction": 2}, "reduction"),
        ("p4-r18", {"slices": 2}, "slices"),
        ("e4net", {"layer": "group", "encoder_norm": True}, "encoder_norm"),
        ("p4-r18", {"reduction": 1}, None),
        ("p4-r18", {"layer": "e4", "reduction": 2, "width": 8}, None),
        ("e4net-large", {"layer": "group"}, None),
        ("alpha-p4-cnn", {"reduction": 1}, None),
    ],
)
def test_what_only_e4_layers_have_is_refused_without_them(name: str, arguments: dict, refused: str | None) -> None:
    card = find_card(name).with_arguments(arguments)
    if refused is None:
        card.build()
    else:
        said = rf"{refused} \(={arguments[refused]}\) applies to E4 layers, and {name} has none"
        with pytest.raises(SettingError, match=said):
            card.build()


def test_a_card_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + ARGUMENTS, encoding="utf-8-sig")
    assert find_card(str(path)).name == "x"


@pytest.mark.parametrize(("symbol", "argument"), [("r", "reduction"), ("s", "slices"), ("k", "kernel")])
def test_a_symbol_of_the_papers_is_told_the_argument(symbol: str, argument: str) -> None:
    with pytest.raises(SettingError, match=f"unknown argument of e4net '{symbol}'; did you mean {argument}\\?"):
        find_card("e4net").with_arguments({symbol: 2})
    with pytest.raises(UnknownNameError):
        find_card("resnet18").with_arguments({symbol: 2})


def test_what_does_not_divide_is_told_what_does() -> None:
    card = find_card("e4net")
    for name, of in (("reduction", "c_in"), ("slices", "c_out"), ("channels_per_slice", "c_out")):
        with pytest.raises(SettingError, match=rf"{name} \(=3\) must divide {of} \(=16\): 1, 2, 4, 8, 16$"):
            card.with_arguments({name: 3}).build()
