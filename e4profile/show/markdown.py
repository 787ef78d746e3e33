"""A table as a Markdown pipe table that is also readable as plain text."""

from __future__ import annotations

import re

from e4profile.show.cells import cell, one_line
from e4profile.show.columns import Table

_SPECIAL = re.compile(r"([\\|*`<>\[\]~])")
# Within a word an underscore is a letter to Markdown; elsewhere it starts emphasis.
_LOOSE_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


def render_markdown(table: Table, units: str) -> str:
    """Title in bold, the table, then the convention and the notes as paragraphs."""
    header = [_escape(one_line(column.header)) for column in table.columns]
    rows = [[_escape(cell(row[c.key], c, si_units=units == "si")) for c in table.columns] for row in table.rows]
    widths = [max(3, *(len(line[i]) for line in [header, *rows])) for i in range(len(header))]
    rule = [
        "-" * (width - 1) + ":" if column.is_number else "-" * width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    lines = []
    for line in [header, rule, *rows]:
        padded = [
            text.rjust(width) if column.is_number else text.ljust(width)
            for text, column, width in zip(line, table.columns, widths, strict=True)
        ]
        lines.append(f"| {' | '.join(padded)} |")
    title = [f"**{_escape(one_line(table.title))}**"] if table.title else []
    remarks = [_escape(one_line(remark)) for remark in table.remarks]
    return "\n\n".join([*title, "\n".join(lines), *remarks]) + "\n"


def _escape(text: str) -> str:
    return _LOOSE_UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\1", text))
