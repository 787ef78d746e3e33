"""``e4profile sweep``: the grid of E4 settings against the G-CNN of the same topology."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.questions import options
from e4profile.questions.output import Progress, check_files, emit, note, on_interrupt, write_tables
from e4profile.witnesses.counts.registry import COUNTERS, REGISTRY, STOCK

if TYPE_CHECKING:
    from e4profile.questions.sweep.sweeps import Sweep
    from e4profile.records.store import RecordStore
    from e4profile.show.tables import Table
    from e4profile.witnesses.timing.samples import TimeRecord


def sweep(
    network: Annotated[
        str | None,
        typer.Argument(
            help="A card or a model of your own whose arguments --vary names; without it the paper's grid.",
            metavar=f"[{options.MODEL}]",
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            help="An argument of that network with its values: width=8..64..8 or act=relu,gelu. Repeatable.",
            metavar="ARGUMENT=VALUES",
        ),
    ] = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    execution: options.Execution = None,
    counter: Annotated[
        list[str] | None,
        typer.Option(
            "--counter",
            help=f"{', '.join(name for name in REGISTRY if REGISTRY[name].raw)}, beside closed form and dispatch. "
            f"Repeatable; {', '.join(STOCK)} by default, with --vary none.",
            metavar="NAME",
        ),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="With --vary: also the bytes of a training step at --batch-size.")
    ] = False,
    group: Annotated[
        list[str] | None, typer.Option("--group", help="p4, p4m, z2, C2, D1, D2. Repeatable.", metavar="GROUP")
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
        str | None, typer.Option("--width", help="Widths in fields; the card's own by default.", metavar="LIST")
    ] = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of records and plots [reports/sweep-GROUP, with the options given behind it].",
            metavar="DIR",
        ),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw the figures into --out.")] = True,
    html: options.Html = None,
    time: Annotated[
        bool, typer.Option("--time", help="Also time forward pass and training step of each setting.")
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images per timed pass.", metavar="N")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda, for --time.", metavar="DEVICE")] = "cpu",
) -> None:
    """Sweep E4 settings over r, s, k, width and group, with the G-CNN of the same topology as baseline.

    Without options: the paper's grid of the rot-MNIST network. Each finished setting is stored; the same
    command again resumes. With a network and --vary: every combination of its arguments' values, with parameters
    and MACs (closed form for a card, dispatch count for a model of your own), stored nowhere. Naming your own file
    or package imports it, which runs its code.
    """
    from e4profile.errors import SettingError, positive

    positive(**{"--batch-size": batch_size})
    counters = options.names(counter)
    if network is not None or vary or inputs or arguments or memory:
        if network is None:
            raise SettingError("--vary, --input, --arg and --memory need a network: sweep NAME --vary width=8")
        grid = {
            "--group": group, "--model": model, "-r": reduction, "-s": slices, "-k": kernel, "--width": width,
            "--out": out, "--html": html,
        }  # fmt: skip
        if unwanted := [option for option, value in grid.items() if value]:
            raise SettingError(f"sweep {network}: {', '.join(unwanted)} belongs to the grid of cards; use --vary here")
        from e4profile.questions.sweep.varied import show_variants
        from e4profile.witnesses.timing.in_turn import ForwardInTurn

        show_variants(
            options.one_subject(network, None, inputs, arguments), vary or [], output_format, units, counters=counters,
            timed_batch_size=batch_size, memory_batch_size=batch_size if memory else None,
            timer=ForwardInTurn(device) if time else None, execution=execution,
        )  # fmt: skip
        return
    from e4profile.questions.sweep.plans import DEFAULT_MODELS, make_plan
    from e4profile.questions.sweep.sweeps import Sweep
    from e4profile.questions.sweep.table import sweep_table

    plan = make_plan(
        options.networks(model) or list(DEFAULT_MODELS),
        options.names(group),
        reductions=options.whole_numbers("-r", reduction),
        slices=options.whole_numbers("-s", slices),
        kernels=options.whole_numbers("-k", kernel),
        widths=options.whole_numbers("--width", width),
        execution=execution,
    )
    groups = list(dict.fromkeys(setting.group.alias for setting in plan))
    chosen = {
        "": ",".join(options.names(model)), "r": reduction, "s": slices, "k": kernel, "width": width,
        "counter": ",".join(counters), "execution": execution,
    }  # fmt: skip
    folder = out or Path("reports") / _folder_name(groups, chosen)
    from e4profile.records.store import RecordStore

    store = RecordStore(folder / "records.jsonl")
    check_files(store.path, html)
    running = Sweep(plan, store, counters or COUNTERS)
    with on_interrupt(f"what was finished is saved in {folder}; the same command goes on from there"):
        _measure(running, store)
        table = _timed(running, folder, batch_size, device) if time else sweep_table(running)
    figures = _write_reports(table, running, folder) if plots else []
    write_tables(html, [table], figures)
    emit(table, output_format, units)
    if output_format in ("json", "csv"):
        note(*table.notes)
    if not all(row["agrees"] for row in running.rows()):
        note("closed form and measured counts disagree; run: e4profile check")
        sys.exit(1)


def _folder_name(groups: Sequence[str], chosen: Mapping[str, str | None]) -> str:
    """A name of its own for every choice, so that no sweep writes over the figures of another."""
    parts = ["sweep", *groups, *(f"{key}{text.replace(' ', '')}" for key, text in chosen.items() if text)]
    return re.sub(r"[^\w.,-]", "_", "-".join(parts))


def _timed(running: Sweep, folder: Path, batch_size: int, device: str) -> Table:
    """The table with the times of every setting; raw samples go to ``times.jsonl`` in the folder."""
    from e4profile.questions.sweep.sweep_times import time_rows, time_settings
    from e4profile.questions.sweep.table import timed_sweep_table
    from e4profile.records.store import RecordStore

    settings = running.settings
    store = RecordStore(folder / "times.jsonl")
    times: list[Mapping[str, TimeRecord]] = []
    with Progress("time", len(settings)) as progress:
        for records in time_settings(settings, store, batch_size, device):
            progress.step(settings[len(times)].describe())
            times.append(records)
    return timed_sweep_table(running, time_rows(running.rows(), settings, times), batch_size, device)


def _measure(running: Sweep, store: RecordStore) -> None:
    try:
        with Progress("sweep", len(running.plan)) as progress:
            for outcome in running.run():
                progress.step(outcome.setting.describe())
    finally:
        note(*(f"{store.path}: {text}" for text in store.notes))
    resumed = sum(outcome.resumed for outcome in running.outcomes)
    if resumed:
        total = len(running.outcomes)
        rest = "none counted anew" if resumed == total else f"{total - resumed} counted now"
        note(f"of the {total}, {resumed} were read back from {store.path}, {rest}")


def _write_reports(table: Table, running: Sweep, folder: Path) -> list[Path]:
    from e4profile.questions.sweep.figures import draw_sweep
    from e4profile.show.tables import render

    written = draw_sweep(running.rows_for_figures(), folder)
    for name, output_format in (("table.md", "markdown"), ("table.csv", "csv")):
        (folder / name).write_text(render(table, output_format), encoding="utf-8")
    note(f"wrote {len(written)} plot files, table.md and table.csv to {folder}")
    return written
