"""``e4profile cards``: the cards, or one card in full."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.questions.entry import Entry, OldName
from e4profile.questions.options import Format, Units
from e4profile.questions.output import emit, note

if TYPE_CHECKING:
    from e4profile.networks.cards import Card


def cards(
    name: Annotated[
        str | None, typer.Argument(help="One card in full; e4net(width=8) with arguments.", metavar="NAME")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="Only cards with rows of a published table, e.g. 4.", metavar="NAME")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Only cards of a group, as the cards spell it: p4m.", metavar="GROUP")
    ] = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Instead the BibTeX of what the cards cite.")] = False,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """List the cards of published networks, or show one with its arguments and published figures."""
    from e4profile.errors import SettingError
    from e4profile.networks.cards import find_card
    from e4profile.questions.cards.table import card_table, cards_table, chosen_cards
    from e4profile.subjects.named import parse_named

    if name is not None and (table or group):
        raise SettingError("cards: --table and --group choose among all cards; omit the name or omit them")
    if bibtex and output_format != "table":
        raise SettingError(f"--bibtex has a format of its own; omit --format {output_format}")
    if name is None:
        cards = chosen_cards(table, group)
    else:
        named = parse_named(name)
        cards = [find_card(named.reference).with_arguments(named.arguments)]
    if bibtex:
        _write_bibtex(cards)
    elif name is not None:
        emit(card_table(cards[0]), output_format, units)
    else:
        emit(lambda form, _: cards_table(cards, full_titles=form in ("json", "csv")), output_format, units)


def _write_bibtex(cards: Sequence[Card]) -> None:
    from e4profile.networks.papers import bibtex, cited_by

    keys = sorted({key for card in cards for key in cited_by(card)})
    if keys:
        sys.stdout.write(bibtex(keys))
    for card in cards:
        if not cited_by(card) and len(cards) == 1:
            note(f"{card.name} cites no paper that e4profile knows; its source: {card.source or 'not given'}")


ENTRY = Entry(
    "published",
    2,
    cards,
    "List the cards of published networks, or show one",
    before={"models": OldName(cards, "e4profile cards")},
)
