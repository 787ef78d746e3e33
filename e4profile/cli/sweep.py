"""``e4profile sweep``: the grid of E4 settings against the G-CNN of the same topology."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.cli.options import Format, Html, Units, check_format, names, whole_numbers
from e4profile.cli.output import Progress, emit, note

if TYPE_CHECKING:
    from e4profile.render.tables import Table


def sweep(
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="p4, p4m, z2, C2, D1, D2. Repeatable.", metavar="GROUP"),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A card's name. Repeatable.", metavar="NAME")
    ] = None,
    reduction: Annotated[
        str | None, typer.Option("-r", "--reduction", help="Reduction ratios, e.g. 1,2,4.", metavar="LIST")
    ] = None,
    slices: Annotated[
        str | None, typer.Option("-s", "--slices", help="Numbers of slices, e.g. 1,2,4.", metavar="LIST")
    ] = None,
    kernel: Annotated[
        str | None, typer.Option("-k", "--kernel", help="Odd kernel sizes, e.g. 3,5,7.", metavar="LIST")
    ] = None,
    width: Annotated[
        str | None,
        typer.Option("--width", help="Widths in fields; the card's own by default.", metavar="LIST"),
    ] = None,
    output_format: Format = "table",
    units: Units = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of records and plots [reports/sweep-GROUP].", metavar="DIR"),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw the figures into --out.")] = True,
    html: Html = None,
    time: Annotated[
        bool, typer.Option("--time", help="Also time forward pass and training step of each setting.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images per timed pass.", metavar="N")
    ] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda, for --time.", metavar="DEVICE")] = "cpu",
) -> None:
    """Sweep E4 settings over r, s, k, width and group, with the G-CNN of the same topology as baseline.

    Without options: the paper's grid of the rot-MNIST network. Each finished setting is stored; the same
    command again resumes.
    """
    check_format(output_format)
    from e4profile.errors import positive
    from e4profile.plans import DEFAULT_MODELS, make_plan
    from e4profile.sweeps import Sweep

    positive(**{"--batch-size": batch_size})

    groups, models = names(group), names(model) or list(DEFAULT_MODELS)
    plan = make_plan(
        models,
        groups,
        reductions=whole_numbers("-r", reduction),
        slices=whole_numbers("-s", slices),
        kernels=whole_numbers("-k", kernel),
        widths=whole_numbers("--width", width),
    )
    folder = out or Path("reports") / f"sweep-{'-'.join(dict.fromkeys(_groups(plan)))}"
    from e4profile.records import RecordStore

    store = RecordStore(folder / "records.jsonl")
    store.check_writable()
    if html is not None:
        from e4profile.render.html.page import check_writable

        check_writable(html)
    running = Sweep(plan, store)
    _measure(running)
    table = sweep_table(running.rows(), sweep_notes(running), groups=_groups(plan))
    if time:
        table = _with_times(table, running, folder, batch_size, device)
    figures = _write_reports(table, running, folder) if plots else []
    if html is not None:
        from e4profile.render.html.page import write_page

        write_page(html, table.title, [table], figures)
        note(f"wrote {html}")
    emit(table, output_format, units)
    if output_format in ("json", "csv"):
        for text in table.notes:
            note(text)
    if not all(row["agrees"] for row in running.rows()):
        note("closed form and measured counts disagree; run: e4profile check")
        sys.exit(1)


def _with_times(table: Table, running: Any, folder: Path, batch_size: int, device: str) -> Table:
    """The same table with the times of every setting; raw samples go to ``times.jsonl`` in the folder."""
    from dataclasses import replace

    from e4profile.records import RecordStore
    from e4profile.render.tables import Column
    from e4profile.sweep_times import SweepTimes, time_rows

    settings = running.plan.settings
    store = RecordStore(folder / "times.jsonl")
    progress = Progress("time", len(settings))
    times = {}
    try:
        for index, (setting, records) in enumerate(SweepTimes(store, batch_size, device).measure(settings)):
            times[index] = records
            progress.step(setting.describe())
    finally:
        progress.close()
    columns = (
        *table.columns,
        Column("forward_median_s", "forward", "seconds", priority=84),
        Column("forward_iqr_s", "forward IQR", "seconds", priority=15),
        Column("step_median_s", "training step", "seconds", "step", 84),
        Column("step_iqr_s", "step IQR", "seconds", priority=15),
        Column("forward_ratio", "forward ratio", "ratio", priority=82),
        Column("step_ratio", "step ratio", "ratio", priority=82),
        Column("noisy", "noisy", "boolean", priority=65),
    )
    how = (
        f"times: {device}, one thread, batch of {batch_size}, float32; forward in evaluation, step (forward, loss, "
        "backward) in training; median and interquartile range of raw samples"
    )
    return replace(
        table, columns=columns, rows=tuple(time_rows(running.rows(), settings, times)), notes=(*table.notes, how)
    )


def _measure(running: Any) -> None:
    progress = Progress("sweep", len(running.plan.settings))
    try:
        for outcome in running.run():
            progress.step(outcome.setting.describe())
    finally:
        progress.close()
        for text in running.store.notes:
            note(f"{running.store.path}: {text}")
    resumed = sum(outcome.resumed for outcome in running.outcomes)
    if resumed:
        note(f"{resumed} of {len(running.outcomes)} settings read back from {running.store.path}")


def _groups(plan: Any) -> list[str]:
    return list(dict.fromkeys(setting.group for setting in plan.settings))


def sweep_notes(running: Any) -> list[str]:
    """What a reader of a sweep's table must know: what was left out, which counters failed and why."""
    by_reason: dict[str, list[str]] = {}
    for skip in running.plan.skipped:
        by_reason.setdefault(skip.reason, []).append(skip.setting.describe())
    notes = [
        f"skipped {len(settings)} ({settings[0]}{', ...' if len(settings) > 1 else ''}): {reason}"
        for reason, settings in by_reason.items()
    ]
    failures: dict[str, int] = {}
    for outcome in running.outcomes:
        for counter, reason in outcome.record.counts["failures"].items():
            failures[f"{counter}: {reason}"] = failures.get(f"{counter}: {reason}", 0) + 1
    notes += [f"no figure in {times} rows: {reason}" for reason, times in failures.items()]
    notes.append("ratios: to the G-CNN of the same topology, group, width and kernel")
    return notes


def sweep_table(rows: Sequence[dict[str, Any]], notes: Sequence[str], groups: Sequence[str] = ()) -> Table:
    """A sweep's rows as a table."""
    from e4profile.render.tables import Column, Table

    columns = (
        Column("model", "model", "text", priority=90),
        Column("group", "group", "text", priority=60),
        Column("width", "width", "integer", priority=60),
        Column("kernel", "kernel", "integer", "k", 85),
        Column("reduction", "reduction", "integer", "r", 85),
        Column("slices", "slices", "integer", "s", 85),
        Column("params_formula", "params formula", "integer", "params form.", 70),
        Column("params_measured", "params measured", "integer", "params meas.", 40),
        Column("macs_formula", "MACs formula", "integer", "MACs form.", 70),
        Column("macs_measured", "MACs measured", "integer", "MACs meas.", 55),
        Column("macs_printed_form", "MACs printed form", "integer", "MACs printed", 30),
        Column("fvcore", "fvcore", "integer", priority=20),
        Column("thop", "thop", "integer", priority=20),
        Column("agrees", "agrees", "boolean", priority=100),
        Column("params_ratio", "params ratio", "ratio", priority=50),
        Column("macs_ratio", "MACs ratio", "ratio", priority=50),
    )
    return Table(
        title=f"E4 settings against the G-CNN of the same topology, {', '.join(groups)}",
        columns=columns,
        rows=tuple(rows),
        notes=tuple(notes),
        convention="macs (convolution + linear + aggregation; fvcore and thop as they report)",
    )


def _write_reports(table: Table, running: Any, folder: Path) -> list[Path]:
    from e4profile.render.plots import plot_sweep
    from e4profile.render.tables import render

    rows = running.rows_for_plots()
    written = plot_sweep(rows, folder)
    for name, output_format in (("table.md", "markdown"), ("table.csv", "csv")):
        (folder / name).write_text(render(table, output_format), encoding="utf-8")
    note(f"wrote {len(written)} plot files, table.md and table.csv to {folder}")
    return written


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep")(sweep)
