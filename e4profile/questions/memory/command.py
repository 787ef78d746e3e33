"""``e4profile memory``: what a training step holds, predicted without needing that memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from e4profile.questions import options
from e4profile.questions.output import Progress, emit, note

if TYPE_CHECKING:
    from e4profile.show.tables import Table
    from e4profile.subjects.subject import Subject


def memory(
    models: Annotated[list[str], typer.Argument(help=options.MODEL_HELP, metavar=f"{options.MODEL}...")],
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    batch_size: options.BatchSizes = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, float64, bfloat16 or float16.", metavar="DTYPE")
    ] = "float32",
    optimiser: Annotated[str, typer.Option("--optimiser", help="sgd, momentum or adam.", metavar="NAME")] = "sgd",
    loss: options.Loss = "auto",
    fits: Annotated[
        str | None, typer.Option("--fits", help="The largest batch in this much memory, e.g. 24GiB.", metavar="SIZE")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="What each layer keeps for backward, by term.")] = False,
    peaks: Annotated[bool, typer.Option("--peaks", help="What each layer holds at its peak, by term.")] = False,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Predict parameters, gradients, optimiser state, saved-for-backward and peak bytes of a training step.

    Runs on the meta device: a network that would not fit needs no memory to be asked about. Exit code 1 when
    closed form and measured saved bytes differ, or when nothing fits. Naming a file or package of yours runs its code.
    """
    from e4profile.errors import SettingError
    from e4profile.questions.memory.rows import fits_row, layer_rows, memory_row, torch_dtype
    from e4profile.subjects.written import parse_size

    torch_dtype(dtype)
    batches = options.batch_sizes(batch_size)
    scalar = options.loss_named(loss)
    cards = options.several_subjects(models, settings, inputs, arguments)
    budget = None if fits is None else parse_size(fits, "--fits")
    if budget is not None and batch_size is not None:
        raise SettingError(f"--fits looks for the batch: leave --batch-size {batch_size} away")
    asked = [option for option, given in (("--fits", fits), ("--layers", layers), ("--peaks", peaks)) if given]
    if len(asked) > 1:
        raise SettingError(f"{' and '.join(asked)} are different tables: ask for one at a time")
    if (layers or peaks) and (len(cards) != 1 or len(batches) != 1):
        raise SettingError(f"{asked[0]} takes one network and one batch size")
    if peaks:
        from e4profile.questions.memory.peak_table import peak_table

        emit(peak_table(cards[0], batches[0], dtype), output_format, units)
        return
    if layers:
        emit(_layer_table(cards[0], layer_rows(cards[0], batches[0], dtype), batches[0], dtype), output_format, units)
        return
    rows, notes = [], list[str]()
    jobs = [(card, batch) for card in cards for batch in batches]
    with options.own_loss_running(scalar), Progress("memory", len(jobs), quiet=True) as progress:
        for card, batch in jobs:
            if budget is None:
                rows.append(memory_row(card, batch, optimiser, dtype, scalar, notes))
            else:
                rows.append(fits_row(card, budget, optimiser, dtype, scalar))
            progress.step(card.name)
    if budget is not None:
        exact = output_format in ("json", "csv") or units == "exact"
        emit(_fits_table(rows, dtype, optimiser, exact), output_format, units)
        if all(row["batch_size"] == 0 for row in rows):
            note(f"nothing fits: no network trains on a single image in {fits}")
            sys.exit(1)
        return
    emit(_memory_table(rows, dtype, optimiser, notes), output_format, units)
    if any(row["agrees"] is False for row in rows):
        note("closed form and measured saved bytes differ")
        sys.exit(1)


def _memory_table(rows: list[dict[str, Any]], dtype: str, optimiser: str, notes: list[str]) -> Table:
    from e4profile.questions.memory.rows import COLUMNS
    from e4profile.show.tables import Column, Table

    known = {
        "agrees": Column("agrees", "agrees", "boolean", priority=100),
        "model": Column("model", "model", "text", priority=95),
        "batch_size": Column("batch_size", "batch", "integer", priority=95),
        "step_bytes": Column("step_bytes", "training step", "bytes", "step", 90),
        "parameter_bytes": Column("parameter_bytes", "parameters", "bytes", "params", 60),
        "gradient_bytes": Column("gradient_bytes", "gradients", "bytes", "grads", 40),
        "optimiser_bytes": Column("optimiser_bytes", "optimiser state", "bytes", "optim.", 40),
        "saved_formula_bytes": Column("saved_formula_bytes", "saved, closed form", "bytes", "saved form.", 80),
        "saved_measured_bytes": Column("saved_measured_bytes", "saved, measured", "bytes", "saved meas.", 70),
        "saved_constant_bytes": Column("saved_constant_bytes", "saved whatever the batch", "bytes", "constant", 55),
        "saved_per_image_bytes": Column("saved_per_image_bytes", "saved per image", "bytes", "per image", 55),
        "peak_bytes": Column("peak_bytes", "peak of forward and backward", "bytes", "peak", 85),
        "input_bytes": Column("input_bytes", "input", "bytes", priority=10),
        "buffer_bytes": Column("buffer_bytes", "buffers", "bytes", priority=10),
    }
    return Table(
        title=f"Memory of a training step, {dtype}, {optimiser}",
        columns=tuple(known[key] for key in COLUMNS),
        rows=tuple(rows),
        notes=(
            "saved: kept by autograd between forward and backward, parameters and input apart; agrees: closed form = "
            "what autograd keeps on the meta device",
            "peak: live storages at 512-byte granularity, gradients included, no workspaces; training step: peak + "
            "parameters + optimiser state + buffers + input",
            *dict.fromkeys(notes),
        ),
    )


def _fits_table(rows: list[dict[str, Any]], dtype: str, optimiser: str, exact: bool) -> Table:
    from e4profile.questions.memory.rows import binary_bytes
    from e4profile.show.tables import Column, Table

    kind: Literal["bytes", "text"] = "bytes" if exact else "text"
    if not exact:
        amounts = ("step_bytes", "next_step_bytes", "budget_bytes")
        rows = [{**row, **dict(zip(amounts, binary_bytes([row[key] for key in amounts]), strict=True))} for row in rows]
    return Table(
        title=f"Largest batch of a training step, {dtype}, {optimiser}",
        columns=(
            Column("model", "model", "text", priority=100),
            Column("batch_size", "largest batch", "integer", priority=100),
            Column("step_bytes", "needs", kind, priority=80),
            Column("next_step_bytes", "one image more", kind, priority=60),
            Column("budget_bytes", "budget", kind, priority=40),
        ),
        rows=tuple(rows),
        notes=(
            "without the workspaces of the convolution library; leave room for them",
            *(["largest batch 0: not even one image fits"] if any(row["batch_size"] == 0 for row in rows) else []),
        ),
    )


def _layer_table(card: Subject, rows: list[dict[str, Any]], batch_size: int | None, dtype: str) -> Table:
    from e4profile.questions.memory.rows import LAYER_COLUMNS
    from e4profile.show.tables import Column, Table

    known = {
        "path": Column("path", "path", "text", priority=100),
        "layer": Column("layer", "layer", "text", priority=50),
        "term": Column("term", "term", "text", priority=90),
        "grows_with_batch": Column("grows_with_batch", "grows with batch", "boolean", "grows", 80),
        "bytes": Column("bytes", "bytes", "bytes", priority=95),
    }
    total = sum(row["bytes"] for row in rows)
    return Table(
        title=f"{card.title}: saved for backward by term, batch of {batch_size or card.own_batch}, {dtype}",
        columns=tuple(known[key] for key in LAYER_COLUMNS),
        rows=tuple(rows),
        notes=(f"total {total:,} bytes", "a feature map that several layers keep is counted at the first"),
    )
