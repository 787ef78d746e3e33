"""``e4profile sweep --front error,macs``: errors against measured cost, and the networks that no other beats."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.questions import options
from e4profile.questions.figures import save_beside
from e4profile.questions.output import Progress, emit, note, stop_interrupted
from e4profile.questions.time.table import finite, threads_text

if TYPE_CHECKING:
    from e4profile.questions.sweep.pareto import Candidate, Point
    from e4profile.questions.sweep.quantities import Limit, Quantity
    from e4profile.show.style import Plot
    from e4profile.subjects.subject import Subject


def pareto(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"{options.MODEL_HELP[:-1]}; with --table every card of it.",
            metavar=options.MODEL,
            callback=options.networks,
        ),
    ] = None,
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    errors: Annotated[
        list[str] | None,
        typer.Option(
            "--error",
            help="The test error of a network in percent, as you know it: NAME=VALUE with the name as given. It is "
            "shown as given, beside published ones. Repeatable.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option("--sweep", help="Costs from a file of records instead.", metavar="RECORDS.jsonl")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="The published table whose errors are compared.", metavar="NAME")
    ] = None,
    x: Annotated[str, typer.Option("--x", help="macs, params, time or memory.", metavar="COST")] = "macs",
    y: Annotated[
        str, typer.Option("--y", help="error, or one of several: cifar10, cifar100, acc5, ...", metavar="ERROR")
    ] = "error",
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            help="Images, for time [1] and memory [2]; of a user-defined model as in --input.",
            metavar="N",
        ),
    ] = None,
    device: options.Device = "cpu",
    max_run_time_s: Annotated[
        float, options.duration("--max-run-time-s", "For time: sample each network at most this long.")
    ] = 2.0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Draw the front (SVG, PNG, CSV) into a folder.", metavar="DIR")
    ] = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Set test errors against measured cost and name the front.

    Errors are as published, or as you give them; they are never measured. Only errors of one table, and so of one
    data set, are compared; that a given error is of the same data is yours to say. Naming a file or package of yours
    runs its code.
    """
    published_front(
        models or [], settings, inputs, arguments, errors=errors, sweep=sweep, table=table, x=x, y=y,
        batch_size=batch_size, device=device, max_run_time_s=max_run_time_s, out=out, output_format=output_format,
        units=units,
    )  # fmt: skip


def published_front(
    named: list[str],
    settings: list[str] | None,
    inputs: list[str] | None,
    arguments: list[str] | None,
    *,
    limits: Sequence[Limit] = (),
    sort: Quantity | None = None,
    descending: bool = False,
    top: int | None = None,
    errors: list[str] | None = None,
    sweep: Path | None = None,
    table: str | None = None,
    x: str = "macs",
    y: str = "error",
    batch_size: int | None = None,
    device: str = "cpu",
    max_run_time_s: float = 2.0,
    out: Path | None = None,
    output_format: str = "table",
    units: str = "auto",
) -> None:
    """Show the errors of networks against a cost, of those that keep to the limits; exit code 1 where none does.

    Raises:
        SettingError: for a limit of something else than errors and what they are set against.
    """
    from e4profile.errors import SettingError, one_of, positive
    from e4profile.questions.sweep import pareto as found_by
    from e4profile.questions.sweep.pareto_table import pareto_table
    from e4profile.show.style import check_folder

    if batch_size is not None:
        positive(**{"--batch-size": batch_size})
    one_of("cost", x, found_by.COSTS)
    _check_costs(x, limits, sort)
    if out is not None:
        check_folder(out)
    if sweep is not None and errors:
        raise SettingError("--sweep takes costs from records of cards: omit --error")
    percents = _percents(errors or [], named)
    subjects = options.several_subjects(named, settings, inputs, arguments, batch_size)
    candidates = _candidates(dict(zip(named, subjects, strict=True)), percents, sweep, table, y)
    batch = batch_size or options.given_batch(subjects) or 1
    interrupted = False
    intervals: dict[int, tuple[float, float]] = {}
    other_limits = [one for one in limits if one.quantity.name != x]
    by_run = sweep is None and (x == "time" or bool(other_limits))
    candidates, left_out = _that_run(candidates, batch) if by_run else (candidates, [])
    candidates, missed = _within(candidates, other_limits, batch)
    if sweep is not None:
        costed, notes = found_by.sweep_costs(sweep, x, candidates)
    elif x == "time":
        costed, notes, intervals = _timed_in_turn(candidates, device, batch, max_run_time_s)
    else:
        costed, notes, interrupted = _counted(candidates, x, batch)
    notes = [*notes, *left_out]
    of_x = [limit for limit in limits if limit.quantity.name == x]
    worst = [max((limit.excess(cost) for limit in of_x), default=0.0) for _, cost in costed]
    kept = [pair for pair, factor in zip(costed, worst, strict=True) if not factor]
    missed += [(factor, one.label) for (one, _), factor in zip(costed, worst, strict=True) if factor]
    if missed:
        notes = [*notes, _missed(missed, len(kept), limits)]
    if missed and not kept:
        note(notes[-1])
        sys.exit(1)
    points = found_by.front(kept, intervals)
    published = [point.candidate for point in points if point.candidate.origin == found_by.PUBLISHED]
    error = found_by.error_name(published[0].quantity) if published else "given error"
    how = _how(x, device, batch, recorded=sweep is not None)
    rows = _ordered(points, sort, descending=descending)
    if top and top < len(rows):
        rows, notes = rows[:top], [*notes, f"{top} of {len(points)} networks shown"]
    emit(pareto_table(points, x, error, how, notes, shown=rows), output_format, units)
    if interrupted:
        stop_interrupted()
    save_beside(out, partial(_figure, points, x, error, how))


def _that_run(candidates: Sequence[Candidate], batch: int) -> tuple[list[Candidate], list[str]]:
    """The candidates without those whose code is not installed or fails, and a note for each of these.

    Raises:
        E4ProfileError: of the first, where none is left.
    """
    from e4profile.errors import E4ProfileError
    from e4profile.questions.sweep.pareto import cost_of

    cost = cost_of("macs")
    kept: list[Candidate] = []
    failed: list[E4ProfileError] = []
    for one in candidates:
        try:
            if not one.subject.costed_whole:
                cost(one.subject.at_batch(batch))
            kept.append(one)
        except E4ProfileError as error:
            failed.append(error)
    if failed and not kept:
        raise failed[0]
    return kept, _left_out(failed)


def _left_out(failed: Sequence[Exception]) -> list[str]:
    return [f"left out: {text}" for text in dict.fromkeys(map(str, failed))]


def _check_costs(x: str, limits: Sequence[Limit], sort: Quantity | None) -> None:
    from e4profile.errors import SettingError
    from e4profile.questions.sweep.pareto import COSTS
    from e4profile.questions.sweep.quantities import is_error

    for limit in limits:
        name = limit.quantity.name
        if not (is_error(limit.quantity) or name in COSTS) or name == "time" != x:
            raise SettingError(
                f"{limit}: errors are set against {', '.join(COSTS)}, so limits apply to error, params, macs, "
                "memory or, with --front error,time, time"
            )
    if sort is not None and not (is_error(sort) or sort.name == x):
        raise SettingError(f"--sort {sort.name}: errors are set against {x} here; sort by {x} or error")


def _ordered(points: Sequence[Point], by: Quantity | None, *, descending: bool) -> Sequence[Point]:
    """The points by error or cost, as they are without either."""
    from e4profile.questions.sweep.quantities import is_error

    if by is None:
        return points
    return sorted(points, key=lambda one: one.candidate.error if is_error(by) else one.cost, reverse=descending)


def _missed(missed: Sequence[tuple[float, str]], kept: int, limits: Sequence[Limit]) -> str:
    """How many rows miss the limits, those that come nearest first."""
    from e4profile.errors import some_of

    rows = [f"{label} (by {factor:.2f} times)" for factor, label in sorted(missed)]
    return f"{len(rows)} of {len(rows) + kept} rows miss {' and '.join(map(str, limits))}: {some_of(rows, '; ', 3)}"


def _within(
    candidates: list[Candidate], limits: Sequence[Limit], batch: int
) -> tuple[list[Candidate], list[tuple[float, str]]]:
    """The candidates that keep to the limits; of the others by how many times the worst is missed, and the label.

    A lower bound keeps to no upper limit.
    """
    from e4profile.questions.sweep.pareto import cost_of
    from e4profile.questions.sweep.quantities import is_error

    costs = {limit: cost_of(limit.quantity.name, batch_size=max(2, batch)) for limit in limits
             if not is_error(limit.quantity)}  # fmt: skip

    def excess(one: Candidate, limit: Limit) -> float:
        if limit not in costs:
            return limit.excess(one.error)
        amount, unknown = costs[limit](one.subject.at_batch(batch))
        return math.inf if unknown and limit.most else limit.excess(amount)

    worst = [max((excess(one, limit) for limit in limits), default=0.0) for one in candidates]
    kept = [one for one, factor in zip(candidates, worst, strict=True) if not factor]
    return kept, [(factor, one.label) for one, factor in zip(candidates, worst, strict=True) if factor]


def _candidates(
    subjects: Mapping[str, Subject], percents: Mapping[str, str], sweep: Path | None, table: str | None, y: str
) -> list[Candidate]:
    """Networks with errors that were given, then those with published ones."""
    from e4profile.errors import SettingError
    from e4profile.questions.sweep.pareto import candidates, given_error, has_published_error

    found, cards = [], []
    for name, subject in subjects.items():
        if name in percents:
            found.append(given_error(subject, percents[name]))
        elif has_published_error(subject) or (table is not None and subject.published):
            cards.append(subject)
        else:
            raise SettingError(f"{name} has no published error: say its error in percent: --error {name}=VALUE")
    if sweep is not None and not cards:
        cards = _cards_in(sweep)
    if cards or table is not None or not found:
        found += candidates(cards, table, y)
    return found


def _percents(errors: list[str], given_names: list[str]) -> dict[str, str]:
    from e4profile.errors import SettingError, UnknownNameError
    from e4profile.subjects.named import split_named

    found: dict[str, str] = {}
    for text in (part for joined in errors for part in split_named(joined)):
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value:
            example = (given_names or ["p4-cnn"])[0]
            raise SettingError(f"--error: {text!r} must be NAME=PERCENT, for example {example}=0.9")
        if name not in given_names:
            if not given_names:
                raise SettingError(
                    f"--error {text}: name the network too: e4profile sweep {name} --front error,macs --error {text}"
                )
            raise UnknownNameError("network in --error", name, given_names)
        if name in found:
            raise SettingError(f"--error: {name} has two errors, {found[name]} and {value}")
        found[name] = value
    return found


def _cards_in(path: Path) -> list[Any]:
    from e4profile.errors import SettingError
    from e4profile.networks.cards import all_cards
    from e4profile.records.store import RecordStore
    from e4profile.subjects.subject import of_card

    if not path.exists():
        raise SettingError(f"--sweep: {path} does not exist")
    known = all_cards()
    recorded = dict.fromkeys(record.card for record in RecordStore(path).load())
    found = [of_card(known[name]) for name in recorded if name in known and known[name].published]
    if not found:
        listed = ", ".join(recorded) or "no records"
        raise SettingError(f"--sweep: no network in {path} ({listed}) has a published error")
    return found


def _counted(
    found: Sequence[Candidate], x: str, batch: int
) -> tuple[list[tuple[Candidate, int | float]], list[str], bool]:  # fmt: skip
    """The candidates with their costs, notes, and whether Ctrl-C ended it, which is raised where there is none yet."""
    from e4profile.errors import E4ProfileError
    from e4profile.questions.sweep.pareto import cost_of

    cost = cost_of(x, batch_size=max(2, batch))
    costed: list[tuple[Candidate, int | float]] = []
    absent: list[E4ProfileError] = []
    with Progress(f"pareto, {x}", len(found)) as progress:
        try:
            for one in found:
                try:
                    amount, unknown = cost(one.subject.at_batch(batch))
                    costed.append((replace(one, unknown=unknown), amount))
                except E4ProfileError as error:
                    if one.subject.costed_whole:
                        raise
                    absent.append(error)
                progress.step(one.label)
        except KeyboardInterrupt:
            if not costed:
                raise
            ended = f"interrupted: {len(costed)} of {len(found)} networks; the front covers these alone"
            return costed, [ended, *_left_out(absent)], True
    if absent and not costed:
        raise absent[0]
    return costed, _left_out(absent), False


def _timed_in_turn(
    found: Sequence[Candidate], device: str, batch: int, max_run_time_s: float
) -> tuple[list[tuple[Candidate, int | float]], list[str], dict[int, tuple[float, float]]]:
    """Median seconds of forward passes, round by round over all networks, so that a drift meets all of them.

    Beside them what a reader must know, and the interval of each median, by the candidate's ``id``.
    """
    from e4profile.witnesses.timing.in_turn import ForwardInTurn
    from e4profile.witnesses.timing.samples import noise_notes
    from e4profile.witnesses.timing.statistics import median_interval

    timer = ForwardInTurn(device, max_run_time_s, threads=None)
    note(f"pareto, time: {len(found)} networks in turn, {len(found) * max_run_time_s:g} s of samples at most")
    taken = timer([one.subject.at_batch(batch) for one in found])
    notes = noise_notes(taken, "networks", [one.subject.name for one in found])
    pairs = list(zip(found, taken, strict=True))
    intervals = {id(one): median_interval(samples.seconds) or (0.0, math.inf) for one, samples in pairs}
    return [(one, samples.median_s) for one, samples in pairs], notes, intervals


def _how(x: str, device: str, batch: int, *, recorded: bool) -> str:
    source = "as recorded" if recorded else "measured"
    images = "one image" if recorded or batch == 1 else f"a batch of {batch}"
    return {
        "macs": f"MACs of {images}, {source} by counting what runs",
        "params": f"parameters, {source} by counting",
        "memory": f"peak bytes of forward and backward at batch {max(2, batch)}, by allocator emulation",
        "time": f"median seconds of a pass, {source}"
        + (
            ""
            if recorded
            else f" in turn on {device}, forward at batch {batch}, {threads_text(options.threads_used())}"
        ),
    }[x]


def _figure(points: Sequence[Point], x: str, error: str, how: str) -> Plot:
    from e4profile.questions.published.rows import table_title
    from e4profile.questions.sweep.pareto_drawing import plot_pareto

    first = next((p.candidate for p in points if p.candidate.table), points[0].candidate)
    mixed = len({point.candidate.origin for point in points}) > 1
    rows = [
        {
            "network": _drawn(point.candidate),
            "card": point.candidate.subject.name,
            "cost": point.cost,
            **dict(zip(("low", "high"), map(finite, point.interval or ()), strict=False)),
            f"{point.candidate.origin}_error": point.candidate.error,
            "spread": point.candidate.spread,
            "on_front": point.on_front,
        }
        for point in points
    ]
    subject, _, source = (table_title(first.table) if first.table else "").partition(" (")
    subject = subject or "Networks"
    remarks = [f"{how[0].upper()}{how[1:]}.", *([f"{source.rstrip(')')}."] if source else [])]
    if any(point.candidate.unresolved for point in points):
        remarks.append("\u2020: its published cost is not reproduced by what is built.")
    label = f"{error} or given error" if mixed else error
    return plot_pareto(
        rows, name="-".join(filter(None, ("pareto", first.table, first.quantity.replace("_", "-"), x))),
        subject=subject, x=x, error=label, remarks=remarks,
    )  # fmt: skip


def _drawn(one: Candidate) -> str:
    """The label of a point: marked where the error is given, or the published cost is not what is built."""
    marks = (" (given)" if not one.table else "") + ("\u2020" if one.unresolved else "")
    marks += " (at least)" if one.unknown else ""
    # the end of a path says most
    return (one.label if one.table else one.label.rpartition("/")[2]) + marks
