"""What a command answers in Python: a DataFrame that knows its title, its totals, its notes and its gaps."""

from __future__ import annotations

import math
import os
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.plotting import PlotAccessor

from e4profile.errors import SettingError, replace_file
from e4profile.questions.columns import COLUMNS, named_column
from e4profile.show.paper import Paper, font_named, length_cm, on_paper
from e4profile.show.tables import Kind, Table, render

if TYPE_CHECKING:
    from e4profile.questions.answers import Answer
    from e4profile.show.style import Plot

_BITS = 63
"""Of the whole numbers that a column of NumPy holds."""


@dataclass(frozen=True)
class _Origin:
    """How the command shows what it answered.

    Attributes:
        table: as programs get it; of parts that were joined its columns alone.
        shown: the tables in LaTeX.
        latex: the text of LaTeX, where that is no table.
        figures: each draws the numbers, or some of them; empty where the command has no figure.
    """

    table: Table
    shown: tuple[Table, ...] = ()
    latex: Callable[[], str] | None = None
    figures: tuple[Callable[[], list[Plot]], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        latex = None if self.latex is None else partial(str, self.latex())
        return _Origin, (self.table, self.shown, latex, (_not_drawn,) if self.figures else ())


def _not_drawn() -> list[Plot]:
    raise SettingError("a result that was stored and read back cannot be drawn: plot it where it was made")


class _Plots(PlotAccessor):
    """``result.plot(path)`` draws the command's figure; ``result.plot.bar()`` and its like are those of pandas."""

    def __init__(self, found: Result) -> None:
        super().__init__(found)
        self._origin, self._columns = found._origin, found.columns

    def __call__(
        self,
        path: str | os.PathLike[str] | None = None,
        *args: Any,
        width: str | float | None = None,
        font: str | None = None,
        bare: bool = False,
        **of_pandas: Any,
    ) -> Any:
        """The figure of the command that was asked, or the paths of its files; a list where it has several.

        Args:
            path: a folder for it as SVG and PNG and its numbers as CSV, or one file such as ``x.pdf``; None to get
                the figure of matplotlib.
            args: of pandas, where the command has no figure.
            width: in print, ``"17.8cm"``; a number is cm.
            font: ``"serif"``, ``"8pt"`` or both.
            bare: without title and notes.
            of_pandas: the same.

        Raises:
            SettingError: for a path, a width or a font that cannot be.
        """
        drawings = () if self._origin is None else self._origin.figures
        if not drawings or args or of_pandas:
            if isinstance(path, os.PathLike) or (path is not None and not of_pandas and path not in self._columns):
                raise SettingError(f"path: {os.fspath(path)}: what was asked has no figure of its own; give x and y")
            more = {} if path is None else {"x": path}
            return super().__call__(*args, **more, **of_pandas)  # type: ignore[call-overload]
        from e4profile.questions.figures import save_plots
        from e4profile.show.style import paper_style

        given: dict[str, Any] = {}
        if font is not None:
            given["font"], given["font_points"] = font_named(font)
        with on_paper(Paper(bare=bare, **_width(width), **given)), paper_style():
            plots = [plot for drawing in drawings for plot in drawing()]
            if path is not None:
                return save_plots(plots, Path(path))
            figures = _Figures(one.figure for one in plots)
            return figures[0] if len(figures) == 1 else figures


class _Figures(list[Any]):
    """Figures that a notebook shows one below the other."""

    def _repr_html_(self) -> str:
        images = (b64encode(one._repr_png_()).decode() for one in self)
        return "".join(f'<img width="420" src="data:image/png;base64,{image}">' for image in images)


def _fact(name: str, absent: Any) -> Any:
    """The attribute of that name; where the command says none, a copy of ``absent``."""
    return property(lambda found: found.attrs.get(name, copy(absent)))


class Result(pd.DataFrame):
    """What a command answered: its rows with every digit, as ``--format csv`` has them.

    Attributes:
        title: what was asked.
        notes: what a reader must know, a sentence each.
        totals: sums over all rows, by witness; those of the command, whatever rows are selected.
        gaps: why counters differ from what runs, by counter.
        exit_code: of the command: 0 where everything holds.

    What a command says besides is an attribute too: ``convention``, ``verdict``, ``coverage``, ... (a column of that
    name goes before it). ``attrs`` holds them all. They are kept when rows or columns are selected, and by ``copy``,
    ``head`` and pickle; ``pd.concat`` keeps the notes of all parts, and the others where they are the same.
    """

    _metadata = ["_origin"]
    _origin: _Origin | None = None

    title: str = _fact("title", "")
    notes: list[str] = _fact("notes", [])
    totals: dict[str, Any] = _fact("totals", {})
    gaps: dict[str, Any] = _fact("gaps", {})
    exit_code: int = _fact("exit_code", 0)

    @property
    def _constructor(self) -> type[Result]:
        return Result

    @property
    def plot(self) -> _Plots:
        """Draws the command's figure, see there."""
        return _Plots(self)

    def __getattr__(self, name: str) -> Any:  # type: ignore[misc]
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in self.attrs:
                return self.attrs[name]
            raise

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *map(str, self.attrs)})

    def __finalize__(self, other: Any, method: str | None = None, **kwargs: Any) -> Result:
        found: Result = super().__finalize__(other, method=method, **kwargs)  # type: ignore[misc]
        if method == "concat":
            # two names of pandas for the same
            parts = [one for one in getattr(other, "input_objs", getattr(other, "objs", ())) if isinstance(one, Result)]
            if len(parts) > 1:
                _join(found, parts)
        return found

    def _repr_html_(self) -> str:
        """What a notebook shows: the rows with every digit, the totals, and what a reader must know."""
        from e4profile.show.formats import render_notebook

        if not self.columns.is_unique or not len(self.columns):
            return str(super()._repr_html_())  # type: ignore[misc]
        most = pd.get_option("display.max_rows") or len(self)
        rows = self.head(most if len(self) <= most else most // 2)
        more = [f"{len(self) - len(rows):,} more of {len(self):,} rows"] if len(rows) < len(self) else []
        table = rows._as_table()
        return render_notebook(replace(table, notes=(*more, *_totals_said(self.totals), *table.notes)))

    def to_latex(  # type: ignore[override]
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        caption: str | None = None,
        label: str | None = None,
        width: str | float | None = None,
        bare: bool = False,
        units: str = "auto",
        every_column: bool = False,
    ) -> str:
        """What ``--format latex`` gives; of rows or columns that were selected the same of these.

        Args:
            path: a file to write it to as well.
            columns: of the table, by key or header, in this order; those that fit by default.
            caption: instead of the title; may hold commands.
            label: for references.
            width: in print, ``"17.8cm"``; a number is cm; 8.5 cm, a column of two, by default.
            bare: without title and notes, which stay as comments.
            units: ``exact`` has every digit, ``si`` four and a prefix.
            every_column: ``--format latex-all``.

        Raises:
            UnknownNameError: for a column that the table has not.
            SettingError: for a width that no page has.
        """
        paper = Paper(bare=bare, columns=tuple(columns or ()), caption=caption, label=label, **_width(width))
        kind = "latex-all" if every_column else "latex"
        with on_paper(paper):
            origin = self._origin if self._origin is not None and self.equals(_frame(self._origin.table)) else None
            if origin is not None and origin.latex is not None and not columns:
                text = origin.latex()
            else:
                shown = (origin.shown if origin else ()) or (self._as_table(),)
                text = "\n".join(render(one, kind, units=units) for one in shown)
        if path is not None:
            replace_file(Path(path), text.encode())
        return text

    def _as_table(self) -> Table:
        numbered = self.index.name is None and pd.api.types.is_integer_dtype(self.index.dtype)
        frame = self if numbered else self.reset_index()
        known = {one.key: one for one in self._origin.table.columns} if self._origin else {}
        columns, values = [], []
        for key in frame.columns:
            found = [_python(value) for value in frame[key].astype(object)]
            column = known.get(str(key)) or COLUMNS.get(str(key))
            if column is None or not all(map(column.takes, found)):
                column = named_column(str(key), found)
            columns.append(column)
            values.append([None if one is None else str(one) if column.kind == "text" else one for one in found])
        rows = tuple(dict(zip((one.key for one in columns), row, strict=True)) for row in zip(*values, strict=True))
        words = self._origin.table.convention if self._origin else None
        return Table(self.title, tuple(columns), rows, tuple(self.notes), words)


def result_of(answer: Answer) -> Result:
    """What a command answered as a frame."""
    table = answer.table
    if table is None:
        raise SettingError("this answer has no rows: ask for it on the command line")
    found = Result(_frame(table))
    notes = list(dict.fromkeys([*table.notes, *answer.notes]))
    said: dict[Any, Any] = {"title": table.title, "notes": notes, "exit_code": answer.exit_code}
    found.attrs = said | answer.facts
    found._origin = _Origin(table, tuple(answer.shown), answer.latex, tuple(answer.figures))
    return found


def _frame(table: Table) -> pd.DataFrame:
    """The rows with the types of their columns; a whole number that is not there leaves the others whole."""
    return pd.DataFrame({one.key: _series([row[one.key] for row in table.rows], one.kind) for one in table.columns})


def _series(values: Sequence[Any], kind: Kind) -> pd.Series[Any]:
    if kind in ("text", "verdict"):
        return pd.Series(values, dtype=object)
    missing = any(value is None for value in values)
    if kind == "boolean":
        return pd.Series(values, dtype="boolean" if missing else bool)
    present = [value for value in values if value is not None]
    if kind in ("integer", "bytes") or (present and all(isinstance(value, int) for value in present)):
        if any(value is not None and value.bit_length() > _BITS for value in values):
            return pd.Series(values, dtype=object)
        return pd.Series(values, dtype="Int64" if missing else "int64")
    return pd.Series([None if value is None else float(value) for value in values], dtype=float)


def _python(value: Any) -> Any:
    """A value of a frame as a table takes it."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    value = getattr(value, "item", lambda: value)()
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str) else str(value)


def _totals_said(totals: Mapping[str, Any]) -> list[str]:
    """Totals as sentences, those of several networks a sentence each."""

    def amount(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    return [
        f"total, {name.replace('_', ' ')}: {', '.join(f'{key} {amount(one)}' for key, one in value.items())}"
        for name, value in totals.items()
    ]


def _join(found: Result, parts: Sequence[Result]) -> None:
    """Notes of all parts, and what is the same in all of them."""
    first = parts[0].attrs
    same = {key: one for key, one in first.items() if all(part.attrs.get(key) == one for part in parts)}
    found.attrs = {
        **same,
        "notes": list(dict.fromkeys(note for one in parts for note in one.notes)),
        "exit_code": max(one.exit_code for one in parts),
    }
    tables = [part._origin.table for part in parts if part._origin is not None]
    columns = {one.key: one for table in reversed(tables) for one in table.columns}
    words = "; ".join(dict.fromkeys(table.convention for table in tables if table.convention))
    if columns:
        found._origin = _Origin(Table("", tuple(columns.values()), (), convention=words or None))


def _width(width: str | float | None) -> dict[str, Any]:
    return {} if width is None else {"width_cm": length_cm(str(width))}
