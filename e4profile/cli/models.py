"""``e4profile models``: the cards, or one card in full."""

from __future__ import annotations

from typing import Annotated

import typer

from e4profile.cli.options import Format, Units, check_format
from e4profile.cli.output import emit


def models(
    name: Annotated[str | None, typer.Argument(help="One card in full.", metavar="NAME")] = None,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """List the cards of published networks, or show one with its arguments and published figures."""
    check_format(output_format)
    from e4profile.cards import all_cards, find_card
    from e4profile.tables.cards import card_table, cards_table

    if name is None:
        table = cards_table(list(all_cards().values()), full_titles=output_format in ("json", "csv"))
    else:
        table = card_table(find_card(name))
    emit(table, output_format, units)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models)
