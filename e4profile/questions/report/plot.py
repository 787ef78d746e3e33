"""``e4profile plot``: any figure of any networks, as SVG, PNG and CSV."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from e4profile.questions import options
from e4profile.questions.output import note, terminal_width

_LIST_WIDTH = 100


def plot(
    kind: Annotated[str | None, typer.Argument(help="What to draw; --list shows every kind.", metavar="KIND")] = None,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"{options.MODEL_HELP[:-1]}; else the kind's own.", metavar=options.MODEL, callback=options.networks
        ),
    ] = None,
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the figures, or one file, x.pdf.", metavar="PATH")
    ] = Path("figures"),
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", help="svg, png, csv (by default) or pdf. Repeatable.", metavar="FORMAT"),
    ] = None,
    records: Annotated[
        Path | None, typer.Option("--records", help="Records of timings, file or folder [reports].", metavar="PATH")
    ] = None,
    list_kinds: Annotated[bool, typer.Option("--list", help="List the kinds and stop.")] = False,
) -> None:
    """Draw a figure at the width of a paper's column, with its numbers as CSV beside it.

    The paths written go to stdout. Figures of times are drawn from records and never measure.
    """
    from e4profile.errors import SettingError, one_of
    from e4profile.questions.figures import check_shows, draw, figures, find_figure
    from e4profile.show.style import FORMATS, USUAL, check_folder

    if list_kinds:
        typer.echo(_listing(), nl=False)
        return
    if kind is None:
        raise SettingError(f"which figure? KIND is one of {', '.join(figures())}; or --list")
    figure = find_figure(kind)
    for ending in options.names(formats):
        one_of("figure format", ending, FORMATS)
    check_folder(out)
    given_names = models or []
    for name in given_names:
        check_shows(figure, name)
    given = options.overrides(settings)
    if given and not figure.takes_settings:
        raise SettingError(f"--set: {kind} shows what was published or recorded, which no setting changes")
    chosen: list[Any] = given_names
    if figure.records and (inputs or arguments):
        raise SettingError(f"{kind} is drawn from records, which no --input or argument changes")
    if not figure.records and (given_names or given or inputs or arguments):
        if inputs and not given_names:
            raise SettingError("--input applies to a user-defined model: name it")
        chosen = options.several_subjects(given_names or list(figure.default_models()), settings, inputs, arguments)
    for path in draw(kind, chosen, out, formats=options.names(formats) or USUAL, records=records):
        typer.echo(path)
    note(f"{kind}: {figure.meaning}")


def _listing() -> str:
    """Every kind with what it shows, in whole sentences, as wide as the terminal."""
    from e4profile.questions.figures import figures

    width = terminal_width() or _LIST_WIDTH
    lines = ["Figures: e4profile plot KIND [MODELS...] --out DIR", ""]
    for figure in figures().values():
        models = _some(figure.default_models()) or "every network recorded"
        own = "cards only" if figure.only_cards else "cards and user-defined models"
        for place, text in enumerate((figure.meaning, f"default: {models}; {own}")):
            lead = f"{figure.kind:<11}" if place == 0 else " " * 11
            lines += textwrap.wrap(text, width, initial_indent=lead, subsequent_indent=" " * 11)
    return "\n".join(lines) + "\n"


def _some(models: Sequence[str]) -> str:
    return ", ".join([*models[:3], *([f"{len(models) - 3} more"] if len(models) > 3 else [])])
