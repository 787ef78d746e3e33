"""The published cost tables for readers and for programs: published, built, deviation, verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

from e4profile.networks.cards import BY_RULE, all_cards, find_card
from e4profile.networks.published import tally
from e4profile.questions.published.as_printed import rule_of_rounding
from e4profile.questions.published.implicit import implicit_comparison, implicit_objects, implicit_table
from e4profile.questions.published.rows import (
    CARRIED,
    FIELDS,
    IMPLICIT,
    NOT_BUILT,
    OTHER_EXECUTION,
    TABLE_COLUMNS,
    BuiltCell,
    build_table,
    published_text,
    rebuilt_title,
    table_rows,
    table_title,
)
from e4profile.questions.published.steerable import steerable_objects
from e4profile.show.tables import Column, Table
from e4profile.witnesses.counts.base import SAY_THE_COST

STEERABLE = "steerable"

AS_PRINTED = "-printed"
"""How a card's name ends whose network gives the printed figures where the released one does not."""

Built: TypeAlias = "list[BuiltCell] | list[dict[str, Any]]"
"""What is built for a table: published cells, or the rows of the table without any."""

_CONVENTION = (
    "as each row says; reproduced: the built value has the published digits at their precision; "
    "deviation: built against published"
)
_COLUMNS = tuple(column for column, _ in FIELDS)


def build(name: str, execution: str | None = None) -> Built:
    """Build every network of a table; networks without group convolutions have one execution.

    Raises:
        UnknownNameError: for a table that no card has a row of.
    """
    return implicit_comparison() if name == IMPLICIT else build_table(name, execution)


def as_table(name: str, built: Built, *, for_programs: bool) -> Table:
    """What was built for a table as a table: for readers, or with every line and column for programs."""
    if name == IMPLICIT:
        comparison = cast("list[dict[str, Any]]", built)
        return _objects(table_title(name), implicit_objects(comparison)) if for_programs else implicit_table(comparison)
    cells = cast("list[BuiltCell]", built)
    if not for_programs:
        return readable_table(name, cells)
    table = exact_table(name, cells)
    return replace(table, rows=(*table.rows, *steerable_objects())) if name == STEERABLE else table


def every_table(built: Mapping[str, Built]) -> Table:
    """Every line and column of several tables, for programs, with the name of the table in front."""
    rows = [
        {"table": name, **row} for name, one in built.items() for row in as_table(name, one, for_programs=True).rows
    ]
    return Table("Every published table", (Column("table", "table", "text"), *_COLUMNS), tuple(rows))


def exact_table(name: str, cells: Sequence[BuiltCell]) -> Table:
    """Every cell of one published table, carried quantities and evidence included: one line each."""
    return _objects(rebuilt_title(name), table_rows(cells), published_notes(cells))


def readable_table(name: str, cells: Sequence[BuiltCell]) -> Table:
    """The costs of one published table; what a printed row carries along stands in columns of its own."""
    carried = list(dict.fromkeys(one.cell.quantity for one in cells if one.kind == CARRIED))
    columns = [column for column in _COLUMNS if column.key not in ("kind", "evidence")]
    columns[-1:-1] = [Column(name, name.replace("_", " "), "text", priority=25) for name in carried]
    rows = [
        {**{key: row[key] for key in TABLE_COLUMNS if key not in ("kind", "evidence")}, **beside}
        for cell, row, beside in (
            (cell, table_rows([cell])[0], _beside(cell, cells, carried)) for cell in shown_cells(cells)
        )
    ]
    return Table(
        rebuilt_title(name), tuple(columns), tuple(rows), tuple(published_notes(cells)), convention=_CONVENTION
    )


def shown_cells(cells: Sequence[BuiltCell]) -> list[BuiltCell]:
    """The cells that are lines of the readable table: all but what a printed row carries beside its costs."""
    with_costs = {_printed_row(one) for one in cells if one.kind != CARRIED}
    return [one for one in cells if one.kind != CARRIED or _printed_row(one) not in with_costs]


def _printed_row(one: BuiltCell) -> tuple[str, int, str]:
    return one.card.name, one.row.order, one.row.row


def _beside(cell: BuiltCell, cells: Sequence[BuiltCell], carried: Sequence[str]) -> dict[str, str | None]:
    row = _printed_row(cell)
    found = {
        one.cell.quantity: published_text(one.cell) for one in cells if one.kind == CARRIED and _printed_row(one) == row
    }
    return {name: found.get(name) for name in carried}


def published_notes(cells: Sequence[BuiltCell]) -> list[str]:
    """The tally of a table's verdicts, then the evidence of single cells."""
    compared = [cell.verdict for cell in cells if cell.judged]
    counts = ", ".join(f"{n} {v}" for v, n in tally(compared).items())
    notes = [f"{len(compared)} cost cells: {counts}" if counts or not cells else "no cost cell has a verdict"]
    if any(cell.cell.quantity == "flops" for cell in cells if cell.judged):
        notes.append("flops is the publication's word; each row is counted by its convention, mostly MACs")
    notes += rule_of_rounding(cells)
    others = sum(cell.verdict == OTHER_EXECUTION for cell in cells)
    if others:
        notes.append(f"{OTHER_EXECUTION}: {others} built as --execution says, which is not what was published")
    missing = dict.fromkeys(f"{one.card.name}: {one.verdict}: {one.how}" for one in cells if one.verdict in NOT_BUILT)
    bounds = dict.fromkeys(
        f"{one.card.name}: a lower bound, which reproduces nothing: {text}; {SAY_THE_COST}"
        for one in cells for text in one.unknown
    )  # fmt: skip
    notes += [*missing, *bounds, *departures(cells)]
    notes += [f"{one.row.row}, {one.cell.quantity}: {one.cell.evidence}" for one in cells if one.cell.evidence]
    notes += [rule_note(cell) for cell in cells if cell.verdict == BY_RULE]
    return notes


def departures(cells: Sequence[BuiltCell]) -> list[str]:
    """Which cells follow from a network that is not the released one, and in which arguments it differs."""
    rows: dict[str, list[str]] = {}
    for one in cells:
        if one.judged and one.card.name.removesuffix(AS_PRINTED) in all_cards():
            rows.setdefault(one.card.name, []).append(one.row.row)
    notes = []
    for name, labels in rows.items():
        if not name.endswith(AS_PRINTED):
            continue
        built, released = find_card(name), find_card(name.removesuffix(AS_PRINTED))
        changed = [
            f"{key}={built.argument(key)} ({released.argument(key)} released)"
            for key in sorted({*built.arguments, *released.arguments})
            if built.argument(key) != released.argument(key)
        ]
        listed = ", ".join(dict.fromkeys(labels))
        notes.append(f"{listed}: built as {name}, not as released ({released.name}): {', '.join(changed)}")
    return notes


def rule_note(cell: BuiltCell) -> str:
    """What the rule of a published tool charges beyond the MACs that run."""
    causes = ", ".join(f"{kind.replace('_', ' ')} {amount:+,}" for kind, amount in cell.rule_causes.items())
    return f"{cell.row.row}: {cell.executed_macs:,} MACs run; {cell.cell.convention} charges {cell.built:,}: {causes}"


def tally_text(built: Sequence[Built]) -> str:
    """How many published cost cells several tables have, and how many of them each verdict."""
    verdicts = [cell.verdict for cells in built for cell in cells if isinstance(cell, BuiltCell) and cell.judged]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in tally(verdicts).items())
    return f"{len(verdicts)} published cost cells: {counts}" if verdicts else "no published cost cell has a verdict"


def _objects(title: str, rows: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> Table:
    return Table(title, _COLUMNS, tuple(rows), tuple(notes), convention=_CONVENTION)
