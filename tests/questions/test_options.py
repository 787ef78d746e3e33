"""Options that several commands share mean one thing wherever they are."""

from __future__ import annotations

import pytest

from e4profile.errors import UnknownNameError
from e4profile.questions.options import overrides, resolve_together


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
