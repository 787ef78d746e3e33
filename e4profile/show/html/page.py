"""Pages as HTML: one file, nothing fetched, the same content giving the same bytes."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.errors import SettingError, is_special
from e4profile.errors import replace_file as write_whole
from e4profile.show.html.figures import shown_figures
from e4profile.show.html.model import Page, PageTable, Section, slug
from e4profile.show.html.tables import shown_table
from e4profile.show.tables import Column, Table, standing

if TYPE_CHECKING:
    from jinja2 import Environment


_TILE = Column("verdict", "verdict", "verdict")


def write_page(
    path: Path, title: str, tables: Sequence[Table], figures: Sequence[Path] = (), notes: Sequence[str] = ()
) -> None:
    """Write a user's results as a page: sortable, filterable tables and the figures inline.

    Args:
        path: the file, which appears whole or not at all; a link's target, or a pipe, is written as it stands.
        title: of the page.
        tables: each becomes a table of the page, with its rows to download as CSV.
        figures: files of figures; those of the same name (.svg, .png, .csv) are one figure.
        notes: sentences that hold for the whole page.

    Raises:
        SettingError: when a figure cannot be read or the file cannot be written.
    """
    shown = [PageTable(slug(table.title), table) for table in tables]
    sections = [Section("Tables", tables=shown)] if shown else []
    sections += [Section("Figures", figures=figures)] if figures else []
    content = render_page(Page(title, sections=sections, notes=notes))
    check_writable(path)
    replace_file(path, content.encode())


def render_page(page: Page) -> str:
    """The page as HTML. Every text is escaped; only MathML, made by sympy, goes in as markup.

    Raises:
        SettingError: when a figure cannot be read.
    """
    anchors: dict[str, int] = {}

    def anchor(text: str) -> str:
        name = slug(text)
        anchors[name] = anchors.get(name, 0) + 1
        return name if anchors[name] == 1 else f"{name}-{anchors[name]}"

    sections = [
        {
            "anchor": anchor(section.heading),
            "section": section,
            "tables": [
                (shown_table(table, anchor(f"table {table.name}")), shown_figures(table.figures, section.captions))
                for table in section.tables
            ],
            "figures": shown_figures(section.figures, section.captions),
        }
        for section in page.sections
    ]
    tally = [(number, label, standing(label, _TILE).replace("open", "")) for number, label in page.tally]
    return _environment().get_template("page.html.j2").render(page=page, tally=tally, sections=sections) + "\n"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("e4profile.show.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def check_writable(path: Path) -> None:
    """Find out before the work begins that a file cannot be written.

    Raises:
        SettingError: naming the path and the reason.
    """
    try:
        if is_special(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        # of a link, the folder that it leads to
        folder = Path(os.path.realpath(path)).parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from error
    if path.is_dir():
        raise SettingError(f"cannot write {path}: it is a folder")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file as ``e4profile.errors.replace_file`` does: whole, or as it was before.

    Raises:
        SettingError: naming the path and the reason.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from error
