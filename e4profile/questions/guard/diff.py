"""``e4profile guard diff``: two files of results, counts exactly, times with a verdict."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.questions import options
from e4profile.questions.columns import table_of_rows
from e4profile.questions.options import Format, Html, Units
from e4profile.questions.output import check_files, emit, note, write_tables
from e4profile.show.tables import Column, Table

if TYPE_CHECKING:
    from e4profile.records.comparison import CountComparison, FileComparison


def diff(
    before: Annotated[str | None, typer.Argument(help="Results to compare with.", metavar="A.json")] = None,
    after: Annotated[str | None, typer.Argument(help="Results to judge.", metavar="B.json")] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            "--history",
            help="In place of two files: at which commit of a guard's history a count moved, and where a time stepped.",
            metavar="FILE",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="With --history: write the figure (SVG, PNG, CSV) into a folder.", metavar="FOLDER"
        ),
    ] = None,
    mixed: options.Mixed = False,
    show_all: Annotated[bool, typer.Option("--all", help="List equal counts too.")] = False,
    html: Html = None,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Compare two files of results: counts exactly, per model and layer; times as faster, slower or ambiguous.

    A file is records.jsonl of a sweep or its folder, the records of time --out, the JSON (--format json) of count,
    sweep or published, or a guard's baseline. Verdicts are about the second file. Times of different environments
    are refused.

    Exit code 0 when every count is equal and no time is slower, 1 when a count differs or is missing on one side,
    or a time is slower, 2 for bad input. With --history it is 0 even where something moved.
    """
    check_files(page=html)
    from e4profile.errors import SettingError

    if history is not None:
        if before is not None or mixed or show_all:
            raise SettingError("--history replaces the two files: omit them, --mixed and --all")
        _show_history(history, plot, html, output_format, units)
        return
    if plot is not None:
        raise SettingError("--plot draws a history: give --history FILE")
    if before is None or after is None:
        raise SettingError("Missing argument: name two files of results, or give --history FILE")
    from e4profile.records.comparison import compare_files

    for name, text in (("A.json", before), ("B.json", after)):
        if not text:
            raise SettingError(f"{name} is empty: name a file of results")
    found = compare_files(Path(before), Path(after), allow_mixed=mixed)

    def table(output_format: str, _: str = "") -> Table:
        return comparison_table(found, show_all=show_all, every_column=output_format in ("json", "csv"))

    _emit(table, output_format, units)
    write_tables(html, [table(output_format)])
    if not found.holds:
        sys.exit(1)


def _show_history(file: Path, plot: Path | None, html: Path | None, output_format: str, units: str) -> None:
    from e4profile.questions.figures import save_beside
    from e4profile.questions.guard.history import history_plot, history_table
    from e4profile.records.history import read_history
    from e4profile.show import style

    if plot is not None:
        style.check_folder(plot)
    history = read_history(file)
    table = history_table(history, file)
    figures: list[Path] = []
    if plot is not None:
        with style.paper_style():
            figures = style.save(history_plot(history), plot)
        note(f"wrote {', '.join(path.name for path in figures)} to {plot}")
    save_beside(None, lambda: history_plot(history))
    _emit(lambda *_: table, output_format, units)
    write_tables(html, [table], figures)


def _emit(made: Callable[[str, str], Table], output_format: str, units: str) -> None:
    table = made(output_format, units)
    # a head above no rows would look like a failure
    empty = {} if table.rows else {"table": lambda: "\n".join((table.title, "", *table.notes)) + "\n"}
    emit(made, output_format, units, texts=empty)
    if output_format in ("json", "csv"):
        note(*table.notes)


def comparison_table(found: FileComparison, *, show_all: bool = False, every_column: bool = False) -> Table:
    """One row per count that is not equal (per count with ``show_all``) and per timing."""
    counts = list(found.counts) if show_all else found.different
    if found.unrelated and not (show_all or every_column):
        counts = [one for one in counts if not one.key.layer]
    labelled = any(any(one.environments) for one in found.times)
    keys = ["verdict", "model", "layer", "quantity"]
    if counts or every_column or not found.times:
        keys += ["before", "after", "change", "change_percent"]
    if found.times or every_column:
        keys += ["before_s", "after_s", "ratio", "low", "high"]
    if labelled or every_column:
        keys.append("environments")
    count_rows = _count_rows(counts) if every_column else _folded(_count_rows(counts), found)
    rows = [*count_rows, *_time_rows(found)]
    return table_of_rows(
        f"{found.after.name} against {found.before.name}{'' if rows else ': no difference'}",
        rows,
        _notes(found),
        keys=keys,
        columns=(
            Column("before", "before", "integer", priority=80),
            Column("after", "after", "integer", priority=80),
            Column("change", "change", "integer", priority=70),
            Column("change_percent", "change %", "percent", "%", 75),
            Column("before_s", "median before", "seconds", "before", 60),
            Column("after_s", "median after", "seconds", "after", 60),
            Column("environments", "environments", "text", "env.", 88),
        ),
        priorities={"layer": 90, "quantity": 90},
    )


def _count_rows(counts: list[CountComparison]) -> list[dict[str, object]]:
    return [
        {
            "verdict": one.verdict,
            "model": one.key.model or None,
            "layer": one.key.layer or None,
            "quantity": one.quantity,
            "before": _whole(one.before),
            "after": _whole(one.after),
            "change": _change(one),
            "change_percent": 100 * (_change(one) or 0) / one.before if one.before and one.after is not None else None,
        }
        for one in counts
    ]


def _change(one: CountComparison) -> int | None:
    return None if one.before is None or one.after is None else int(one.after) - int(one.before)


def _folded(rows: list[dict[str, object]], found: FileComparison) -> list[dict[str, object]]:
    """For people: one row where several witnesses say the same of a layer, and totals named."""
    from e4profile.witnesses.counts.registry import REGISTRY

    witnesses = {spec.key: spec.heading for spec in REGISTRY.values()}
    layered = {one.key.model or None for one in found.counts if one.key.layer}
    unit = "MACs" if found.convention == "macs" else found.convention
    kept: dict[tuple[object, ...], dict[str, object]] = {}
    sayers: dict[tuple[object, ...], list[str]] = {}
    for row in rows:
        quantity = str(row["quantity"])
        witness = witnesses.get(quantity.removeprefix("totals: "))
        key: tuple[object, ...] = (row["model"], row["layer"], row["before"], row["after"], "" if witness else quantity)
        if witness:
            sayers.setdefault(key, []).append(witness)
        label = row["layer"] or ("(total)" if row["model"] in layered else None)
        kept.setdefault(key, {**row, "layer": label})
    for key, names in sayers.items():
        kept[key]["quantity"] = f"{unit} ({', '.join(names)})"
    return list(kept.values())


def _whole(value: int | None) -> int | None:
    return None if value is None else int(value)


def _time_rows(found: FileComparison) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for one in found.times:
        estimate = one.estimate
        rows.append(
            {
                "verdict": one.verdict,
                "model": one.name,
                "quantity": "time",
                "before_s": one.before_s,
                "after_s": one.after_s,
                "ratio": estimate.ratio if estimate else None,
                "low": estimate.low if estimate else None,
                "high": estimate.high if estimate and math.isfinite(estimate.high) else None,
                "environments": " ".join(one.environments).strip() or None,
            }
        )
    return rows


def _notes(found: FileComparison) -> list[str]:
    from e4profile.records.comparison import AMBIGUOUS

    notes = [found.unrelated] if found.unrelated else []
    if found.counts:
        different = len(found.different)
        notes.append(f"{len(found.counts)} counts: {len(found.counts) - different} equal, {different} not")
        bounds = sum(one.verdict == AMBIGUOUS for one in found.counts)
        if bounds:
            notes.append(f"ambiguous: {bounds} of them are lower bounds (unknown operators), which equal nothing")
    if found.times:
        said = [one.verdict for one in found.times]
        tally = ", ".join(f"{said.count(verdict)} {verdict}" for verdict in dict.fromkeys(said))
        notes.append(f"{len(said)} times: {tally}")
        shown = [one.estimate for one in found.times if one.estimate is not None]
        if shown:
            notes.append(
                f"ratio: median after over median before with its {shown[0].confidence:.0%} bootstrap interval; the "
                "runs were not interleaved, so the ratio includes whatever else differed between them"
            )
        notes += [text for one in found.times for text in one.notes]
    return [*notes, *found.notes]
