"""A table as a fragment of HTML, for a notebook; the whole page is made by ``render.html``."""

from __future__ import annotations

from html import escape

from e4profile.show.cells import cell, one_line
from e4profile.show.columns import Table


def render_notebook(table: Table) -> str:
    """Title as the caption, exact numbers aligned right, then the convention and the notes as paragraphs.

    Every text is escaped; there is no style sheet and no script, so that the notebook's own style applies.
    """
    head = "".join(f'<th scope="col"{_side(column.is_number)}>{_text(column.header)}</th>' for column in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{_side(column.is_number)}>{_text(cell(row[column.key], column, si_units=False))}</td>"
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
