"""A table as a page shows it: cells with sort keys, choices to filter by, the exact rows to download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from urllib.parse import quote

from e4profile.show.formats import render_csv
from e4profile.show.html.model import Details, PageTable
from e4profile.show.numbers import MISSING, cell, cell_of, one_line
from e4profile.show.tables import Column, Table, standing

EVIDENCE = "evidence"
"""The key of a text column that opens on click rather than taking room in every row."""

MOST_CHOICES = 12
FEWEST_ROWS_TO_FILTER = 10
MOST_COLUMNS = 9
_CHOICE_KINDS = ("text", "verdict", "boolean", "integer")
_CARRIED = ("published", "built, nothing published")


@dataclass(frozen=True)
class ShownCell:
    """One cell: its text, what it sorts by, its standing (good, bad, plain) and what opens on click."""

    text: str
    sort_key: str
    standing: str
    details: Details


@dataclass(frozen=True)
class Choice:
    """A column that few values fill, offered as a list to filter by."""

    index: int
    header: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ShownTable:
    """Everything the template needs of one table."""

    anchor: str
    file_name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[ShownCell, ...], ...]
    choices: tuple[Choice, ...]
    shared: str
    remarks: tuple[str, ...]
    csv_uri: str

    @property
    def is_wide(self) -> bool:
        """Whether the columns need a smaller type."""
        return len(self.columns) > MOST_COLUMNS

    @property
    def is_filterable(self) -> bool:
        """Whether there are so many rows that a reader may want to see a part of them."""
        return len(self.rows) >= FEWEST_ROWS_TO_FILTER


def shown_table(given: PageTable, anchor: str) -> ShownTable:
    """Prepare a table for the page.

    A column of evidence moves behind the deciding column's cells. In a wide table the columns whose values are all
    equal become a line above it, and the deciding column stands second, where no reader has to scroll for it.
    """
    table = given.table
    visible = tuple(column for column in table.columns if column.key != EVIDENCE) or table.columns
    lifted: tuple[Column, ...] = ()
    if len(visible) > MOST_COLUMNS:
        lifted = _constant(table, visible[1:])
        first, *rest = (column for column in visible if column not in lifted)
        deciding = [column for column in rest if column in table.deciding]
        visible = (first, *deciding, *(column for column in rest if column not in deciding))
    opens = next((column for column in table.deciding if column in visible), visible[0])
    details = [
        [*(given.details[number] if given.details else ()), *_evidence(table, number)]
        for number in range(len(table.rows))
    ]
    rows = tuple(
        tuple(_shown(row, column, details[number] if column is opens else []) for column in visible)
        for number, row in enumerate(table.rows)
    )
    return ShownTable(
        anchor=anchor,
        file_name=f"{given.name}.csv",
        title=one_line(table.title),
        columns=visible,
        rows=rows,
        choices=_choices(visible, rows),
        shared=", ".join(f"{one_line(c.header)} {cell(table.rows[0][c.key], c, si_units=False)}" for c in lifted),
        remarks=tuple(one_line(remark) for remark in table.remarks),
        csv_uri=csv_uri(_with_details(given)),
    )


def _constant(table: Table, columns: Sequence[Column]) -> tuple[Column, ...]:
    if len(table.rows) < 2:
        return ()
    return tuple(
        column
        for column in columns
        if column not in table.deciding and all(row[column.key] == table.rows[0][column.key] for row in table.rows)
    )


def csv_uri(content: str) -> str:
    """CSV text as an address that holds it."""
    return f"data:text/csv;charset=utf-8,{quote(content, safe=',-_. ;:()+/*')}"


def _with_details(given: PageTable) -> str:
    """The rows as CSV with one column per label of the details, so that a download lacks nothing shown."""
    table, keys = given.table, [column.key for column in given.table.columns]
    labels = list(dict.fromkeys(label for details in given.details for label, _ in details if label not in keys))
    if not labels:
        return render_csv(table)
    columns = (*table.columns, *(Column(label, label, "text") for label in labels))
    rows = tuple(
        {**row, **dict.fromkeys(labels), **{label: text for label, text in details if label in labels}}
        for row, details in zip(table.rows, given.details, strict=True)
    )
    return render_csv(replace(table, columns=columns, rows=rows))


def _evidence(table: Table, number: int) -> Details:
    return [
        (column.header, one_line(str(table.rows[number][column.key])))
        for column in table.columns
        if column.key == EVIDENCE and table.rows[number][column.key] is not None
    ]


def _shown(row: Mapping[str, object], column: Column, details: Details) -> ShownCell:
    text, value = cell_of(row, column, si_units=False), row[column.key]
    found = "" if value is None or text in _CARRIED else standing(text, column)
    return ShownCell(text, _sort_key(value, column), found, details)


def _sort_key(value: object, column: Column) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Fraction | Decimal):
        return repr(float(value))
    # the text itself is the key of a text: it need not stand in the page twice
    return repr(value) if column.is_number else ""


def _choices(columns: tuple[Column, ...], rows: tuple[tuple[ShownCell, ...], ...]) -> tuple[Choice, ...]:
    found: list[Choice] = []
    if len(rows) < FEWEST_ROWS_TO_FILTER:
        return ()
    for index, column in enumerate(columns):
        cells = {row[index].text: row[index].sort_key for row in rows}
        if column.kind == "text" and all(text[:1].isdigit() or text == MISSING for text in cells):
            continue  # figures as they were published: a list of them helps no reader
        few = 1 < len(cells) <= min(MOST_CHOICES, max(2, len(rows) // 2))
        if column.kind in _CHOICE_KINDS and few:
            values = sorted(cells, key=lambda text: (float(cells[text] or "inf"), text)) if (
                column.kind == "integer"
            ) else list(cells)  # fmt: skip
            found.append(Choice(index, one_line(column.header), tuple(values)))
    return tuple(found)
