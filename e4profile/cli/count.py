"""``e4profile count``: one network, layer by layer, through every counter."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from e4profile.cli.options import (
    MODEL,
    MODEL_HELP,
    Arguments,
    Convention,
    Format,
    Inputs,
    Overrides,
    Units,
    check_format,
    names,
    target,
)
from e4profile.cli.output import Progress, emit, note


def count(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, metavar=MODEL)],
    settings: Overrides = None,
    inputs: Inputs = None,
    arguments: Arguments = None,
    counter: Annotated[
        list[str] | None,
        typer.Option(
            "--counter",
            help="closed-form, dispatch, fvcore, thop. Repeatable; all by default.",
            metavar="NAME",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Images per forward pass; 1, or what --input says.", metavar="N"),
    ] = None,
    convention_name: Convention = "macs",
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Count parameters and operations per layer, with every counter's view and the reasons where they differ.

    A model of your own without closed forms still has every other column. Exit code 0 when closed form and
    dispatch agree, 1 when not, 2 for bad input. As JSON: one object with model, arguments, input, convention, totals
    by witness, layers and notes. Naming a file or package of yours runs its code.
    """
    check_format(output_format)
    with Progress("count", 3, quiet=True) as progress:
        from e4profile.conventions import convention
        from e4profile.count_document import count_document, document_text
        from e4profile.counters import COUNTERS
        from e4profile.counts import count_columns, count_rows, gap_notes, ledger_notes
        from e4profile.errors import positive
        from e4profile.render.tables import Column, Table

        if batch_size is not None:
            positive(**{"--batch-size": batch_size})
        meaning = convention(convention_name).meaning
        counters = tuple(dict.fromkeys(names(counter))) or COUNTERS
        progress.step("PyTorch")
        found = target(model, settings, inputs, arguments, batch_size)
        progress.step("the network")
        measured = found.measure(counters)
        progress.step("the counters")
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
    notes = (*gap_notes(measured), *(ledger_notes(measured) if "dispatch" in counters else ()), *found.notes)
    if output_format == "json":
        given = " ".join(map(str, found.specs)) or "x".join(map(str, found.example("meta").single_shape or ()))
        document = count_document(
            found.name, rows, arguments=found.arguments, inputs=given, convention=convention_name, notes=notes,
            columns=count_columns(counters),
        )  # fmt: skip
        sys.stdout.write(document_text(document))
        sys.stdout.flush()
    else:
        if rows and output_format != "csv":
            rows.append(_total(rows))
        table = Table(
            title=found.label,
            columns=columns,
            rows=tuple(rows),
            notes=notes,
            convention=f"{convention_name}: {meaning}; fvcore and thop as they report",
        )
        emit(table, output_format, units)
    # an unknown operator is a defect of a card, and a line in the ledger for a model of one's own
    agrees = measured.agrees if found.card is not None else not measured.differences
    if {"closed-form", "dispatch"} <= set(counters) and not agrees:
        for difference in measured.differences:
            note(str(difference))
        sys.exit(1)


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    from e4profile.count_document import agreement, totals

    added = totals(rows)
    known = {"agrees": agreement(rows), "path": "total", "layer": None, **added}
    return {key: known[key] for key in rows[0]}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("count")(count)
