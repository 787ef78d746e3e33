"""``e4profile time``: how long a pass takes, against another network, or term by term."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.cli.options import (
    MODEL,
    MODEL_HELP,
    Arguments,
    Format,
    Html,
    Inputs,
    Overrides,
    Units,
    check_format,
    names,
    subject,
    whole_numbers,
)
from e4profile.cli.output import emit, note

if TYPE_CHECKING:
    from e4profile.render.tables import Table
    from e4profile.targets import Subject
    from e4profile.timing import Setting, StopRule, TimeRecord


def time(
    models: Annotated[
        list[str], typer.Argument(help=MODEL_HELP, metavar=f"{MODEL}...")
    ],
    settings: Overrides = None,
    inputs: Inputs = None,
    arguments: Arguments = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.", metavar="DEVICE")] = "cpu",
    batch_size: Annotated[
        str, typer.Option("--batch-size", help="Images per pass, e.g. 1,32.", metavar="N,...")
    ] = "1",
    passes: Annotated[
        str, typer.Option("--pass", help="forward, backward, step; several with commas.", metavar="PASS,...")
    ] = "forward",
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode", help="eval or train; by default eval for forward, train otherwise.", metavar="MODE"
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, bfloat16, ...", metavar="DTYPE")
    ] = "float32",
    compile: Annotated[bool, typer.Option("--compile", help="Apply torch.compile first.")] = False,
    graphs: Annotated[bool, typer.Option("--cuda-graphs", help="Replay CUDA graphs.")] = False,
    threads: Annotated[int, typer.Option("--threads", help="Intra-operator threads.", metavar="N")] = 1,
    min_run_time_s: Annotated[
        float, typer.Option("--min-run-time-s", help="Sample at least this long.", metavar="SECONDS")
    ] = 0.5,
    max_run_time_s: Annotated[
        float, typer.Option("--max-run-time-s", help="Sample at most this long.", metavar="SECONDS")
    ] = 10.0,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Sample in turn with this network as its card says (no --set), and compare.",
            metavar="NAME",
        ),
    ] = None,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Share of time per named term.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Append the records, raw samples included.", metavar="FILE")
    ] = None,
    join: Annotated[
        Path | None,
        typer.Option("--join", help="Show the records of a file in the same table.", metavar="FILE"),
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Allow records of different environments, labelled.")
    ] = False,
    html: Html = None,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Time forward, backward or the whole training step: median and interquartile range of raw samples.

    A model of your own takes one input tensor; --batch-size says the batch. Naming a file or package of yours runs
    its code.
    """
    check_format(output_format)
    # the profiler's library writes its own progress to stderr unless told not to before it is loaded
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from e4profile.errors import SettingError, UnknownNameError, positive
    from e4profile.timing import PASSES, Setting, StopRule

    positive(**{"--threads": threads})
    if breakdown and (against or compile or graphs or join):
        raise SettingError("--breakdown profiles one network as it is: leave --against, --compile, --cuda-graphs "
                           "and --join away")  # fmt: skip
    wanted = names([passes])
    for one in wanted:
        if one not in PASSES:
            raise UnknownNameError("pass", one, PASSES)
    cards = [subject(name, settings, inputs, arguments) for name in names(models)]
    rule = StopRule(min_run_time_s=min(min_run_time_s, max_run_time_s), max_run_time_s=max_run_time_s)
    choices = [
        Setting(
            one,
            mode or ("eval" if one == "forward" else "train"),
            device,
            dtype,
            size,
            compile,
            graphs,
            threads,
        )
        for size in whole_numbers("--batch-size", batch_size) or [1]
        for one in wanted
    ]
    if out is not None:
        from e4profile.records import RecordStore

        RecordStore(out).check_writable()
    if html is not None:
        from e4profile.render.html.page import check_writable

        check_writable(html)
    if breakdown:
        from e4profile.cli.time_tables import emit_breakdown

        tables = emit_breakdown(cards, choices, rule, output_format, units, out)
    elif against is not None:
        tables = _compare(cards, subject(against), choices, rule, output_format, units, out)
    else:
        tables = _time(cards, choices, rule, output_format, units, out, join, mixed)
    if html is not None:
        from e4profile.environment import described, environment
        from e4profile.render.html.page import write_page

        write_page(html, tables[0].title, tables, notes=[described(environment())])
        note(f"wrote {html}")


def _time(
    cards: list[Subject],
    choices: list[Setting],
    rule: StopRule,
    output_format: str,
    units: str,
    out: Path | None,
    join: Path | None,
    mixed: bool,
) -> list[Table]:
    from e4profile.cli.time_tables import time_table
    from e4profile.environment import environment
    from e4profile.guest import UserCodeError
    from e4profile.targets import guarded
    from e4profile.timing import MeasurementError, environment_labels, measure_time
    from e4profile.timing.passes import fixed_threads

    earlier = _stored(join) if join is not None else []
    if earlier:
        # records that do not fit are refused before any time is spent
        with fixed_threads(choices[0].threads):
            environment_labels([*(record.environment for record in earlier), environment()], mixed=mixed)
    records: list[TimeRecord] = []
    failures: list[str] = []
    for card in cards:
        network = card.build("cpu")
        for choice in choices:
            note(f"{card.name}: {choice.pass_}, {choice.mode}, batch of {choice.batch_size}")
            try:
                with guarded(card):
                    record = measure_time(
                        network, card.input, pass_=choice.pass_, mode=choice.mode, device=choice.device,
                        dtype=choice.dtype, batch_size=choice.batch_size, compile=choice.compile,
                        graphs=choice.graphs, min_run_time_s=rule.min_run_time_s,
                        max_run_time_s=rule.max_run_time_s, threads=choice.threads, name=card.name,
                    )  # fmt: skip
            except MeasurementError as error:
                failures.append(f"{card.name}: {error}")
                continue
            except UserCodeError as error:
                failures.append(str(error))
                continue
            records.append(_keep(record, card, out))
    if not records:
        raise MeasurementError("; ".join(failures))
    for text in failures:
        note(text)
    table = time_table([*earlier, *records], mixed=mixed)
    emit(table, output_format, units)
    if failures:
        note("not every network could be timed")
        sys.exit(1)
    return [table]


def _compare(
    cards: list[Subject],
    other: Subject,
    choices: list[Setting],
    rule: StopRule,
    output_format: str,
    units: str,
    out: Path | None,
) -> list[Table]:
    from e4profile.cli.time_tables import comparison_table
    from e4profile.targets import guarded
    from e4profile.timing import Timed, compare_interleaved

    second = Timed(other.name, other.build("cpu"), other.input)
    found = []
    for card in cards:
        first = Timed(card.name, card.build("cpu"), card.input)
        for choice in choices:
            note(
                f"{card.name} against {other.name}: {choice.pass_}, {choice.mode}, batch of {choice.batch_size}"
            )
            with guarded(card):
                comparison = compare_interleaved(first, second, choice, rule)
            found.append(comparison)
            _keep(comparison.first, card, out)
            _keep(comparison.second, other, out)
    table = comparison_table(found)
    emit(table, output_format, units)
    return [table]


def _keep(record: TimeRecord, card: Subject, out: Path | None) -> TimeRecord:
    from dataclasses import replace

    from e4profile.records import RecordStore

    record = replace(record, arguments=dict(card.arguments))
    if out is not None:
        RecordStore(out).append(record.to_record())
    return record


def _stored(path: Path) -> list[TimeRecord]:
    from e4profile.errors import SettingError
    from e4profile.records import RecordStore
    from e4profile.timing import TimeRecord
    from e4profile.timing.record import KIND

    if not path.exists():
        raise SettingError(f"--join: {path} does not exist")
    store = RecordStore(path)
    found: list[Any] = [TimeRecord.from_record(record) for record in store.load() if record.kind == KIND]
    for text in store.notes:
        note(text)
    return found


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("time")(time)
