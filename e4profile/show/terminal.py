"""A table for a terminal: it fits the width it is given, and says what it had to leave out.

What is shown, in order: everything; constant columns lifted into a line above; headers broken at spaces; short
headers; long text folded into several lines; and only then columns hidden, the least important first. No text is ever
cut. Numbers have every digit wherever the columns that matter most fit with them, so that a wider terminal never shows
fewer digits.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from rich.cells import cell_len

from e4profile.errors import SettingError
from e4profile.show.numbers import broken, cell, cell_of, one_line
from e4profile.show.tables import Column, Table, constant, hiding_order, standing, telling

GAP = 2
MIN_WIDTH = 20
ESSENTIAL = 70
"""The priority from which on a column is worth every digit of the others."""
_BREAKS = "/._-:,"
_STYLES = {"good": "green", "bad": "bold red", "open": "yellow", "": ""}


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

    layout = fit(table, width, units)
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold")
    height = max(header.count("\n") for header in layout.headers)
    for column, header in zip(layout.columns, layout.headers, strict=True):
        side = "right" if column.is_number else "left"
        # headers stand on the rule, while the lines of a row begin together at its top
        low = "\n" * (height - header.count("\n")) + header
        grid.add_column(Text(low), justify=side, vertical="top", no_wrap=True)  # type: ignore[arg-type]
    for row in layout.cells:
        texts = zip(row, layout.columns, strict=True)
        grid.add_row(*(Text(text, style=_STYLES[standing(text, column)]) for text, column in texts))
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


@dataclass(frozen=True)
class Layout:
    """A table ready to print: headers and the cells of text may hold line breaks.

    Attributes:
        columns: the visible columns, deciding ones first.
        headers: their headers.
        cells: the text of each row.
        lifted: columns whose one value stands above the table.
        hidden: columns that do not fit, in the table's order.
        si_units: whether integers are shortened to four digits.
        text_limit: the length at which longer text was folded, None where no text was.
    """

    columns: tuple[Column, ...]
    headers: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    lifted: tuple[Column, ...]
    hidden: tuple[Column, ...]
    si_units: bool
    text_limit: int | None

    @property
    def width(self) -> int:
        """Terminal columns the table takes."""
        widths = (max(map(_text_width, texts)) for texts in zip(self.headers, *self.cells, strict=True))
        return sum(widths) + GAP * (len(self.columns) - 1)


@dataclass(frozen=True)
class _Style:
    si_units: bool
    short: bool
    stacked: bool
    text_limit: int | None


def fit(table: Table, width: int | None, units: str) -> Layout:
    """The fullest layout that is at most ``width`` wide.

    Raises:
        SettingError: when the width is below 20.
    """
    deciding = table.deciding
    shown = [*deciding, *(column for column in table.columns if column not in deciding)]
    plain = _Style(units == "si", short=False, stacked=False, text_limit=None)
    full = _layout(table, shown, (), (), plain)
    if width is None:
        return full
    if width < MIN_WIDTH:
        raise SettingError(f"width (={width}) must be at least {MIN_WIDTH}")
    if full.width <= width:
        return full
    lifted = constant(table, shown)
    kept = [column for column in shown if column not in lifted]
    expendable = hiding_order(table, kept)
    exact, rounded = ([style for style in _styles(width) if style.si_units == one] for one in (False, True))
    essential = [column for column in kept if column in deciding or column.priority >= ESSENTIAL] or kept
    every_digit = any(_layout(table, essential, lifted, (), style).width <= width for style in exact)
    styles = {"exact": exact, "si": rounded, "auto": exact if every_digit else rounded}[units]
    # with columns that a wider terminal has no room for beside every digit, a narrower one would show more than it
    fewest = 0 if units != "auto" or every_digit else len(kept) - len(essential)
    for count in range(fewest, len(kept)):
        gone = expendable[:count]
        visible = [column for column in kept if column not in gone]
        hidden = [column for column in table.columns if column in gone]
        for style in styles:
            layout = _layout(table, visible, lifted, hidden, style)
            if layout.width <= width:
                return _told(_with_widest_text(layout, table, style, width), table)
    raise SettingError(f"width (={width}) is too narrow for column {visible[0].key!r}")


def _styles(width: int) -> list[_Style]:
    """Every way to set the cells, the fullest first."""
    return [
        _Style(si_units, short, stacked, text_limit)
        for text_limit, si_units, (short, stacked) in product(
            (None, max(MIN_WIDTH // 2, width // 3)),
            (False, True),
            ((False, False), (False, True), (True, False), (True, True)),
        )
    ]


def _told(layout: Layout, table: Table) -> Layout:
    """The same layout without lifted numbers that matter less than what is hidden."""
    told = telling(layout.lifted, layout.hidden)
    gone = [column for column in table.columns if column in (*layout.hidden, *layout.lifted) and column not in told]
    return replace(layout, lifted=tuple(told), hidden=tuple(gone))


def _with_widest_text(layout: Layout, table: Table, style: _Style, width: int) -> Layout:
    """The same layout with folded text in lines as long as the width allows."""
    if style.text_limit is None:
        return layout
    fits, too_long = style.text_limit, width
    while too_long - fits > 1:
        limit = (fits + too_long) // 2
        longer = _layout(
            table, list(layout.columns), list(layout.lifted), list(layout.hidden), replace(style, text_limit=limit)
        )
        if longer.width <= width:
            fits, layout = limit, longer
        else:
            too_long = limit
    return layout


def _layout(
    table: Table,
    visible: list[Column],
    lifted: list[Column] | tuple[()],
    hidden: list[Column] | tuple[()],
    style: _Style,
) -> Layout:
    cells = [
        [
            text if column.is_number else fold(text, style.text_limit)
            for column in visible
            for text in [cell_of(row, column, si_units=style.si_units)]
        ]
        for row in table.rows
    ]
    headers = []
    for index, column in enumerate(visible):
        header = one_line(column.short if style.short else column.header)
        if style.stacked:
            header = broken(header, max((_text_width(row[index]) for row in cells), default=1))
        headers.append(fold(header, style.text_limit))
    return Layout(
        columns=tuple(visible),
        headers=tuple(headers),
        cells=tuple(map(tuple, cells)),
        lifted=tuple(lifted),
        hidden=tuple(hidden),
        si_units=style.si_units,
        text_limit=style.text_limit,
    )


def fold(text: str, limit: int | None) -> str:
    """Text in lines of at most ``limit``, broken at blanks; a longer word behind one of its marks, else anywhere."""
    if limit is None or _text_width(text) <= limit:
        return text
    lines = [""]
    for index, word in enumerate(text.replace("\n", " \n ").split(" ")):
        if word == "\n":
            lines.append("")
            continue
        rest = word if not index or not lines[-1] else f" {word}"
        if cell_len(lines[-1] + rest) > limit and lines[-1]:
            lines.append("")
            rest = word
        while cell_len(rest) > limit:
            fits = _fitting(rest, limit)
            lines[-1:] = [rest[:fits], ""]
            rest = rest[fits:]
        lines[-1] += rest
    return "\n".join(line.rstrip(" ") for line in lines if line.strip(" ")) or text[:0]


def _fitting(word: str, limit: int) -> int:
    """How many characters of a word that is longer than a line go on the line: at least one."""
    fits = 1
    while cell_len(word[: fits + 1]) <= limit:
        fits += 1
    marks = [index + 1 for index in range(fits // 2, fits) if word[index] in _BREAKS]
    return marks[-1] if marks else fits


def _text_width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))
