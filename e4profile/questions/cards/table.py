"""The cards as tables: all of them, or one in full."""

from __future__ import annotations

from collections.abc import Sequence

from e4profile.errors import UnknownNameError, one_of
from e4profile.networks.cards import Card, Cell, all_cards
from e4profile.questions.columns import table_of_rows
from e4profile.questions.published.rows import published_text
from e4profile.show.tables import Table

_ENDINGS = {
    "-fast": "the narrow variant of the released code, for which nothing was published",
    "-printed": "the network that gives the printed figures where the released one does not",
}


def chosen_cards(table: str | None = None, group: str | None = None) -> list[Card]:
    """The cards with rows of a published table, of a group, of both, or all.

    Raises:
        UnknownNameError: for a table that no card has a row of, or a group that no card is of.
    """
    cards = list(all_cards().values())
    if table is not None:
        tables = sorted({row.table for card in cards for row in card.published})
        one_of("table of cards", table, tables)
        cards = [card for card in cards if any(row.table == table for row in card.published)]
    if group is not None:
        groups = sorted({_group(card) for card in all_cards().values()} - {""})
        if group.lower() not in map(str.lower, groups):
            raise UnknownNameError("group of cards", group, groups)
        cards = [card for card in cards if _group(card).lower() == group.lower()]
    return cards


def _group(card: Card) -> str:
    return str(card.arguments.get("group") or "")


def cards_table(cards: Sequence[Card], *, full_titles: bool = True) -> Table:
    """One row per card; without full titles a title does not say the card's name again."""
    rows = [
        {
            "model": card.name,
            "title": card.title if full_titles else _without_name(card),
            "group": card.arguments.get("group"),
            "input": "x".join(map(str, card.input)),
            "network": card.network or card.builder,
            "published_rows": len(card.published),
        }
        for card in cards
    ]
    notes = (
        "published rows: rows of published tables for which the card has figures",
        *(
            f"NAME{ending}: {meaning}"
            for ending, meaning in _ENDINGS.items()
            if any(card.name.endswith(ending) for card in cards)
        ),
        "one card in full: e4profile cards NAME; its cost: e4profile count NAME",
        "fewer cards: --table 4, --group p4",
    )
    priorities = {"title": 60, "group": 80, "input": 70, "network": 40}
    return table_of_rows("Cards of published networks", rows, notes, priorities=priorities)


def _without_name(card: Card) -> str:
    name, separator, rest = card.title.partition(": ")
    return rest if separator and name.lower().replace("_", "-") == card.name else card.title


def _figure(cell: Cell) -> str:
    rule = f", counted by the convention {cell.convention}" if cell.convention else ""
    verdict = f": {cell.verdict}" if cell.verdict else ""
    return f"{published_text(cell)}{rule}{verdict}"


def card_table(card: Card) -> Table:
    """One card: its source, arguments, training and published figures."""
    facts = [
        ("card", "title", card.title),
        ("card", "source", card.source),
        ("card", "network", card.network or card.builder),
        *(("card", key, value) for key, value in (("install", card.install), ("commit", card.commit)) if value),
        ("card", "input", "x".join(map(str, card.input))),
        *(("argument", key, value) for key, value in card.arguments.items()),
        *(("training", key, value) for key, value in card.training.items()),
        *(
            ("published", f"table {row.table}, {row.row}, {cell.quantity}", _figure(cell))
            for row in card.published
            for cell in row.cells
        ),
    ]
    rows = [{"part": part, "name": name, "value": str(value)} for part, name, value in facts]
    notes = list(card.notes)
    if card.overridden and card.published:
        changed = ", ".join(sorted(card.overridden))
        notes.append(f"the published figures belong to {card.name} unchanged, without the {changed} asked for")
    return table_of_rows(card.name, rows, notes, priorities={"name": 100, "value": 100})
