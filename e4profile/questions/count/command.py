"""``e4profile count``: one network, layer by layer, through every counter."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.questions import options
from e4profile.questions.output import Progress, emit, note
from e4profile.witnesses.counts.registry import COUNTERS, REGISTRY, find_counters

if TYPE_CHECKING:
    from e4profile.show.tables import Column
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.counts.measure import Measurement

_Counted = tuple["Subject", "Measurement"]


def count(
    models: Annotated[list[str], typer.Argument(help=options.MODEL_HELP, metavar=options.MODEL)],
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    counter: Annotated[
        list[str] | None,
        typer.Option(
            "--counter", help=f"{', '.join(REGISTRY)}. Repeatable; {', '.join(COUNTERS)} by default.", metavar="NAME"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Images per forward pass; 1, or what --input says.", metavar="N")
    ] = None,
    convention_name: options.Convention = "macs",
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Count parameters and operations per layer, with every counter's view and the reasons where they differ.

    Several networks make a table of costs, one row each; --input and --arg are then those of your own models. A
    model of your own without closed forms still has every other column. Exit code 0 when closed form and dispatch
    agree, 1 when not or when an operator is unknown, 2 for bad input. As JSON: one object with model, arguments,
    input, convention, totals by witness, layers and notes; for several networks a list of them, without layers.
    Naming a file or package of yours runs its code.
    """
    with Progress("count", 1 + 2 * len(models), quiet=True) as progress:
        from e4profile.conventions import convention
        from e4profile.errors import positive
        from e4profile.witnesses.counts.measure import measure

        if batch_size is not None:
            positive(**{"--batch-size": batch_size})
        convention(convention_name)
        counters = tuple(dict.fromkeys(options.names(counter))) or COUNTERS
        progress.step("PyTorch")
        counted: list[_Counted] = []
        for found in options.several_subjects(models, settings, inputs, arguments, batch_size):
            progress.step(found.name)
            counted.append((found, measure(found, counters)))
            progress.step(f"the counters of {found.name}")
    show = _one_network if len(counted) == 1 else _several_networks
    show(counted, counters, convention_name, output_format, units)
    if not {"closed-form", "dispatch"} <= set(counters):
        return
    wrong = [
        text if len(counted) == 1 else f"{found.name}: {text}"
        for found, measured in counted
        for text in (
            *map(str, measured.differences),
            *measured.dispatch.unknown_operators,
            # where the whole network is promised to have one, its lack is a defect
            *([measured.failures["closed-form"]] if found.costed_whole and "closed-form" in measured.failures else []),
        )
    ]
    for text in wrong:
        note(text)
    if wrong:
        sys.exit(1)


def _one_network(
    counted: list[_Counted], counters: tuple[str, ...], convention_name: str, output_format: str, units: str
) -> None:
    from e4profile.questions.count.rows import count_columns, count_rows
    from e4profile.records.count_document import document_text
    from e4profile.show.tables import Column, Table

    ((found, measured),) = counted
    if output_format == "json":
        sys.stdout.write(document_text(_document(found, measured, counters, convention_name)))
        sys.stdout.flush()
        return
    rows = count_rows(measured, counters, convention_name)
    if output_format != "csv":
        rows.append(_total(rows, count_columns(counters), at_least=_at_least(measured, counters)))
    known = {
        "agrees": Column("agrees", "agrees", "boolean", priority=100),
        "path": Column("path", "path", "text", priority=90),
        "layer": Column("layer", "layer", "text", priority=40),
        "params": Column("params", "params", "integer", priority=80),
        "closed_form": Column("closed_form", "closed form", "integer", priority=85),
        "dispatch": Column("dispatch", "dispatch", "integer", priority=70),
        **_stock_columns(),
    }
    table = Table(
        title=found.label,
        columns=tuple(known[key] for key in count_columns(counters)),
        rows=tuple(rows),
        notes=_notes(found, measured, counters, convention_name),
        convention=_convention_words(convention_name, counters),
    )
    emit(table, output_format, units)


def _several_networks(
    counted: list[_Counted], counters: tuple[str, ...], convention_name: str, output_format: str, units: str
) -> None:
    """A table of costs: one row per network, the totals of its layers."""
    from e4profile.questions.count.rows import summed_notes
    from e4profile.records.count_document import cost_row
    from e4profile.show.tables import Column, Table

    documents = [_document(*one, counters, convention_name) for one in counted]
    if output_format == "json":
        totals = [{key: value for key, value in one.items() if key != "layers"} for one in documents]
        sys.stdout.write(json.dumps(totals, indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return
    known = {
        "agrees": Column("agrees", "agrees", "boolean", priority=100),
        "model": Column("model", "model", "text", priority=95),
        "input": Column("input", "input", "text", priority=50),
        "bound": Column("bound", "totals are", "text", priority=92),
        "params": Column("params", "params", "integer", priority=90),
        "closed_form": Column("closed_form", f"{convention_name}, closed form", "integer", convention_name, 85),
        "dispatch": Column("dispatch", f"{convention_name}, measured", "integer", "measured", 80),
        **_stock_columns(),
    }
    rows = [cost_row(document, found.full_name) for document, (found, _) in zip(documents, counted, strict=True)]
    notes = [
        f"{found.name}: {text}"
        for found, measured in counted
        for text in (
            *(f"{name}: no figure: {reason}" for name, reason in measured.failures.items()),
            *(f"totals are lower bounds: {text}" for text in measured.dispatch.unknown_operators),
            *summed_notes(measured),
            *found.notes,
        )
    ]
    keys = [key for key in known if any(key in row for row in rows)]
    table = Table(
        title="Costs of " + ", ".join(str(row["model"]) for row in rows),
        columns=tuple(known[key] for key in keys),
        rows=tuple({key: row.get(key) for key in keys} for row in rows),
        notes=tuple(notes),
        convention=_convention_words(convention_name, counters),
    )
    emit(table, output_format, units)


def _stock_columns() -> dict[str, Column]:
    from e4profile.show.tables import Column

    stock = (spec for spec in REGISTRY.values() if spec.raw)
    return {spec.key: Column(spec.key, spec.heading, "integer", priority=60) for spec in stock}


def _convention_words(name: str, counters: tuple[str, ...]) -> str:
    from e4profile.conventions import convention

    stock = [spec.heading for spec in find_counters(counters) if spec.raw]
    reported = f"; {' and '.join(stock)} as {'they report' if len(stock) > 1 else 'it reports'}" if stock else ""
    return f"{name}: {convention(name).meaning}{reported}"


def _notes(found: Subject, measured: Measurement, counters: tuple[str, ...], convention_name: str) -> tuple[str, ...]:
    from e4profile.questions.count.rows import gap_notes, ledger_notes

    ledger = ledger_notes(measured) if "dispatch" in counters else ()
    return (*gap_notes(measured, convention_name), *ledger, *found.notes)


def _document(found: Subject, measured: Measurement, counters: tuple[str, ...], convention_name: str) -> dict[str, Any]:
    from e4profile.questions.count.rows import count_columns, count_rows
    from e4profile.records.count_document import count_document

    given = " ".join(map(str, found.specs)) or "x".join(map(str, found.example("meta").single_shape or ()))
    return count_document(
        found.name, count_rows(measured, counters, convention_name), arguments=found.arguments, inputs=given,
        convention=convention_name, notes=_notes(found, measured, counters, convention_name),
        columns=count_columns(counters), at_least=_at_least(measured, counters), coverage=str(measured.coverage),
    )  # fmt: skip


def _at_least(measured: Measurement, counters: tuple[str, ...]) -> bool:
    """Whether totals are lower bounds; what a third-party counter reports is its own."""
    return bool(measured.dispatch.uncounted) and not {"closed-form", "dispatch"}.isdisjoint(counters)


def _total(rows: list[dict[str, Any]], columns: list[str], *, at_least: bool) -> dict[str, Any]:
    from e4profile.records.count_document import agreement, totals

    path = "total, at least" if at_least else "total"
    agrees = agreement(rows, at_least=at_least)
    return {key: {"agrees": agrees, "path": path, **totals(rows, columns)}.get(key) for key in columns}
