"""Tables in the formats a reader or a program asks for; each shows the same values."""

from __future__ import annotations

from typing import Literal, cast, get_args

from e4profile.errors import UnknownNameError
from e4profile.show.columns import Column, ColumnNote, Kind, Table

__all__ = ["FORMATS", "UNITS", "Column", "ColumnNote", "Kind", "Table", "Units", "render"]

Units = Literal["auto", "exact", "si"]
UNITS: tuple[str, ...] = get_args(Units)
FORMATS = ("table", "json", "csv", "markdown", "latex", "latex-all")


def render(table: Table, format: str, *, width: int | None = None, color: bool = False, units: str = "auto") -> str:
    """Render a table as text that ends with a newline; the same table gives the same bytes.

    Args:
        table: what to show.
        format: ``table`` (for a terminal), ``json``, ``csv``, ``markdown``, ``latex`` (the columns that fit
            the text of an article) or ``latex-all`` (all columns, scaled to the text).
        width: terminal columns that ``table`` must fit in; None for as wide as it takes, with nothing hidden.
            The other formats have no width.
        color: whether ``table`` may colour verdicts with escape codes.
        units: for counts and bytes, ``exact`` shows every digit, ``si`` four digits and a prefix, ``auto``
            every digit where that fits. ``json`` and ``csv`` are always exact.

    Raises:
        UnknownNameError: for another format or another unit.
        SettingError: when the width is below 20.
    """
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if units not in UNITS:
        raise UnknownNameError("units", units, UNITS)
    if format == "json":
        from e4profile.show.exact import render_json

        return render_json(table)
    if format == "csv":
        from e4profile.show.exact import render_csv

        return render_csv(table)
    if format == "markdown":
        from e4profile.show.markdown import render_markdown

        return render_markdown(table, cast(Units, units))
    if format in ("latex", "latex-all"):
        from e4profile.show.latex import render_latex

        return render_latex(table, cast(Units, units), every_column=format == "latex-all")
    from e4profile.show.terminal import render_terminal

    return render_terminal(table, width=width, color=color, units=cast(Units, units))
