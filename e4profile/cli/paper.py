"""The options for a paper, which every command with LaTeX or a figure takes: said here once, for all of them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any, get_type_hints

import typer

from e4profile.cli.help import PAPER
from e4profile.cli.streams import write_for
from e4profile.errors import SettingError
from e4profile.questions.entry import Command
from e4profile.questions.options import names
from e4profile.show.paper import Paper, font_named, length_cm, on_paper

_DRAWS = frozenset({"plot", "plots", "list_kinds"})
"""Parameters of commands that draw."""


def _option(kind: Any, flag: str, text: str, metavar: str | None = None) -> Any:
    return Annotated[kind, typer.Option(flag, help=text, metavar=metavar, rich_help_panel=PAPER)]


_OF_TABLES = {
    "columns": _option(list[str] | None, "--columns", "Columns of the table, in this order.", "KEY,..."),
    "caption": _option(str | None, "--caption", "Caption in LaTeX; may hold commands.", "TEXT"),
    "label": _option(str | None, "--label", "Label in LaTeX.", "NAME"),
}
_OF_ALL = {
    "width": _option(str | None, "--width", "Width in print, e.g. 17.8cm [8.5cm].", "LENGTH"),
    "bare": _option(bool, "--bare", "No title and no notes."),
}
_OF_FIGURES = {"font": _option(str | None, "--font", "Type of figures: serif, or 8pt, or both.", "NAME,SIZE")}


def paper_options(command: Command) -> dict[str, Any]:
    """The options for a paper that a command takes besides its own."""
    hints = get_type_hints(command, include_extras=True)
    tables, figures = "output_format" in hints, bool(_DRAWS & set(hints))
    found = {**(_OF_TABLES if tables else {}), **(_OF_ALL if tables or figures else {})}
    found |= _OF_FIGURES if figures else {}
    # a command's own option of that name means something else
    return {name: option for name, option in found.items() if name not in hints}


def paper_parameters(command: Command) -> list[Parameter]:
    """The same as parameters of a function."""
    defaults: dict[str, Any] = {"bare": False}
    return [
        Parameter(f"paper_{name}", Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=option)
        for name, option in paper_options(command).items()
    ]


def for_paper(command: Command) -> Callable[..., None]:
    """The command, which sets its tables and figures as it is told."""

    def call(**given: Any) -> None:
        told = {name.removeprefix("paper_"): given.pop(name) for name in list(given) if name.startswith("paper_")}
        output_format = given.get("output_format", "")
        write_for(output_format)
        with on_paper(_asked(output_format, **told)):
            command(**given)

    return call


def _asked(
    output_format: str,
    *,
    columns: list[str] | None = None,
    caption: str | None = None,
    label: str | None = None,
    width: str | None = None,
    font: str | None = None,
    bare: bool = False,
) -> Paper:
    for option, value in (("--caption", caption), ("--label", label)):
        if value is not None and not output_format.startswith("latex"):
            raise SettingError(f"{option} is for --format latex")
    if columns and output_format == "json":
        raise SettingError("--columns is for tables: --format json keeps every key")
    given: dict[str, Any] = {} if width is None else {"width_cm": length_cm(width)}
    if font is not None:
        given["font"], given["font_points"] = font_named(font)
    return Paper(bare=bare, columns=tuple(names(columns)), caption=caption, label=label, **given)
