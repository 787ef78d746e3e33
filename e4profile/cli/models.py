"""``e4profile models``: the cards, or one card in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.cli.options import Format, Units, check_format
from e4profile.cli.output import emit

if TYPE_CHECKING:
    from e4profile.cards import Card
    from e4profile.render.tables import Table


def models(
    name: Annotated[str | None, typer.Argument(help="One card in full.", metavar="NAME")] = None,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """List the cards of published networks, or show one with its arguments and published figures."""
    check_format(output_format)
    from e4profile.cards import all_cards, find_card

    table = _listing(list(all_cards().values())) if name is None else _details(find_card(name))
    emit(table, output_format, units)


def _listing(cards: list[Card]) -> Table:
    from e4profile.render.tables import Column, Table

    return Table(
        title="Cards of published networks",
        columns=(
            Column("model", "model", "text", priority=100),
            Column("title", "title", "text", priority=60),
            Column("group", "group", "text", priority=80),
            Column("input", "input", "text", priority=70),
            Column("network", "network", "text", priority=40),
            Column("published_rows", "published rows", "integer", "rows", 50),
        ),
        rows=tuple(
            {
                "model": card.name,
                "title": card.title,
                "group": card.arguments.get("group"),
                "input": "x".join(map(str, card.input)),
                "network": card.network,
                "published_rows": len(card.published),
            }
            for card in cards
        ),
        notes=("one card in full: e4profile models NAME; its cost: e4profile count NAME",),
    )


def _details(card: Card) -> Table:
    from e4profile.render.tables import Column, Table

    facts: list[tuple[str, str, object]] = [
        ("card", "title", card.title),
        ("card", "source", card.source),
        ("card", "network", card.network),
        ("card", "input", "x".join(map(str, card.input))),
        *(("argument", key, value) for key, value in card.arguments.items()),
        *(("training", key, value) for key, value in card.training.items()),
    ]
    for row in card.published:
        for cell in row.cells:
            printed = f"{cell.value}{' ' + cell.convention if cell.convention else ''}"
            verdict = f": {cell.verdict}" if cell.verdict else ""
            facts.append(
                ("published", f"table {row.table}, {row.row}, {cell.quantity}", f"{printed}{verdict}")
            )
    return Table(
        title=card.name,
        columns=(
            Column("part", "part", "text", priority=50),
            Column("name", "name", "text", priority=100),
            Column("value", "value", "text", priority=100),
        ),
        rows=tuple({"part": part, "name": name, "value": str(value)} for part, name, value in facts),
        notes=card.notes,
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models)
