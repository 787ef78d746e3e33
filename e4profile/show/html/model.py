"""What a page holds, before it is HTML: sections of tables, figures and closed forms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e4profile.errors import SettingError
from e4profile.show.tables import Table

Details = Sequence[tuple[str, str]]
"""Labelled sentences that stand behind one row."""


@dataclass(frozen=True)
class PageTable:
    """A table on a page.

    Attributes:
        name: of the file that a reader downloads, without its ending.
        table: the rows, exact.
        details: for each row, what opens on click; empty for a table that has nothing behind its rows.
        figures: files of figures that are drawn from the table, shown below it.

    Raises:
        SettingError: when there are details for another number of rows.
    """

    name: str
    table: Table
    details: Sequence[Details] = ()
    figures: Sequence[Path] = ()

    def __post_init__(self) -> None:
        if self.details and len(self.details) != len(self.table.rows):
            raise SettingError(
                f"table {self.name!r}: details for {len(self.details)} rows must be for {len(self.table.rows)}"
            )


@dataclass(frozen=True)
class FormRow:
    """One named term: its expression as presentation MathML, and whether it is in the source's own formula."""

    term: str
    mathml: str
    printed: bool = False


@dataclass(frozen=True)
class FormTable:
    """The terms of one quantity (parameters, MACs, ...), then their sums."""

    heading: str
    terms: Sequence[FormRow]
    sums: Sequence[FormRow] = ()

    @property
    def has_printed(self) -> bool:
        """Whether the source's own formula has any of it."""
        return any(row.printed for row in self.terms)


@dataclass(frozen=True)
class ClosedForm:
    """One layer's closed form.

    Attributes:
        name: the layer's class.
        summary: what it does, one sentence.
        source: paper and section.
        tables: the terms by quantity.
        symbols: MathML of each symbol with its meaning.
    """

    name: str
    summary: str
    source: str
    tables: Sequence[FormTable]
    symbols: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of a page with its own heading and entry in the contents; ``captions`` go by a figure's name."""

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[PageTable] = ()
    figures: Sequence[Path] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    forms: Sequence[ClosedForm] = ()


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: of the document.
        lead: the first sentences.
        tally: numbers that are large at the top, each with the label below it; a verdict's has its colour.
        sections: in order.
        notes: what holds for everything on the page.
    """

    title: str
    lead: str = ""
    tally: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = field(default_factory=tuple)
    notes: Sequence[str] = ()


def slug(text: str) -> str:
    """The text as a file name or an anchor: lower-case ASCII letters, digits and single hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "table"
