"""``e4profile memory``: what a training step or a forward pass holds, predicted without needing that memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.questions import options
from e4profile.questions.answers import kept
from e4profile.questions.entry import Entry
from e4profile.questions.output import Progress, emit, note

if TYPE_CHECKING:
    from e4profile.show.tables import Table
    from e4profile.subjects.subject import Subject


def memory(
    models: options.Networks,
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    execution: options.Execution = None,
    batch_size: options.BatchSizes = None,
    what: Annotated[
        str, typer.Option("--pass", help="step (training) or forward (no gradients)", metavar="PASS")
    ] = "step",
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, float64, bfloat16 or float16", metavar="DTYPE")
    ] = "float32",
    optimiser: Annotated[
        str, typer.Option("--optimiser", help="sgd, momentum, rmsprop, adam or adamw", metavar="NAME")
    ] = "sgd",
    loss: options.Loss = "auto",
    fits: Annotated[
        str | None, typer.Option("--fits", help="The largest batch in this much memory: 24GiB.", metavar="SIZE")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Whose kernels are assumed: cpu or cuda", metavar="DEVICE")
    ] = "cpu",
    layers: Annotated[bool, typer.Option("--layers", help="What each layer keeps for backward, by term.")] = False,
    peaks: Annotated[bool, typer.Option("--peaks", help="What each layer holds at its peak, by term.")] = False,
    plot: options.Plot = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Predict parameters, gradients, optimiser state, saved-for-backward and peak bytes of a training step.

    With --pass forward, parameters, buffers and peak bytes of a forward pass. It runs without values, so that a
    network which would not fit can be asked about too. One that cannot run without values runs for real, and a note
    says so. Exit code 1 when closed form and measured saved bytes differ, or when nothing fits.
    """
    from e4profile.errors import SettingError, one_of
    from e4profile.questions.memory.rows import fits_row, forward_row, kernels_of, layer_table, memory_row, torch_dtype
    from e4profile.subjects.written import parse_size
    from e4profile.witnesses.memory.step import MOMENTS

    forward = one_of("pass", what, ("step", "forward")) == "forward"
    torch_dtype(dtype)
    one_of("optimiser", optimiser, MOMENTS)
    kernels = kernels_of(device)
    batches = options.batch_sizes(batch_size)
    scalar = options.loss_named(loss)
    cards = options.several_subjects(models, settings, inputs, arguments, execution=execution)
    budget = None if fits is None else parse_size(fits, "--fits")
    if budget is not None and batch_size is not None:
        raise SettingError(f"--fits finds the batch size: omit --batch-size {batch_size}")
    asked = [option for option, given in (("--fits", fits), ("--layers", layers), ("--peaks", peaks)) if given]
    if len(asked) > 1:
        raise SettingError(f"{' and '.join(asked)} are different tables: ask for one at a time")
    if (layers or peaks) and (len(cards) != 1 or len(batches) != 1):
        raise SettingError(f"{asked[0]} takes one network and one batch size")
    _check_plot(plot, cards, alone=not (asked or forward))
    if forward:
        _check_forward({"--layers": layers, "--peaks": peaks}, {"--optimiser": optimiser, "--loss": loss})
    if peaks or layers:
        from e4profile.questions.memory.peak_table import peak_table

        of_layers = layer_table(cards[0], batches[0], dtype, kernels) if layers else None
        emit(of_layers or peak_table(cards[0], batches[0], dtype), output_format, units)
        return
    rows, notes = [], list[str]()
    jobs = [(card, batch) for card in cards for batch in batches]
    with options.own_loss_running(scalar), Progress("memory", len(jobs), quiet=True) as progress:
        for card, batch in jobs:
            said = list[str]()
            if budget is not None:
                row = fits_row(card, budget, optimiser, dtype, scalar, said, kernels, forward=forward)
            elif forward:
                row = forward_row(card, batch, dtype, said, kernels)
            else:
                row = memory_row(card, batch, optimiser, dtype, scalar, said, kernels)
            rows.append(row | _told(said, kernels, output_format))
            notes += said
            progress.step(card.name)
    if fits is None:
        table = _forward_table(rows, dtype, notes) if forward else _step_table(rows, dtype, optimiser, notes, kernels)
        emit(table, output_format, units)
        _finish(rows, plot, cards)
        return
    setting = dtype if forward else f"{dtype}, {optimiser}"
    emit(partial(_fits_table, rows, setting, notes, fits, forward), output_format, units)
    if all(row["batch_size"] == 0 for row in rows):
        note(f"nothing fits: no network {'runs' if forward else 'trains'} on a single image in {fits}")
        sys.exit(1)


def _check_plot(plot: Path | None, cards: Sequence[Subject], *, alone: bool) -> None:
    """Refuse a figure beside another table than that of a training step, or one that cannot be drawn."""
    from e4profile.errors import SettingError
    from e4profile.questions.figures import check_plot

    if plot is not None and not alone:
        raise SettingError(
            "--plot draws a training step against the batch: omit --pass forward, --fits, --layers and --peaks"
        )
    check_plot(plot, ("memory",), cards)


def _finish(rows: Sequence[Mapping[str, Any]], plot: Path | None, cards: Sequence[Subject]) -> None:
    """Draw the figure where one is asked for; exit code 1 where closed form and measured bytes differ."""
    from e4profile.questions.figures import draw_beside

    draw_beside(plot, ("memory",), cards)
    if any(row.get("agrees") is False for row in rows):
        note("closed form and measured saved bytes differ")
        sys.exit(1)


def _check_forward(tables: Mapping[str, bool], training: Mapping[str, str]) -> None:
    """Refuse what says something of training only."""
    from e4profile.errors import SettingError

    for option, asked in tables.items():
        if asked:
            raise SettingError(f"{option} applies to a training step: omit it, or --pass forward")
    for option, value in training.items():
        if value not in ("sgd", "auto"):
            raise SettingError(f"{option} {value} applies to a training step: omit it, or --pass forward")


def _step_table(
    rows: Sequence[Mapping[str, Any]], dtype: str, optimiser: str, notes: Sequence[str], kernels: str
) -> Table:
    from e4profile.questions.columns import table_of_rows

    known = (
        "saved: kept by autograd between forward and backward, parameters and input apart; agrees: closed form = what "
        f"autograd keeps with the kernels of {kernels}",
        "peak: live storages at 512-byte granularity, gradients included, no workspaces; training step: peak + "
        "parameters + optimiser state + buffers + input",
    )
    return table_of_rows(f"Memory of a training step, {dtype}, {optimiser}", rows, (*known, *dict.fromkeys(notes)))


def _forward_table(rows: Sequence[Mapping[str, Any]], dtype: str, notes: Sequence[str]) -> Table:
    from e4profile.questions.columns import table_of_rows

    known = (
        "peak: live storages at 512-byte granularity of the first pass or a later one, in evaluation mode without "
        "gradients, no workspaces; forward pass: peak + parameters + buffers + input",
        "kept between passes: filters that a layer expands once in evaluation mode, a part of the peak",
    )
    return table_of_rows(f"Memory of a forward pass, {dtype}", rows, (*known, *dict.fromkeys(notes)))


def _fits_table(
    rows: Sequence[dict[str, Any]], what: str, notes: Sequence[str], fits: str, forward: bool, output_format: str,
    units: str,
) -> Table:  # fmt: skip
    from e4profile.questions.memory.rows import fits_table
    from e4profile.subjects.written import size_unit

    exact = output_format in ("json", "csv") or units == "exact"
    return fits_table(rows, what, notes, exact=exact, unit=size_unit(fits), forward=forward)


def _told(notes: list[str], kernels: str, output_format: str) -> dict[str, str]:
    """What a row says itself where a format has no notes below the table; Python has them beside it."""
    alone = output_format in ("json", "csv") and kept() is None
    return {"kernels": kernels, "notes": "; ".join(notes)} if alone else {}


ENTRY = Entry("measure", 2, memory, "Predict the bytes of a training step, part by part")
