"""The formats that need no layout: JSON and CSV for programs, Markdown, and HTML for a notebook.

JSON and CSV are exact: nothing is rounded, grouped, shortened or hidden.
"""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from fractions import Fraction
from html import escape

from e4profile.show.numbers import cell_of, one_line
from e4profile.show.tables import Table


def render_json(table: Table) -> str:
    """One array of the row objects, keys in column order, one row per line, ending with a newline.

    Integers are exact at any size. A Fraction or Decimal becomes the nearest double, in shortest form.
    """
    rows = [
        json.dumps({c.key: _number(row[c.key]) for c in table.columns}, ensure_ascii=False, allow_nan=False)
        for row in table.rows
    ]
    body = ",\n".join(f"  {row}" for row in rows)
    return f"[\n{body}\n]\n" if rows else "[]\n"


def render_csv(table: Table) -> str:
    """The keys as header, then the rows: None is empty, booleans are true and false, numbers as in JSON.

    A text that a spreadsheet would run as a formula begins with an apostrophe, which makes it text there.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    for row in table.rows:
        writer.writerow([_field(row[column.key]) for column in table.columns])
    return stream.getvalue()


def _field(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and (value[:1] in ("\t", "\r") or value.lstrip()[:1] in ("=", "+", "-", "@")):
        return f"'{value}"
    return _number(value)


def _number(value: object) -> object:
    return float(value) if isinstance(value, Fraction | Decimal) else value


_SPECIAL = re.compile(r"([\\|*`<>\[\]~])")
_MENTION = re.compile(r"@(?=\w)")
# Within a word an underscore is a letter to Markdown; elsewhere it starts emphasis.
_LOOSE_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


def render_markdown(table: Table, units: str) -> str:
    """Title in bold, the table, then the convention and the notes as paragraphs."""
    header = [_escape(one_line(column.header)) for column in table.columns]
    rows = [[_escape(cell_of(row, c, si_units=units == "si")) for c in table.columns] for row in table.rows]
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
    # on GitHub an @ before a name calls somebody, unless something invisible is between them
    text = _LOOSE_UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\1", text))
    return _MENTION.sub("@<!-- -->", text)


def render_notebook(table: Table) -> str:
    """Title as the caption, exact numbers aligned right, then the convention and the notes as paragraphs.

    Every text is escaped; there is no style sheet and no script, so that the notebook's own style applies.
    """
    head = "".join(f'<th scope="col"{_side(column.is_number)}>{_text(column.header)}</th>' for column in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{_side(column.is_number)}>{_text(cell_of(row, column, si_units=False))}</td>"
            for column in table.columns
        )
        + "</tr>"
        for row in table.rows
    )
    caption = f"<caption>{_text(table.title)}</caption>" if table.title else ""
    remarks = "".join(f"<p>{_text(remark)}</p>" for remark in table.remarks)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{remarks}"


def _text(text: str) -> str:
    return escape(one_line(text))


def _side(right: bool) -> str:
    return ' style="text-align: right"' if right else ' style="text-align: left"'
