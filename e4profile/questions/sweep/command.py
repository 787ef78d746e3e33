"""``e4profile sweep``: the grid of E4 settings against the G-CNN of the same topology."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from e4profile.conventions import convention
from e4profile.errors import SettingError, positive
from e4profile.questions import job_options, options
from e4profile.questions.answers import kept
from e4profile.questions.entry import Entry, OldName
from e4profile.questions.figures import check_plot
from e4profile.questions.output import Progress, check_columns, check_files, emit, note, on_interrupt, write_tables
from e4profile.questions.sweep.pareto_view import pareto
from e4profile.witnesses.counts.registry import COUNTERS

if TYPE_CHECKING:
    from e4profile.questions.match.by_time import Timer
    from e4profile.questions.sweep.quantities import How, Limit, Quantity
    from e4profile.questions.sweep.sweeps import Sweep
    from e4profile.records.jobs.executors import Jobs
    from e4profile.records.store import RecordStore
    from e4profile.show.tables import Table
    from e4profile.witnesses.timing.samples import TimeRecord


_LIMITS = "At most, at least: params=1M,time=30ms (help costs)."


def sweep(
    networks: Annotated[
        list[str] | None, typer.Argument(help=options.MODEL_HELP, metavar=options.MODEL, callback=options.networks)
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", help="width=8..64..8,group=p4,p4m,act=relu,gelu", metavar="NAME=VALUES"),
    ] = None,
    most: Annotated[list[str] | None, typer.Option("--max", help=_LIMITS, metavar="COST=VALUE")] = None,
    least: Annotated[list[str] | None, typer.Option("--min", help=_LIMITS, metavar="COST=VALUE")] = None,
    front: Annotated[
        str | None, typer.Option("--front", help="What no other beats: params,time or error,macs.", metavar="COST,...")
    ] = None,
    errors: Annotated[
        list[str] | None,
        typer.Option("--error", help="A network's test error, as you know it.", metavar="NAME=PERCENT", hidden=True),
    ] = None,
    its_table: Annotated[
        str | None, typer.Option("--table", help="The table whose errors are set.", metavar="NAME", hidden=True)
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", help="By a cost; -COST puts the largest first.", metavar="[-]COST")
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", help="Show so many, 0 for all; 20 of more than 1,000.", metavar="N", min=0)
    ] = None,
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    execution: options.Execution = None,
    counter: Annotated[
        list[str] | None, typer.Option("--counter", help="With closed-form nothing runs.", metavar="NAME,...")
    ] = None,
    convention_name: Annotated[
        str, typer.Option("--convention", help="Count by another rule, e.g. flops.", metavar="RULE")
    ] = "macs",
    memory: Annotated[bool, typer.Option("--memory", help="Also the bytes of a training step.")] = False,
    group: Annotated[
        list[str] | None, typer.Option("--group", help="Short for --vary reduction, slices, ...", metavar="LIST")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A card for the paper's grid.", metavar="NAME", hidden=True)
    ] = None,
    reduction: Annotated[
        str | None, typer.Option("-r", "--reduction", help="Short for --vary reduction, slices, ...", metavar="LIST")
    ] = None,
    slices: Annotated[
        str | None, typer.Option("-s", "--slices", help="Short for --vary reduction, slices, ...", metavar="LIST")
    ] = None,
    kernel: Annotated[
        str | None, typer.Option("-k", "--kernel", help="Short for --vary reduction, slices, ...", metavar="LIST")
    ] = None,
    width: Annotated[
        str | None, typer.Option("--width", help="Short for --vary reduction, slices, ...", metavar="LIST")
    ] = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", help="For records, table, figures [reports/sweep-GROUP].", metavar="DIR")
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="No figures of the grid.")] = True,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw here, not into --out (SVG, PNG, CSV).", metavar="DIR")
    ] = None,
    html: options.Html = None,
    time: Annotated[bool, typer.Option("--time", help="Time every setting.")] = False,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Predict by a file of e4profile calibrate.", metavar="FILE")
    ] = None,
    verify: Annotated[int, typer.Option("--verify", help="Time N of what is left, in turn.", metavar="N", min=0)] = 0,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Images per pass; else 1, or what --input says.", metavar="N")
    ] = None,
    device: options.Device = "cpu",
    max_run_time_s: Annotated[float, options.duration("--max-run-time-s", "Sample a pass at most this long.")] = 2.0,
    jobs: job_options.How = None,
    partition: job_options.Partition = None,
    gpus: job_options.Gpus = None,
    array_parallelism: job_options.ArrayParallelism = None,
    timeout_min: job_options.TimeoutMin = None,
    job_minutes: job_options.JobMinutes = 5.0,
) -> None:
    """Sweep settings of networks, keep to limits, name the front.

    Without a network, the paper's grid: E4 over r, s, k, width and group, and its G-CNN; the same command resumes.
    """
    if batch_size is not None:
        positive(**{"--batch-size": batch_size})
    convention(convention_name)
    check_plot(plot, (), ())
    asked_jobs = job_options.jobs_asked(
        jobs, partition, gpus, array_parallelism, timeout_min, job_minutes, time=time or verify > 0
    )
    counters = options.names(counter)
    named = networks or []
    given = {"group": ",".join(options.names(group)), "reduction": reduction, "slices": slices, "kernel": kernel,
             "width": width}  # fmt: skip
    if not named and not (settings or inputs or arguments or memory):
        vary, given = _of_the_grid(vary or [], given)
    asked = any(
        one is not None for one in (errors, its_table, most, least, front, sort, top, calibration, verify or None)
    )
    if named or vary or settings or inputs or arguments or memory or asked:
        if not named and not its_table:
            raise SettingError(
                "--vary, --set, --input, --memory, limits and fronts need a network: sweep NAME --vary width=8"
            )
        if model:
            raise SettingError(
                f"sweep {' '.join(named)}: --model belongs to the grid of cards; name the network itself"
            )
        short = [f"{name}={text}" for name, text in given.items() if text]
        _sweep_networks(
            named, [*(vary or []), *short], settings, inputs, arguments, execution, counters,
            Asked(most or [], least or [], front, sort, top, calibration, verify, errors, its_table), memory=memory,
            time=time,
            batch_size=batch_size, device=device, max_run_time_s=max_run_time_s, jobs=asked_jobs,
            convention_name=convention_name, shown=Shown(output_format, units, out, html, plot),
        )  # fmt: skip
        return
    if convention_name != "macs":
        raise SettingError(
            f"--convention {convention_name}: the grid counts MACs; name the network, for example "
            f"sweep e4net --vary reduction=1,2,slices=1,2 --convention {convention_name}"
        )
    reduction, slices, kernel, width = (given[name] for name in ("reduction", "slices", "kernel", "width"))
    group = [given["group"]] if given["group"] else None
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
    _check_grid(counters, store.path, html, device if time and asked_jobs is None else None, timed=time)
    running = Sweep(plan, store, counters or COUNTERS)
    with on_interrupt(f"what was finished is saved in {folder}; the same command goes on from there"):
        _measure(running, store)
        table, failed = sweep_table(running), list[str]()
        if time:
            table, failed = _timed(running, folder, batch_size or 1, device, max_run_time_s, asked_jobs)
    figures = _write_reports(table, running, folder, plot or folder) if plots or plot or kept() else []
    write_tables(html, [table], figures)
    skipped = [(skip.setting.describe(), skip.reason) for skip in running.skipped]
    emit(table, output_format, units, facts=lambda: {"skipped": skipped})
    if output_format in ("json", "csv"):
        note(*table.notes)
    if not all(row["agrees"] for row in running.rows()):
        note("closed form and measured counts disagree; run: e4profile check")
        sys.exit(1)
    job_options.tell_failures(failed)


def _check_grid(counters: Sequence[str], records: Path, page: Path | None, device: str | None, *, timed: bool) -> None:
    """Refuse columns, files and a device (None for none here) that would end the sweep of the grid."""
    from e4profile.questions.sweep.table import columns_of

    check_columns(*columns_of(counters or COUNTERS, timed=timed))
    check_files(records, page)
    if device is not None:
        from e4profile.witnesses.timing.passes import device_named

        device_named(device)


class Asked(NamedTuple):
    """Limits, fronts and order as they are written."""

    most: list[str]
    least: list[str]
    front: str | None
    sort: str | None
    top: int | None
    calibration: Path | None
    verify: int
    errors: list[str] | None
    table: str | None


class Shown(NamedTuple):
    """Where the answer goes, and how it is written."""

    output_format: str
    units: str
    out: Path | None
    html: Path | None
    plot: Path | None


def _of_the_grid(vary: list[str], given: dict[str, str | None]) -> tuple[list[str], dict[str, str | None]]:
    """What ``--vary`` says of the paper's grid, as its own options say it; the rest needs a network."""
    from e4profile.subjects.named import split_pairs
    from e4profile.subjects.written import parse_varied

    left, merged = [], dict(given)
    for text in (part for joined in vary for part in split_pairs(joined)):
        axis = parse_varied(text)
        if axis.name in merged and axis.given is not None and not merged[axis.name]:
            merged[axis.name] = ",".join(map(str, axis.given))
        else:
            left.append(text)
    return left, merged


def _sweep_networks(
    named: list[str], vary: list[str], settings: list[str] | None, inputs: list[str] | None,
    arguments: list[str] | None, execution: str | None, counters: list[str],
    asked: Asked, *, memory: bool, time: bool, batch_size: int | None, device: str, max_run_time_s: float,
    jobs: Jobs | None, convention_name: str, shown: Shown,
) -> None:  # fmt: skip
    """The settings of networks: every one built, or, of many or with limits, by closed form."""
    from e4profile.questions.sweep.cloud import MOST_BUILT, check_size
    from e4profile.questions.sweep.quantities import PREDICTED, STEP_TIME, TIME, How, is_error, quantity, read_limits
    from e4profile.questions.sweep.variant_sweep import axes_of
    from e4profile.witnesses.timing.in_turn import ForwardInTurn

    limits = read_limits(asked.most, asked.least)
    fronts = [quantity(name, "--front") for name in options.names([asked.front] if asked.front is not None else None)]
    descending = asked.sort is not None and asked.sort.startswith("-")
    order = None if asked.sort is None else quantity(asked.sort.removeprefix("-"), "--sort")
    if asked.errors or asked.table or any(is_error(one) for one in [*fronts, order, *(one.quantity for one in limits)]):
        unheard = {
            "--vary": vary, "--counter": counters, "--execution": execution, "--memory": memory, "--jobs": jobs,
            "--calibration": asked.calibration, "--verify": asked.verify, "--html": shown.html,
        }  # fmt: skip
        _published_errors(
            named, fronts, limits, order, settings, inputs, arguments, asked, shown,
            [option for option, value in unheard.items() if value], descending=descending,
            batch_size=batch_size, device=device, max_run_time_s=max_run_time_s,
        )  # fmt: skip
        return

    def meant(one: Quantity) -> Quantity:
        # what is not timed is predicted
        return PREDICTED if one is TIME and not time else one

    limits = [replace(one, quantity=meant(one.quantity)) for one in limits]
    fronts = [meant(one) for one in fronts]
    if len(set(fronts)) < len(fronts):
        told = "; without --time, time is predicted" if TIME.name in str(asked.front) and not time else ""
        raise SettingError(f"--front {asked.front} names one cost twice: name different ones{told}")
    order = None if order is None else meant(order)
    axes = axes_of(vary) if vary or not (limits or fronts or order or asked.verify) else []
    total = check_size(axes, len(named)) * len(named)
    many = total > MOST_BUILT or counters == ["closed-form"] or len(named) > 1
    timer: Timer | None = None
    threads = _threads(asked.calibration, jobs)
    if jobs is not None and shown.out is None:
        raise SettingError("--jobs: give the folder that the jobs share with --out DIR")
    if (time or asked.verify) and shown.out is not None:
        from e4profile.questions.sweep.kept_times import KeptTimes

        timer = KeptTimes(shown.out, device, max_run_time_s, jobs, threads)
    elif time or asked.verify:
        timer = ForwardInTurn(device, max_run_time_s, threads)
    images = batch_size or 1
    if shown.plot is not None and len(fronts) < 2:
        raise SettingError("--plot draws the paper's grid or a front: say which, for example --front params,macs")
    if not (many or limits or fronts or order or asked.top is not None or asked.verify):
        from e4profile.questions.sweep.varied import show_variants

        show_variants(
            options.one_subject(named[0], settings, inputs, arguments), vary, shown.output_format, shown.units,
            counters=counters, timed_batch_size=images, memory_batch_size=images if memory else None, timer=timer,
            execution=execution, out=shown.out, page=shown.html, convention_name=convention_name,
        )  # fmt: skip
        return
    _check_by_formula(counters, convention_name)
    from e4profile.questions.sweep.chosen import Wanted, show_chosen

    subjects = options.several_subjects(named, settings, inputs, arguments, execution=execution)
    if memory:
        order = order or quantity("memory", "--memory")
    wanted = Wanted(limits, fronts, order, asked.top, time, asked.verify, descending)
    how = How(batch_size, timer, threads=threads)
    if {PREDICTED, STEP_TIME} & set(wanted.quantities):
        how = _predicting(how, device, asked.calibration, steps=STEP_TIME in wanted.quantities)
    show_chosen(subjects, axes, wanted, how, *shown)
    job_options.tell_failures(getattr(timer, "failed", []))


def _check_by_formula(counters: Sequence[str], convention_name: str) -> None:
    """Refuse what only networks that are built, one by one, can say."""
    from e4profile.questions.sweep.cloud import MOST_BUILT

    running = ", ".join(name for name in counters if name != "closed-form")
    asked = {f"--counter {running}": running, f"--convention {convention_name}": convention_name != "macs"}
    for option, given in asked.items():
        if given:
            raise SettingError(
                f"{option} counts setting by setting: of one network and at most {MOST_BUILT:,} settings, without "
                "limits and fronts"
            )


def _threads(calibration: Path | None, jobs: Jobs | None) -> int:
    """Of every time, predicted or measured: one in jobs, those of a calibration that is named, else PyTorch's."""
    from e4profile.records.calibrations import read_calibration

    if jobs is not None:
        return 1
    return options.threads_used() if calibration is None else read_calibration(calibration).threads


def _predicting(how: How, device: str, file: Path | None, *, steps: bool) -> How:
    """How times are predicted: by the device's calibration, or by the one that is named, and how far they are off."""
    from e4profile.questions.calibrate.command import predicting

    try:
        rates, remarks = predicting(device, how.threads, file, steps=steps)
    except SettingError as error:
        raise SettingError(f"{error}; with --time the settings that are left are timed instead") from error
    return replace(how, rates=rates, remarks=remarks)


def _published_errors(
    named: list[str], fronts: list[Quantity], limits: list[Limit], order: Quantity | None, settings: list[str] | None,
    inputs: list[str] | None, arguments: list[str] | None, asked: Asked, shown: Shown, unheard: list[str], *,
    descending: bool, **how: Any,
) -> None:  # fmt: skip
    """The published errors of networks against one cost, of those that keep to the limits."""
    from e4profile.questions.sweep.pareto_view import published_front
    from e4profile.questions.sweep.quantities import ERROR, is_error

    given = [*fronts, *(limit.quantity for limit in limits), *([] if order is None else [order])]
    errors = list(dict.fromkeys(one.name for one in given if is_error(one)))
    if len(errors) > 1:
        raise SettingError(f"{' and '.join(errors)} are different errors: name one")
    if unheard or (fronts and [is_error(one) for one in fronts] not in ([True, False], [False, True])):
        front = f"--front {asked.front}: " if fronts else ""
        omit = f", and omit {', '.join(unheard)}" if unheard else ""
        raise SettingError(
            f"{front}errors are published for networks, not for settings: name one cost beside {ERROR}, for "
            f"example --front error,macs{omit}"
        )
    costs = [one for one in fronts or given if not is_error(one)]
    # a time is measured, and limits on what is counted hold beside it
    cost = next((one for one in costs if one.name == "time"), costs[0] if costs else None)
    published_front(
        named, settings, inputs, arguments, limits=limits, errors=asked.errors, table=asked.table,
        x="macs" if cost is None else cost.name, y=(errors or [ERROR])[0], sort=order, descending=descending,
        top=asked.top, out=shown.plot or shown.out, output_format=shown.output_format, units=shown.units, **how,
    )  # fmt: skip


def _folder_name(groups: Sequence[str], chosen: Mapping[str, str | None]) -> str:
    """A name of its own for every choice, so that no sweep writes over the figures of another."""
    parts = ["sweep", *groups, *(f"{key}{text.replace(' ', '')}" for key, text in chosen.items() if text)]
    return re.sub(r"[^\w.,-]", "_", "-".join(parts))


def _timed(
    running: Sweep, folder: Path, batch_size: int, device: str, max_run_time_s: float, jobs: Jobs | None
) -> tuple[Table, list[str]]:
    """The table with the times of every setting, and what could not be timed; raw samples go to ``times.jsonl``."""
    from e4profile.questions.sweep.sweep_times import machine_notes, passes_of, time_rows, time_settings, times_of
    from e4profile.questions.sweep.table import timed_sweep_table
    from e4profile.records.jobs.known import Known
    from e4profile.records.store import RecordStore
    from e4profile.witnesses.timing.samples import StopRule

    settings = running.settings
    store = RecordStore(folder / "times.jsonl")
    rule = StopRule(min_run_time_s=min(0.1, max_run_time_s), max_run_time_s=max_run_time_s)
    times: list[Mapping[str, TimeRecord]] = []
    failed: dict[str, str] = {}
    passes = []
    if jobs is not None:
        store.check_writable()
        known = Known(store, anywhere=True)
        passes = passes_of(settings, batch_size, device, rule)
        failed = job_options.time_by_jobs([one for both in passes for one in both], known, jobs)
        times = [times_of(one, known) for one in passes]
    else:
        with Progress("time", len(settings)) as progress:
            for records in time_settings(settings, store, batch_size, device, rule, waiting=progress.say):
                progress.step(settings[len(times)].describe())
                times.append(records)
    reasons = [
        "; ".join(dict.fromkeys(f"{one.pass_}: {failed[key]}" for key, one in both if key in failed)) for both in passes
    ]
    rows = time_rows(running.rows(), settings, times, reasons)
    table = timed_sweep_table(running, rows, batch_size, device, machine_notes(times))
    return table, list(failed.values())


def _measure(running: Sweep, store: RecordStore) -> None:
    try:
        with Progress("sweep", len(running.plan)) as progress:
            for outcome in running.run(progress.say):
                progress.step(outcome.setting.describe())
    finally:
        note(*(f"{store.path}: {text}" for text in store.notes))
    resumed = sum(outcome.resumed for outcome in running.outcomes)
    if resumed:
        total = len(running.outcomes)
        rest = "none counted anew" if resumed == total else f"{total - resumed} counted now"
        note(f"of the {total}, {resumed} were read back from {store.path}, {rest}")


def _write_reports(table: Table, running: Sweep, folder: Path, place: Path) -> list[Path]:
    """The table in the folder, the figures in their place; Python draws when its caller asks for it."""
    from e4profile.questions.sweep.figures import draw_sweep, sweep_plots
    from e4profile.questions.sweep.table import write_table

    if (answer := kept()) is not None:
        answer.figures.append(partial(sweep_plots, running.rows_for_figures()))
        return []
    written = draw_sweep(running.rows_for_figures(), place)
    write_table(table, folder)
    here, tables = f"wrote {len(written)} plot files", "table.md and table.csv"
    note(f"{here}, {tables} to {folder}" if place == folder else f"{here} to {place}, {tables} to {folder}")
    return written


ENTRY = Entry(
    "choose",
    1,
    sweep,
    "Sweep settings, keep to limits, name the front",
    before={"pareto": OldName(pareto, "e4profile sweep --front error,macs, with --table NAME for its cards")},
)
