"""``e4profile time``: how long a pass takes, against another network, term by term, or under the device's roof."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.questions import job_options, options
from e4profile.questions.entry import Entry, OldName
from e4profile.questions.output import check_columns, check_files, emit, note, on_interrupt, write_tables
from e4profile.questions.time.roofline_table import roofline
from e4profile.questions.time.runs import break_down_networks, compare_networks, stored, time_networks

if TYPE_CHECKING:
    from e4profile.show.tables import Column, Table
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.timing.passes import PassSetting
    from e4profile.witnesses.timing.samples import StopRule


def time(
    models: options.Networks,
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    execution: options.Execution = None,
    device: options.Device = "cpu",
    batch_size: options.BatchSizes = None,
    passes: Annotated[str, typer.Option("--pass", help="forward, backward, step", metavar="PASS,...")] = "forward",
    mode: Annotated[
        str | None, typer.Option("--mode", help="eval or train; else eval for forward alone.", metavar="MODE")
    ] = None,
    dtype: options.Dtype = "float32",
    loss: options.Loss = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Apply torch.compile first.")] = False,
    graphs: Annotated[bool, typer.Option("--cuda-graphs", help="Replay CUDA graphs.")] = False,
    threads: options.Threads = None,
    min_run_time_s: Annotated[
        float | None, options.duration("--min-run-time-s", "Sample at least this long [0.5; --fits: 0.1].")
    ] = None,
    max_run_time_s: options.MaxRunTime = 10.0,
    against: Annotated[
        str | None, typer.Option("--against", help="Compare, in turn, with a network as it is.", metavar="NETWORK")
    ] = None,
    fits: Annotated[
        str | None, typer.Option("--fits", help="The largest batch within a time; exit 1 if none.", metavar="TIME")
    ] = None,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Share of time per named term.")] = False,
    by_roofline: Annotated[
        bool, typer.Option("--roofline", help="Intensity, bound, ideal and measured, by layer.")
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="... also with the aggregation in plain operators.")
    ] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="... with the device's peaks measured again.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw breakdown or roofline into a folder.", metavar="DIR")
    ] = None,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="By term from e4profile calibrate; nothing runs.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Predict by a file of e4profile calibrate.", metavar="FILE")
    ] = None,
    out: options.Records = None,
    join: Annotated[
        Path | None, typer.Option("--join", help="Show the records of a file in the same table.", metavar="FILE")
    ] = None,
    mixed: options.Mixed = False,
    jobs: job_options.HowOfTime = None,
    partition: job_options.Partition = None,
    gpus: job_options.Gpus = None,
    array_parallelism: job_options.ArrayParallelism = None,
    timeout_min: job_options.TimeoutMin = None,
    job_minutes: job_options.JobMinutes = 5.0,
    html: options.Html = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Time forward, backward or the whole training step, by raw samples."""
    # the profiler's library writes its own progress to stderr unless told not to before it is loaded
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from e4profile.subjects.subject import names_code
    from e4profile.subjects.written import parse_duration
    from e4profile.witnesses.timing.passes import PassSetting
    from e4profile.witnesses.timing.samples import StopRule

    given = {"--against": against, "--compile": compile, "--cuda-graphs": graphs, "--join": join, "--fits": fits}
    asked_jobs = job_options.jobs_asked(jobs, partition, gpus, array_parallelism, timeout_min, job_minutes, time=True)
    limit_s = None if fits is None else parse_duration(fits, "--fits")
    _check_together(breakdown, limit_s, {**given, "--batch-size": batch_size, "--jobs": jobs})
    if by_roofline or reference or refresh or (plot and not breakdown):
        only = {"--reference": reference, "--refresh": refresh, "--plot": plot}
        of_a_pass = {
            **given, "--breakdown": breakdown, "--predicted": predicted, "--calibration": calibration, "--html": html,
            "--mixed": mixed, "--mode": mode, "--min-run-time-s": min_run_time_s,
            "--jobs": jobs, f"--pass {passes}": passes != "forward", f"--loss {loss}": loss != "auto",
        }  # fmt: skip
        roofline(
            _for_roofline(by_roofline, models, only, of_a_pass), settings, inputs, arguments,
            execution, device, dtype, _one_batch(batch_size), threads, reference, max_run_time_s, refresh, plot, out,
            output_format, units,
        )  # fmt: skip
        return
    batches = options.batch_sizes(batch_size)
    scalar = options.loss_named(loss)
    used = options.threads_used(threads)
    # while a batch is searched, a clear answer needs few samples
    shortest_s = min(0.5 if limit_s is None else 0.1, max_run_time_s) if min_run_time_s is None else min_run_time_s
    rule = StopRule(min_run_time_s=shortest_s, max_run_time_s=max_run_time_s)
    here = "cpu" if predicted or asked_jobs else device
    choices = [
        PassSetting(
            one, mode or ("eval" if one == "forward" else "train"), here, dtype, size,
            compile, graphs and not asked_jobs, None if predicted else used, scalar,
        )
        for size in batches
        for one in _passes(passes)
    ]  # fmt: skip
    cards = options.several_subjects(models, settings, inputs, arguments, execution=execution)
    if predicted or calibration is not None:
        step = _check_predicted(predicted, {**given, "--breakdown": breakdown, "--out": out, "--jobs": jobs}, choices)
        where = (device, choices[0].dtype, threads)
        _predict(cards, batches, where, calibration, output_format, units, html, step=step)
        return
    other = None if against is None else options.one_subject(against, None, inputs if names_code(against) else None)
    check_columns(*_columns(breakdown=breakdown, fits=limit_s is not None, compared=other is not None))
    check_files(out, html)
    failed = False
    # a breakdown writes its tables one by one, outside of what the loss prints
    loss_runs = nullcontext() if breakdown else options.own_loss_running(scalar)
    with loss_runs, on_interrupt(None if out is None else _finished(out)):
        if breakdown:
            tables = break_down_networks(cards, choices, rule, output_format, units, out, plot)
        elif asked_jobs is not None:
            from e4profile.questions.time.by_jobs import time_networks_by_jobs

            apart = {option: value for option, value in given.items() if option != "--compile"}
            tables, failed = time_networks_by_jobs(cards, choices, rule, device, out, asked_jobs, apart)
        elif limit_s is not None:
            from e4profile.questions.time.fits import fits_networks

            tables = [fits_networks(cards, choices, rule, limit_s, out)]
        elif other is not None:
            tables = [compare_networks(cards, other, choices, rule, out)]
        else:
            tables, failed = _time(cards, choices, rule, out, join, mixed)
    if not breakdown:
        emit(tables[0], output_format, units)
    unfit = limit_s is not None and not any(row["batch_size"] for row in tables[0].rows)
    _end(html, tables, used, unfit=fits if unfit else None, failed=failed)


def _end(html: Path | None, tables: Sequence[Table], threads: int, *, unfit: str | None, failed: bool) -> None:
    """Write the page; exit code 1 where a network could not be timed, or no batch of any fits into a time."""
    if unfit:
        note(f"nothing fits: no batch of any network stays within {unfit}")
    if failed:
        note("not every network could be timed")
        sys.exit(1)
    _write_page(html, tables, threads)
    if unfit:
        sys.exit(1)


def _write_page(html: Path | None, tables: Sequence[Table], threads: int) -> None:
    """Write the tables as a page, where one is asked for, with the environment that they were measured in."""
    from e4profile.witnesses.environment import described, environment
    from e4profile.witnesses.timing.passes import fixed_threads

    if html is not None:
        with fixed_threads(threads):  # as while it was measured
            where = described(environment())
        write_tables(html, tables, notes=[where])


def _check_together(breakdown: bool, limit_s: float | None, given: dict[str, object]) -> None:
    """Refuse options that exclude each other."""
    from e4profile.errors import SettingError

    if breakdown and any(value for option, value in given.items() if option != "--batch-size"):
        raise SettingError("--breakdown profiles one network as it is: omit --against, --compile, --cuda-graphs, "
                           "--fits, --join and --jobs")  # fmt: skip
    for option in ("--against", "--join", "--batch-size"):
        if limit_s is not None and given[option] is not None:
            raise SettingError(f"--fits finds the batch size of each network: omit {option} {given[option]}")


def _for_roofline(asked: bool, named: list[str], only: Mapping[str, object], other: Mapping[str, object]) -> str:
    """The network whose layers are held against the roof.

    Raises:
        SettingError: naming the option that does not go with it, or without which it does not go.
    """
    from e4profile.errors import SettingError

    if not asked:
        raise SettingError(f"{next(option for option, value in only.items() if value)} is for --roofline: give it too")
    for option, value in other.items():
        if value:
            raise SettingError(f"--roofline measures a plain forward pass: omit {option}")
    if len(named) != 1:
        raise SettingError(f"--roofline takes one network, not {len(named)}: {', '.join(named)}")
    return named[0]


def _one_batch(batch_size: str | None) -> int | None:
    from e4profile.errors import SettingError

    found = options.batch_sizes(batch_size)
    if len(found) != 1:
        raise SettingError(f"--roofline takes one batch size, not {batch_size}")
    return found[0]


def _check_predicted(predicted: bool, given: Mapping[str, object], choices: list[PassSetting]) -> bool:
    """Refuse what is not predicted; whether a training step is.

    Raises:
        SettingError: naming the option and the remedy.
    """
    from e4profile.errors import SettingError

    if not predicted:
        raise SettingError("--calibration is what --predicted reads: give --predicted too")
    for option, value in given.items():
        if value:
            raise SettingError(f"--predicted runs nothing: omit {option}")
    asked = {(one.pass_, one.mode) for one in choices}
    if asked not in ({("forward", "eval")}, {("step", "train")}):
        said = " and ".join(f"--pass {one}, --mode {how}" for one, how in sorted(asked))
        raise SettingError(f"--predicted applies to forward in eval mode or to step in train mode, not to {said}")
    return asked == {("step", "train")}


def _predict(
    cards: list[Subject], batches: Sequence[int | None], device: tuple[str, str, int | None], calibration: Path | None,
    output_format: str, units: str, html: Path | None, *, step: bool,
) -> None:  # fmt: skip
    from e4profile.questions.time.predicted import COLUMNS, predicted_table

    check_columns(*COLUMNS)
    check_files(None, html)
    table = predicted_table(cards, batches, device, calibration, step=step)
    emit(table, output_format, units)
    if output_format in ("json", "csv"):
        note(*table.notes)  # which these formats have no place for
    write_tables(html, [table])


def _columns(*, breakdown: bool, fits: bool, compared: bool) -> tuple[Column, ...]:
    """Those of the table that was asked for."""
    from e4profile.questions.time import fits as searched
    from e4profile.questions.time.table import BREAKDOWN, COMPARED, TIMED

    return BREAKDOWN if breakdown else searched.COLUMNS if fits else COMPARED if compared else TIMED


def _passes(text: str) -> list[str]:
    """The passes that were asked for.

    Raises:
        UnknownNameError: for another name.
    """
    from e4profile.errors import one_of
    from e4profile.witnesses.timing.passes import PASSES

    return [one_of("pass", one, PASSES) for one in options.names([text])]


def _finished(out: Path) -> Callable[[], str]:
    """What an interrupted command left in a file, from now on."""

    def size() -> int:
        return out.stat().st_size if out.exists() else 0

    before = size()
    return lambda: (
        f"the records of what was finished are in {out}"
        if size() > before
        else f"nothing was finished yet: no record was written to {out}"
    )


def _time(
    cards: list[Subject], choices: list[PassSetting], rule: StopRule, out: Path | None, join: Path | None, mixed: bool
) -> tuple[list[Table], bool]:
    """The table, and whether a network is missing from it."""
    from e4profile.questions.time.table import time_table
    from e4profile.records.times import environment_labels
    from e4profile.witnesses.environment import environment
    from e4profile.witnesses.timing.passes import fixed_threads

    earlier = stored(join) if join is not None else []
    if earlier:
        # records that do not fit are refused before any time is spent
        with fixed_threads(choices[0].threads):
            environment_labels([*(record.environment for record in earlier), environment()], mixed=mixed)
    records, failures = time_networks(cards, choices, rule, out)
    return [time_table([*earlier, *records], mixed=mixed)], bool(failures)


ENTRY = Entry(
    "measure",
    1,
    time,
    "Time forward, backward or the whole training step",
    before={"roofline": OldName(roofline, "e4profile time --roofline")},
)
