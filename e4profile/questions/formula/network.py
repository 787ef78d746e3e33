"""The named terms of a card's network: of every layer, with the values that it has there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e4profile.errors import UnknownNameError
from e4profile.layers import trace
from e4profile.layers.terms import evaluate
from e4profile.networks.cards import find_card
from e4profile.questions.columns import table_of_rows
from e4profile.questions.formula.formulas import find_layer
from e4profile.show.notation import written
from e4profile.show.tables import Table
from e4profile.subjects.named import parse_named
from e4profile.symbols import B

if TYPE_CHECKING:
    from e4profile.networks.cards import Card


def card_named(name: Any) -> Card | None:
    """The card of that name, with its arguments; None where it names a layer, or nothing."""
    if not isinstance(name, str):
        return None
    try:
        find_layer(name)
    except UnknownNameError:
        written = parse_named(name)
        try:
            return find_card(written.reference).with_arguments(written.arguments)
        except UnknownNameError:
            return None
    return None


_TABLES = ("params", "macs", "elements", "saved", "saved_constant")


def network_terms(card: Card) -> Table:
    """One row per layer and term that is there, evaluated for one image.

    Terms of the tables ``params`` and ``macs`` add up to the closed form of the network.
    """
    _, steps = trace(card.build("meta"), card.input_shape())
    rows = [
        {
            "path": step.path,
            "layer": type(step.module).__name__,
            "table": key,
            "term": name,
            "expression": str(terms[name]),
            "latex": written(terms[name], "latex"),
            "printed": name in step.form.printed.get(key, ()),
            "value": value,
        }
        for step in steps
        for key in _TABLES
        for terms in [getattr(step.form, key, None) or {}]
        for name, value in evaluate(terms, {B: 1, **step.form.dimensions(step.input_shape)}).items()
        if value
    ]
    return table_of_rows(f"Terms of {card.title}, one image", rows, priorities={"latex": 0, "expression": 40})
