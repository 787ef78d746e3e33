"""The published tables as files and as parts of the page, and the tally of their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from e4profile.conventions import convention
from e4profile.networks.cards import VERDICTS
from e4profile.networks.published import tally
from e4profile.questions.columns import table_of_rows
from e4profile.questions.published.as_printed import printed_layout, rule_of_rounding
from e4profile.questions.published.rows import IMPLICIT, BuiltCell, table_title
from e4profile.questions.published.tables import as_table, build, rule_note, shown_cells
from e4profile.show.html.model import PageTable
from e4profile.show.tables import Column, Table

IN_BOTH_LAYOUTS = ("3",)
"""Tables that the report holds in the paper's own layout too."""


@dataclass(frozen=True)
class Published:
    """One published table: for readers, for programs, and for the page.

    Attributes:
        pages: on the page, with the paper's own layout where that is shown too.
        verdicts: of the compared cells.
        as_printed: in the paper's own layout, for the table whose settings the paper varies.
    """

    name: str
    readable: Table
    exact: Table
    pages: Sequence[PageTable]
    verdicts: tuple[str, ...]
    as_printed: Table | None = None


def build_published(name: str) -> Published:
    """Build every network of a published table.

    Raises:
        UnknownNameError: for a table that no card has a row of.
    """
    built = build(name)
    readable, exact = (as_table(name, built, for_programs=asked) for asked in (False, True))
    if name == IMPLICIT:
        return Published(name, readable, exact, (PageTable(f"table-{name}", readable),), ())
    cells = cast("list[BuiltCell]", built)
    # what a verdict opens on click needs no column, and of the notes the tally and the rules stay below the rows
    columns = tuple(column for column in readable.columns if column.key != "executed_macs")
    rows = tuple({column.key: row[column.key] for column in columns} for row in readable.rows)
    table = replace(
        readable, columns=columns, rows=rows, notes=(*readable.notes[:1], *rule_of_rounding(cells), *_rules(cells))
    )
    pages = [PageTable(f"table-{name}", table, [_details(cell) for cell in shown_cells(cells)])]
    as_printed = printed_layout(name, cells) if name in IN_BOTH_LAYOUTS else None
    if as_printed is not None:
        pages.append(PageTable(f"table-{name}-as-printed", as_printed))
    return Published(name, readable, exact, pages, tuple(cell.verdict for cell in cells if cell.judged), as_printed)


def _details(cell: BuiltCell) -> list[tuple[str, str]]:
    """What opens behind a verdict: the reason first, then where the figure stands and what was built for it."""
    found = [] if cell.cell.evidence is None else [("evidence", cell.cell.evidence)]
    if cell.how:
        found.append((cell.verdict, cell.how))
    found.append(("source", cell.row.source))
    if cell.cell.compared:
        found.append(("network", _network(cell)))
    if cell.cell.convention is not None:
        found.append(("counted", f"by the convention {cell.cell.convention}"))
    if cell.executed_macs is not None:
        found.append(("executed MACs", f"{cell.executed_macs:,}"))
    if cell.rule_causes:
        found.append(("the rule", rule_note(cell).removeprefix(f"{cell.row.row}: ")))
    return found


def _rules(cells: Sequence[BuiltCell]) -> list[str]:
    """What the conventions of a table count, once each."""
    used = dict.fromkeys(cell.cell.convention for cell in shown_cells(cells) if cell.cell.convention is not None)
    return [f"convention {name}: {convention(name).meaning}" for name in used]


def _network(cell: BuiltCell) -> str:
    arguments: Mapping[str, Any] = cell.card.arguments
    given = ", ".join(f"{name} = {_plain(value)}" for name, value in arguments.items() if value is not None)
    return f"card {cell.card.name}: {given}" if given else f"card {cell.card.name}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)


def verdict_table(published: Sequence[Published]) -> Table:
    """How many cells of each table have each verdict, and of all together."""
    compared = [one for one in published if one.verdicts]
    every = [verdict for one in compared for verdict in one.verdicts]
    rows = [_tally_row(table_title(one.name), one.verdicts) for one in compared]
    return table_of_rows(
        "Verdicts by published table",
        [*rows, _tally_row("every table", every)],
        ("a cell is one published number of parameters, operations or bytes",),
        columns=(Column("cells", "cost cells", "integer", priority=90),),
        priorities={"table": 100, **dict.fromkeys(VERDICTS, 80)},
    )


def _tally_row(label: str, verdicts: Sequence[str]) -> dict[str, object]:
    counts = tally(list(verdicts))
    return {"table": label, "cells": len(verdicts), **{name: counts.get(name, 0) for name in VERDICTS}}
