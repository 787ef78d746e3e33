"""``e4profile sweep MODEL --vary``: every combination of some arguments of one network, and its table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e4profile.conventions import convention
from e4profile.questions import job_options
from e4profile.questions.output import check_columns, emit, note, on_interrupt, stop_interrupted, waiting, write_tables
from e4profile.show.tables import Column, Table

if TYPE_CHECKING:
    from e4profile.questions.sweep.variant_sweep import VariantSweep
    from e4profile.subjects.subject import Subject


def show_variants(
    subject: Subject, vary: Sequence[str], output_format: str, units: str, *, out: Path | None = None,
    page: Path | None = None, convention_name: str = "macs", **how: Any,
) -> None:  # fmt: skip
    """Count every combination (see ``sweep_variants``) and show one table; exit code 130 where Ctrl-C left some out."""
    from e4profile.questions.sweep.variant_sweep import axes_of, sweep_variants
    from e4profile.witnesses.counts.registry import find_counters

    stock = [spec.name for spec in find_counters(how.get("counters", ())) if spec.raw]
    check_columns(*_columns([axis.name for axis in axes_of(vary)], stock, convention_name))
    store = None
    if out is not None:
        from e4profile.records.store import RecordStore

        store = RecordStore(out / "records.jsonl")
    remark = None if out is None else f"what was finished is saved in {out}; the same command goes on from there"
    with on_interrupt(remark), waiting("sweep") as say:
        found = sweep_variants(
            subject,
            vary,
            store=store,
            convention_name=convention_name,
            progress=lambda done, total, what: say(f"{done} of {total} done, {what}"),
            **how,
        )
    table = variants_table(found, convention_name)
    write_results(table, out, page)
    emit(
        table,
        output_format,
        units,
        texts={"json": lambda: json.dumps(_objects(found, convention_name), indent=2) + "\n"},
        facts=lambda: {"skipped": found.refused},
    )
    if output_format in ("json", "csv"):
        note(*table.notes)
    if found.interrupted:
        stop_interrupted()
    job_options.tell_failures([one.failure for one in found.variants if one.failure])


def _objects(found: VariantSweep, convention_name: str) -> list[dict[str, Any]]:
    """The variants for JSON; what another rule than MACs counts is not called MACs."""
    objects = [one.as_object() for one in found.variants]
    if convention_name == "macs":
        return objects
    return [{"convention": convention_name, "operations": one.pop("macs"), **one} for one in objects]


def write_results(table: Table, out: Path | None, page: Path | None, figures: Sequence[Path] = ()) -> None:
    """Write a table into a folder and as a page, where they are asked for."""
    if out is not None:
        from e4profile.questions.sweep.table import write_table

        write_table(table, out)
        note(f"wrote table.md and table.csv to {out}")
    write_tables(page, [table], figures)


_OPTIONAL = ("bound", "step_bytes", "median_s", "iqr_s", "failure")
"""Columns that are left out where no row has a value."""


def _counted(convention_name: str) -> str:
    return "macs" if convention_name == "macs" else "operations"


def _columns(names: Sequence[str], stock: Sequence[str], convention_name: str) -> list[Column]:
    """Every column that the table may have."""
    return [
        *(Column(name, name, "text", priority=100) for name in names),
        Column("params", "params", "integer", priority=95),
        Column("bound", f"{convention_name} are", "text", priority=95),
        Column(_counted(convention_name), convention_name, "integer", priority=95),
        *(Column(name, name, "integer", priority=60) for name in stock),
        Column("step_bytes", "training step", "bytes", priority=90),
        Column("median_s", "forward", "seconds", priority=90),
        Column("iqr_s", "interquartile range", "seconds", "IQR", 60),
        Column("failure", "failure", "text", priority=92),
    ]


def variants_table(found: VariantSweep, convention_name: str) -> Table:
    """One row per combination: arguments, parameters, MACs, and where asked the bytes of a step and seconds."""
    names, counted = list(found.variants[0].setting), _counted(convention_name)
    columns = _columns(names, list(found.variants[0].reported), convention_name)
    rows: list[dict[str, Any]] = [
        {
            **{column.key: getattr(one, column.key, None) for column in columns},
            **{name: str(value) for name, value in one.setting.items()},
            counted: one.macs,
            **one.reported,
            "bound": "at least" if one.at_least else None,
            "failure": one.failure or None,
        }
        for one in found.variants
    ]
    absent = {key for key in _OPTIONAL if all(row[key] is None for row in rows)}
    columns = [column for column in columns if column.key not in absent]
    rows = [{column.key: row[column.key] for column in columns} for row in rows]
    noisy = sum(bool(one.noise) for one in found.variants)
    notes = list(found.notes)
    notes += [f"not built: {setting}: {reason}" for setting, reason in found.refused]
    if noisy:
        notes.append(f"noisy: {noisy} of {len(found.variants)} times; see --format json")
    meaning = f"{convention_name}: {convention(convention_name).meaning}"
    return Table(f"{found.model} over {', '.join(names)}", tuple(columns), tuple(rows), tuple(notes), meaning)
