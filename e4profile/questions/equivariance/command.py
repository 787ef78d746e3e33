"""``e4profile equivariance``: how equivariant a network is, and where it stops being so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.questions import options
from e4profile.questions.entry import Entry
from e4profile.questions.output import Progress, check_columns, emit, note

if TYPE_CHECKING:
    from e4profile.show.tables import Column


def equivariance(
    model: Annotated[str, typer.Argument(help=options.MODEL_HELP, metavar=options.MODEL)],
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="The group that acts, e.g. p4m, or a registered one; else the network's, as far as it is exact.",
            metavar="GROUP",
        ),
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float64 or float32", metavar="DTYPE")] = "float64",
    train_steps: Annotated[
        int, typer.Option("--train-steps", help="Adam steps on random data; 0 leaves them out.", metavar="N")
    ] = 1,
    field_in: Annotated[
        list[str] | None,
        typer.Option(
            "--field-in",
            help="The inputs: trivial (images), regular, or axes: 'B h w (c A)'; NAME=FIELD for one.",
            metavar="FIELD",
        ),
    ] = None,
    field_out: Annotated[
        list[str] | None,
        typer.Option(
            "--field-out",
            help="The output: regular, trivial, invariant, or axes; else what is declared, or can be shown.",
            metavar="FIELD",
        ),
    ] = None,
    elements: Annotated[
        bool, typer.Option("--elements", help="Layers by element too, as json and csv have them.")
    ] = False,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Measure |f(g x) - g f(x)| / |f(x)| for every group element, per layer and at the output.

    In three states: as built, with trained parameters and norms' statistics randomised, and after some optimiser
    steps. A network that is equivariant at initialisation only is flagged, with the layers where it breaks. A layer
    is compared on what it receives in the network, so its error is its own. A regular field is (B, c*A, h, w) or
    (B, c, A, h, w); of another layout the axes are written: 'B (c A) h w', A for the group's elements, h and w for
    the grid. Exit code 1 when not all is shown to hold.
    """
    with Progress("equivariance", 1, quiet=True) as progress:
        from e4profile.questions.columns import table_of_rows
        from e4profile.questions.equivariance.rows import report_rows
        from e4profile.show.tables import Table
        from e4profile.witnesses.equivariance.fields import declared_from
        from e4profile.witnesses.equivariance.report import EQUIVARIANT, states_of
        from e4profile.witnesses.equivariance.witness import witness_of

        progress.total += len(states_of(train_steps))
        columns = _columns(train_steps)
        check_columns(*columns)
        declared = {"field_in": declared_from(field_in), "field_out": declared_from(field_out)}
        found = options.one_subject(model, settings, inputs, arguments)
        progress.step("PyTorch and the network")
        report = witness_of(
            found, group=group, dtype=dtype, train_steps=train_steps, progress=progress.step, **declared
        )  # fmt: skip

    def table(output_format: str, _: str) -> Table:
        exact = output_format in ("json", "csv")
        rows = report_rows(report, every_element=elements or exact)
        return table_of_rows(
            f"Equivariance of {found.label}, under {getattr(group, 'alias', group) or report.group.alias}",
            rows,
            (*report.findings, *found.notes),
            # for people, the reasons are below the table, once
            keys=[one.key for one in columns if exact or one.key != "reason"],
            columns=columns,
        )

    broken = [layer.path for layer in report.broken]
    said = {"verdict": report.verdict, "broken": broken, "findings": report.findings}
    emit(table, output_format, units, facts=lambda: said)
    if output_format in ("json", "csv"):
        note(report.findings[0])
    if report.verdict != EQUIVARIANT:
        sys.exit(1)


def _columns(train_steps: int) -> tuple[Column, ...]:
    from e4profile.questions.columns import COLUMNS
    from e4profile.show.tables import Column

    return (
        *(COLUMNS[key] for key in ("holds", "path", "layer")),
        Column("element", "element", "text", priority=60),
        Column("at_init", "at initialisation", "error", "init", 80),
        Column("randomised", "randomised", "error", "random", 80),
        Column("trained", f"after {train_steps} step{'' if train_steps == 1 else 's'}", "error", "trained", 80),
        COLUMNS["reason"],
    )


ENTRY = Entry("measure", 3, equivariance, "Measure |f(g x) - g f(x)| / |f(x)| for every group element")
