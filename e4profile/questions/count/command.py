"""``e4profile count``: one network, layer by layer, through every counter."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.errors import SettingError
from e4profile.questions import options
from e4profile.questions.entry import Entry
from e4profile.questions.output import Progress, emit, note, screen_rows
from e4profile.witnesses.counts.registry import COUNTERS, REGISTRY, find_counters

if TYPE_CHECKING:
    from e4profile.show.tables import Table
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.counts.measure import Measurement

_Counted = tuple["Subject", "Measurement"]
_Further = tuple[dict[str, dict[str, Any]], list[str]]


_FIGURES = ("terms", "counters")
"""What ``--plot`` draws: the named terms, and what stock counters see."""


def count(
    models: options.Networks,
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    execution: options.Execution = None,
    counter: Annotated[
        list[str] | None, typer.Option("--counter", help=f"{', '.join(REGISTRY)}.", metavar="NAME,...")
    ] = None,
    besides: Annotated[
        str | None,
        typer.Option(
            "--with", help="In a row per network, besides counts: memory, time, predicted, files.", metavar="WHAT,..."
        ),
    ] = None,
    batch_size: options.BatchSize = None,
    convention_name: options.Convention = "macs",
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            help="Sum layers into blocks: layer1 has depth 1, layer1.conv 2; else as fits a screen.",
            metavar="N",
            callback=options.positive_whole,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", help="Only the N costliest rows.", metavar="N", callback=options.positive_whole),
    ] = None,
    plot: options.Plot = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Count parameters and operations per layer, with every counter's view and the reasons where they differ.

    Several networks, or --with, make a table of costs, one row each. A user-defined model without closed forms has
    every other column. Json has totals, layers and notes in one object per network; json and csv keep every layer
    unless --depth is given. Exit code 1 when closed form and dispatch disagree, or an operator is unknown.
    """
    with Progress("count", 1 + 2 * len(models), quiet=True) as progress:
        from e4profile.conventions import convention
        from e4profile.questions.count.besides import beside, chosen
        from e4profile.questions.count.facts import facts_of_several
        from e4profile.questions.figures import check_plot, draw_beside
        from e4profile.subjects.card_code import NotInstalled
        from e4profile.witnesses.counts.measure import measure

        if (depth or top) and (len(models) > 1 or besides):
            raise SettingError("--depth and --top apply to the layers of one network; a table of costs has none")
        convention(convention_name)
        added = chosen(options.names([besides] if besides is not None else None))
        counters = tuple(dict.fromkeys(options.names(counter))) or COUNTERS
        progress.step("PyTorch")
        counted: list[_Counted] = []
        absent: list[str] = []
        further: list[_Further] = []
        subjects = options.several_subjects(models, settings, inputs, arguments, batch_size, execution)
        check_plot(plot, _FIGURES, subjects)
        for found in subjects:
            progress.step(found.name)
            try:
                counted.append((found, measure(found, counters)))
                further.append(beside(found, added))
            except NotInstalled as missing:
                if len(models) == 1:
                    raise
                absent.append(str(missing))
            progress.step(f"the counters of {found.name}")
    note(*absent)
    if not counted:
        raise SettingError(f"none of {', '.join(map(str, models))} is installed: there is nothing to count")
    documents = [_document(*one, counters, convention_name) for one in counted]
    for document, (figures, notes) in zip(documents, further, strict=True):
        document.update(figures)
        document["notes"] += notes
    if len(counted) > 1 or added:
        costs = [{key: value for key, value in one.items() if key != "layers"} for one in documents]
        emit(
            lambda *_: _costs(counted, documents, counters, convention_name, further, added),
            output_format,
            units,
            texts={"json": lambda: json.dumps(costs, indent=2, ensure_ascii=False) + "\n"},
            facts=lambda: facts_of_several(counted, convention_name),
        )
    else:
        _layers(*counted[0], documents[0], counters, depth, top, output_format, units)
    draw_beside(plot, _FIGURES, [found for found, _ in counted])
    wrong = _disagreements(counted) if {"closed-form", "dispatch"} <= set(counters) else []
    note(*wrong)
    if wrong:
        sys.exit(1)


def _layers(
    found: Subject,
    measured: Measurement,
    document: dict[str, Any],
    counters: tuple[str, ...],
    depth: int | None,
    top: int | None,
    output_format: str,
    units: str,
) -> None:
    """Write one network's layers."""
    from e4profile.questions.count.facts import facts
    from e4profile.questions.count.layers import Shown, layers_table, shown_layers
    from e4profile.questions.count.rows import count_columns
    from e4profile.records.count_document import document_text

    def shown(output_format: str) -> Shown:
        room = None if output_format in ("json", "csv") else screen_rows()
        return shown_layers(document["layers"], measured.dispatch, depth, top, room)

    def table(output_format: str, _: str) -> Table:
        words, readers = _convention_words(document["convention"], counters), output_format != "csv"
        rows = shown(output_format)
        return layers_table(found.label, rows, document, words, count_columns(counters), for_readers=readers)

    emit(
        table,
        output_format,
        units,
        texts={"json": lambda: document_text({**document, "layers": shown("json").rows})},
        facts=lambda: facts(measured, document["convention"]),
    )


def _disagreements(counted: list[_Counted]) -> list[str]:
    return [
        text if len(counted) == 1 else f"{found.row or found.name}: {text}"
        for found, measured in counted
        for text in (
            *map(str, measured.differences),
            *measured.dispatch.unknown_operators,
            # where the whole network is promised to have one, its lack is a defect
            *([measured.failures["closed-form"]] if found.costed_whole and "closed-form" in measured.failures else []),
        )
    ]


def _costs(
    counted: list[_Counted],
    documents: list[dict[str, Any]],
    counters: tuple[str, ...],
    convention_name: str,
    further: list[_Further],
    besides: tuple[str, ...],
) -> Table:
    """Several networks: a row for each, the totals of its layers."""
    from e4profile.questions.columns import table_of_rows
    from e4profile.questions.count.besides import FILES, MEMORY, PREDICTED, TIME, meanings
    from e4profile.questions.count.rows import IN_IRREPS, summed_notes
    from e4profile.records.count_document import cost_row
    from e4profile.show.tables import Column

    rows = [
        {
            **cost_row(document, found.full_name),
            **{key: one for figure in figures.values() for key, one in figure.items()},
        }
        for document, (found, _), (figures, _) in zip(documents, counted, further, strict=True)
    ]
    notes = [
        f"{found.row or found.name}: {text}"
        for document, (found, measured) in zip(documents, counted, strict=True)
        for text in (
            *(text for text in document["notes"] if text.startswith(IN_IRREPS)),
            *(f"{name}: no figure: {reason}" for name, reason in measured.failures.items()),
            *(f"totals are lower bounds: {text}" for text in measured.dispatch.unknown_operators),
            *summed_notes(measured),
            *found.notes,
        )
    ]
    columns = (
        Column("bound", "totals are", "text", priority=92),
        Column("closed_form", f"{convention_name}, closed form", "integer", convention_name, 85),
        Column("dispatch", f"{convention_name}, measured", "integer", "measured", 80),
        Column("iqr_s", "interquartile range", "seconds", "IQR", 60),
        Column("predicted_s", "predicted", "seconds", priority=90),
    )
    notes = [*meanings(besides), *notes, *dict.fromkeys(text for _, said in further for text in said)]
    present = {key for row in rows for key in row}
    known = (
        "agrees",
        "model",
        "input",
        "bound",
        "params",
        *(spec.key for spec in REGISTRY.values()),
        *MEMORY,
        *TIME,
        *PREDICTED,
        *FILES,
    )
    return table_of_rows(
        "Costs of " + ", ".join(str(row["model"]) for row in rows),
        rows,
        notes,
        _convention_words(convention_name, counters),
        keys=[key for key in known if key in present],
        columns=columns,
        priorities={"params": 90, "input": 40},
    )


def _convention_words(name: str, counters: tuple[str, ...]) -> str:
    from e4profile.conventions import convention

    stock = [spec.heading for spec in find_counters(counters) if spec.raw]
    reported = f"; {' and '.join(stock)} as {'they report' if len(stock) > 1 else 'it reports'}" if stock else ""
    return f"{name}: {convention(name).meaning}{reported}"


def _document(found: Subject, measured: Measurement, counters: tuple[str, ...], convention_name: str) -> dict[str, Any]:
    from e4profile.questions.count.rows import count_columns, count_rows, gap_notes, irrep_basis, ledger_notes
    from e4profile.records.count_document import count_document

    given = found.given or "x".join(map(str, found.example("meta").single_shape or ()))
    exact = {"closed-form", "dispatch"}
    basis, said = irrep_basis(found, measured)
    return count_document(
        found.name,
        count_rows(measured, counters, convention_name),
        arguments=found.arguments,
        inputs=given,
        convention=convention_name,
        notes=[
            *said,
            *gap_notes(measured, convention_name),
            *(ledger_notes(measured) if "dispatch" in counters else ()),
            *found.notes,
        ],
        columns=count_columns(counters),
        # what a third-party counter reports is its own: no bound of anything
        at_least=bool(measured.dispatch.uncounted) and not exact.isdisjoint(counters),
        coverage=str(measured.coverage),
        in_irrep_basis=basis,
        name=found.row,
    )


ENTRY = Entry("count", 1, count, "Count parameters and operations per layer")
