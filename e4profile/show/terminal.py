"""A table for a terminal: it fits the width it is given, and says what it had to leave out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from e4profile.show.cells import cell, one_line
from e4profile.show.columns import Column, Table

if TYPE_CHECKING:
    from e4profile.show.layout import Layout

_GOOD = ("reproduced", "agrees", "holds", "yes")
_BAD = ("unresolved", "differs", "disagrees", "fails", "no")


def render_terminal(table: Table, *, width: int | None, color: bool, units: str) -> str:
    """Title, the settings that every row shares, the rows, and what a reader must know about them.

    Deciding columns stand first. No line is wider than ``width``.

    Raises:
        SettingError: when the width is below 20, or too narrow for a single number.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    from e4profile.show.layout import GAP, fit

    layout = fit(table, width, units)
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold")
    height = max(header.count("\n") for header in layout.headers)
    for column, header in zip(layout.columns, layout.headers, strict=True):
        side = "right" if column.is_number else "left"
        # headers stand on the rule, while the lines of a row begin together at its top
        low = "\n" * (height - header.count("\n")) + header
        grid.add_column(Text(low), justify=side, vertical="top", no_wrap=True)  # type: ignore[arg-type]
    for row in layout.cells:
        grid.add_row(
            *(Text(text, style=_style(text, column)) for text, column in zip(row, layout.columns, strict=True))
        )
    stream = io.StringIO()
    # Everything that rich would otherwise guess from the environment is fixed here: same table, same bytes.
    console = Console(
        file=stream,
        width=width or max(layout.width, 80),
        color_system="standard" if color else None,
        force_terminal=color,
        force_jupyter=False,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )
    prose: dict[str, Any] = {} if width else {"no_wrap": True, "overflow": "ignore", "crop": False}
    for text, style in [(table.title, "bold"), (_shared(table, layout), "")]:
        if text:
            console.print(Text(one_line(text), style=style), **prose)
    if table.title or layout.lifted:
        console.print()
    console.print(grid)
    remarks = ["(no rows)"] if not table.rows else []
    remarks += [] if table.convention is None else [f"Convention: {table.convention}"]
    remarks += [*table.notes_beside(layout.hidden), *_limits(layout, width, units)]
    if remarks:
        console.print()
    for remark in remarks:
        console.print(Text(one_line(remark), style="dim"), **prose)
    # rich pads every row to full width; the blanks would wrap in a terminal made narrower later.
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def _shared(table: Table, layout: Layout) -> str:
    values = [f"{one_line(c.header)} {cell(table.rows[0][c.key], c, si_units=False)}" for c in layout.lifted]
    return f"Every row: {', '.join(values)}" if values else ""


def _limits(layout: Layout, width: int | None, units: str) -> list[str]:
    """What the width cost, and the way to see it."""
    limits = []
    integers = any(column.kind in ("integer", "bytes") for column in layout.columns)
    if layout.si_units and units == "auto" and integers:
        limits.append("numbers rounded to 4 digits to fit; use --units exact for every digit")
    if layout.hidden:
        names = ", ".join(one_line(column.key) for column in layout.hidden)
        limits.append(f"hidden at {width} columns: {names}; widen the terminal or use --format csv")
    return limits


def _style(text: str, column: Column) -> str:
    if column.kind not in ("verdict", "boolean"):
        return ""
    if text.startswith(_GOOD):
        return "green"
    return "bold red" if text.startswith(_BAD) and not text.startswith("not ") else "yellow"
