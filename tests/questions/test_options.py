"""Options that several commands share mean one thing wherever they are."""

from __future__ import annotations

from typing import get_origin

import pytest

from e4profile.cli.main import _ENTRIES
from e4profile.errors import SettingError, UnknownNameError
from e4profile.questions.ask import options_of
from e4profile.questions.match.targets import wanted
from e4profile.questions.memory.command import memory
from e4profile.questions.options import MODEL, overrides, resolve_together
from e4profile.subjects.inputs import parse_inputs
from e4profile.subjects.named import split_pairs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,1,1", [1, 1, 1]), ("[1, 2]", [1, 2]), ("0.5,true", [0.5, True]), ("7", 7),
        ("relu,gelu", "relu,gelu"), ("1,x", "1,x"), ('"1,1"', "1,1"),
    ],
)  # fmt: skip
def test_numbers_with_commas_are_a_list_and_words_a_text(text: str, value: object) -> None:
    assert overrides([f"blocks={text}"]) == {"blocks": value}


def test_set_is_for_every_network_and_arg_is_the_same_but_for_code_beside_cards() -> None:
    code = "e4profile.layers:LiftingConv2d"
    inputs = ["1x1x8x8"]
    own = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "group": "p4"}

    def arguments(names: list[str], settings: dict[str, object], for_code: dict[str, object]) -> list[object]:
        found = resolve_together(names, settings, inputs, for_code)
        return [one.arguments.get("group") for one in found]

    assert arguments(["e4net", "p4-cnn"], {"group": "p4m"}, {}) == ["p4m", "p4m"]
    assert arguments(["e4net"], {}, {"group": "p4m"}) == ["p4m"]
    assert arguments([code], own, {"group": "p4m"}) == ["p4m"]
    assert arguments(["e4net", code], {"group": "p4m"}, own) == ["p4m", "p4"]
    with pytest.raises(UnknownNameError, match="in_channels"):
        arguments(["e4net", code], own, {})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("width=8,16,act=gelu", ["width=8,16", "act=gelu"]), ("blocks=[1,a=2]", ["blocks=[1,a=2]"]),
        ("params=1,000,000, macs=2M", ["params=1,000,000", "macs=2M"]), ('note="a,b=c"', ['note="a,b=c"']),
        ("width,act=relu,gelu", ["width", "act=relu,gelu"]), ("x:=[1,2],y:=3", ["x:=[1,2]", "y:=3"]),
        ("name=it's,ok", ["name=it's,ok"]), ("", [""]),
    ],
)  # fmt: skip
def test_a_comma_before_a_key_divides_and_another_is_of_the_value(text: str, parts: list[str]) -> None:
    assert split_pairs(text) == parts


def test_inputs_side_by_side_and_sizes_with_commas_are_refused() -> None:
    found = parse_inputs(["image=1x3x8x8,mask=1x1x8x8:bool,steps:=[1,2]", "7"])
    assert [str(one) for one in found] == ["image=1x3x8x8", "mask=1x1x8x8:bool", "steps:=[1, 2]", "7"]
    with pytest.raises(SettingError, match=r"as 1x3x32x32$"):
        parse_inputs(["1,3,32,32"])
    with pytest.raises(SettingError, match="write sizes with x"):
        parse_inputs(["1x3x32x32,2"])


def test_lists_and_units_are_read_alike_by_every_command() -> None:
    """Each option that lists things takes them with commas; each time takes its unit; none takes a bare size."""
    for command in {one for entry in _ENTRIES.values() for one in (entry.run, *entry.below.values())}:
        for option in options_of(command):
            if option.info.metavar == "TIME" and option.kind is float:
                assert option.read("250ms") == pytest.approx(0.25 if option.flag.endswith("-s") else 0.25 / 60)
                assert option.read(2) == 2, option.flag
                with pytest.raises(SettingError, match="unit"):
                    option.read("3 parsecs")
                with pytest.raises(SettingError, match="must not be negative"):
                    option.read(-2)
            if option.info.metavar == "DEVICE" and command is not memory:
                assert option.read("cuda:1") == "cuda:1"
                with pytest.raises(SettingError, match=r"--device \(='tpu'\) must be 'cpu' or 'cuda'"):
                    option.read("tpu")
            if option.info.metavar == MODEL and get_origin(option.kind) is list:
                assert option.read("e4net,a=b(c=1, d=2)") == ["e4net", "a=b(c=1, d=2)"], command
    with pytest.raises(SettingError, match=r"50. is a size without its unit"):
        memory(["z2cnn"], fits="50")
    with pytest.raises(SettingError, match=r"50. is a size without its unit"):
        wanted("50", "memory")
