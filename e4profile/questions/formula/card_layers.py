"""The values that a card's own layers give to the symbols of a closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from e4profile.errors import SettingError
from e4profile.layers import EquivariantLayer
from e4profile.layers.containers import trace
from e4profile.networks.cards import find_card
from e4profile.questions.formula.formulas import follows


def card_values(layer: type[EquivariantLayer], card_name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The values by the name of a symbol at the first such layer of a card, for one image, and where that is.

    Args:
        layer: a layer class.
        card_name: a card's name or file.
        given: values by the name of a symbol, which go before the card's; what follows from them follows.

    Raises:
        UnknownNameError: for a name that no card has.
        SettingError: for a card without such a layer, naming the closed forms that it has.
    """
    card = find_card(card_name)
    _, steps = trace(card.build(), card.input_shape())
    for step in steps:
        if type(step.form) is layer:
            found = {str(symbol): int(value) for symbol, value in step.form.dimensions(step.input_shape).items()}
            kept = {name: value for name, value in found.items() if name in given or not follows(name, given)}
            origin = f"{step.path}, the first {layer.__name__} of {card.name}"
            return {"B": 1, **kept, **given}, origin
    names = sorted({type(step.form).__name__ for step in steps if isinstance(step.form, EquivariantLayer)})
    raise SettingError(
        f"--of: {card.name} has no {layer.__name__}; its layers with a formula: {', '.join(names) or 'none'}"
    )
