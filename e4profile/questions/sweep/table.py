"""A sweep's rows as a table, with what a reader must know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e4profile.errors import replace_file
from e4profile.questions.sweep.sweeps import Sweep
from e4profile.show.tables import Column, ColumnNote, Table, render

_SETTING = (
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
    Column("macs_printed_form", "MACs by the paper's formula", "integer", "paper's formula", 30),
)
_VERDICT = (
    Column("agrees", "agrees", "boolean", priority=100),
    Column("params_ratio", "params ratio", "ratio", priority=58),
    Column("macs_ratio", "MACs ratio", "ratio", priority=58),
)
_TIMES = (
    Column("forward_median_s", "forward", "seconds", priority=84),
    Column("forward_iqr_s", "forward IQR", "seconds", priority=15),
    Column("step_median_s", "training step", "seconds", "step", 84),
    Column("step_iqr_s", "step IQR", "seconds", priority=15),
    Column("forward_ratio", "forward ratio", "ratio", priority=82),
    Column("step_ratio", "step ratio", "ratio", priority=82),
    Column("noisy", "noisy", "boolean", priority=65, doubt=True),
)
_OF_JOBS = (Column("machine", "machine", "text", priority=83), Column("failure", "failure", "text", priority=95))


def columns_of(counters: Sequence[str], *, timed: bool) -> tuple[Column, ...]:
    """Every column that the table of these counters may have."""
    stock = tuple(Column(name, name, "integer", priority=20) for name in counters)
    return (*_SETTING, *stock, *_VERDICT, *((*_TIMES, *_OF_JOBS) if timed else ()))


def sweep_table(running: Sweep) -> Table:
    """The rows of a sweep that has run.

    Args:
        running: a sweep whose ``run`` has been gone through.
    """
    return _table(running, (), running.rows())


def timed_sweep_table(
    running: Sweep, rows: Sequence[Mapping[str, Any]], batch_size: int, device: str, machines: Sequence[str] = ()
) -> Table:
    """The same with times beside the costs.

    Args:
        running: a sweep whose ``run`` has been gone through.
        rows: of ``e4profile.questions.sweep.sweep_times.time_rows``.
        batch_size: images of one timed pass.
        device: where it was timed.
        machines: what the labels of machines stand for.
    """
    how = (
        f"times: {device}, one thread, batch of {batch_size}, float32; forward in evaluation, step (forward, loss, "
        "backward) in training; median and interquartile range of raw samples"
    )
    more = tuple(one for one in _OF_JOBS if any(one.key in row for row in rows))
    return _table(running, (*_TIMES, *more), rows, how, *machines)


def _table(running: Sweep, times: tuple[Column, ...], rows: Sequence[Mapping[str, Any]], *how: str) -> Table:
    stock = running.stock
    reported = [ColumnNote(f"{' and '.join(stock)}: as they report, by rules of their own", *stock)] if stock else []
    return Table(
        title="E4 settings against the G-CNN of the same topology, "
        + ", ".join(dict.fromkeys(setting.group.alias for setting in running.plan)),
        columns=(*_SETTING, *(Column(name, name, "integer", priority=20) for name in stock), *_VERDICT, *times),
        rows=tuple(rows),
        notes=(*reported, *_notes(running), *how),
        convention="macs (convolution + linear + aggregation)",
    )


def write_table(table: Table, folder: Path) -> None:
    """Write a table into a folder, as Markdown and as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, output_format in (("table.md", "markdown"), ("table.csv", "csv")):
        replace_file(folder / name, render(table, output_format).encode())


def _notes(running: Sweep) -> list[str]:
    """What was left out and why, which counters failed and why, and what the baseline is."""
    by_reason: dict[str, list[str]] = {}
    for skip in running.skipped:
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
    baselines = {setting.model: setting.subject.name for setting in running.plan if setting.baseline}
    if baselines:
        notes.append("ratios: to the G-CNN of the same topology, group, width and kernel")
    notes += [
        f"{label} is {card} with group convolutions; to count it alone: e4profile count {card} --set layer=group, "
        "with the row's group, width and kernel"
        for label, card in baselines.items()
    ]
    return notes
