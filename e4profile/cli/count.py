"""``e4profile count``: one network, layer by layer, through every counter."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from e4profile.cli.options import Convention, Format, Overrides, Units, check_format, names, overrides
from e4profile.cli.output import emit, note


def count(
    model: Annotated[str, typer.Argument(help="A card's name or a card file.", metavar="NAME|CARD.toml")],
    settings: Overrides = None,
    counter: Annotated[
        list[str] | None,
        typer.Option(
            "--counter",
            help="closed-form, dispatch, fvcore, thop. Repeatable; all by default.",
            metavar="NAME",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images per forward pass.", metavar="N")
    ] = 1,
    convention_name: Convention = "macs",
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Count parameters and operations per layer, with every counter's view and the reasons where they differ."""
    check_format(output_format)
    from e4profile.cards import find_card
    from e4profile.conventions import convention
    from e4profile.counters import COUNTERS
    from e4profile.counts import count_columns, count_rows, gap_notes, ledger_notes
    from e4profile.errors import positive
    from e4profile.measure import measure
    from e4profile.render.tables import Column, Table

    positive(**{"--batch-size": batch_size})
    meaning = convention(convention_name).meaning
    card = find_card(model).with_arguments(overrides(settings))
    counters = tuple(dict.fromkeys(names(counter))) or COUNTERS
    measured = measure(card, counters, batch_size)
    rows = count_rows(measured, counters, convention_name)
    known = {
        "agrees": Column("agrees", "agrees", "boolean", priority=100),
        "path": Column("path", "path", "text", priority=90),
        "layer": Column("layer", "layer", "text", priority=40),
        "params": Column("params", "params", "integer", priority=80),
        "closed_form": Column("closed_form", "closed form", "integer", priority=85),
        "dispatch": Column("dispatch", "dispatch", "integer", priority=70),
        "fvcore": Column("fvcore", "fvcore", "integer", priority=60),
        "thop": Column("thop", "thop", "integer", priority=60),
    }
    columns = tuple(known[key] for key in count_columns(counters))
    if output_format not in ("json", "csv"):
        rows.append(_total(rows))
    table = Table(
        title=f"{card.title}, batch of {batch_size}",
        columns=columns,
        rows=tuple(rows),
        notes=(*gap_notes(measured), *(ledger_notes(measured) if "dispatch" in counters else ())),
        convention=f"{convention_name}: {meaning}; fvcore and thop as they report",
    )
    emit(table, output_format, units)
    if {"closed-form", "dispatch"} <= set(counters) and not measured.agrees:
        for difference in measured.differences:
            note(str(difference))
        sys.exit(1)


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = dict(rows[0])
    for key in total:
        values = [row[key] for row in rows]
        if key == "agrees":
            total[key] = all(values)
        elif key == "path":
            total[key] = "total"
        elif key == "layer":
            total[key] = None
        else:
            total[key] = None if None in values else sum(values)
    return total


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("count")(count)
