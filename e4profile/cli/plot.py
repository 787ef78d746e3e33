"""``e4profile plot``: any figure of any networks, as SVG, PNG and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.cli.options import Overrides, names, overrides
from e4profile.cli.output import emit, note

if TYPE_CHECKING:
    from e4profile.cards import Card
    from e4profile.render.tables import Table


def plot(
    kind: Annotated[
        str | None, typer.Argument(help="What to draw; --list shows every kind.", metavar="KIND")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Card names or card files; the kind's own default.", metavar="[MODELS...]"),
    ] = None,
    settings: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the figures.", metavar="DIR")] = Path("figures"),
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", help="svg, png, csv; all by default. Repeatable.", metavar="FORMAT"),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option("--records", help="Records of timings, file or folder [reports].", metavar="PATH"),
    ] = None,
    list_kinds: Annotated[bool, typer.Option("--list", help="List the kinds and stop.")] = False,
) -> None:
    """Draw a figure at the width of a paper's column, with its numbers as CSV beside it.

    The paths written go to stdout. Figures of times are drawn from records and never measure.
    """
    from e4profile.errors import SettingError
    from e4profile.figures import FIGURES, draw, find_figure
    from e4profile.render.style import FORMATS, check_folder

    if list_kinds:
        emit(_listing(), "table")
        return
    if kind is None:
        raise SettingError(f"which figure? KIND is one of {', '.join(FIGURES)}; or --list")
    figure = find_figure(kind)
    check_folder(out)
    chosen: list[Any] = names(models)
    given = overrides(settings)
    if given:
        if not figure.takes_settings:
            raise SettingError(f"--set: {kind} shows what was published or recorded, which no setting changes")
        chosen = [_with_settings(name, given) for name in chosen or figure.default_models()]
    for path in draw(kind, chosen, out, formats=names(formats) or FORMATS, records=records):
        typer.echo(path)
    note(f"{kind}: {figure.meaning}")


def _with_settings(name: str, given: dict[str, Any]) -> Card:
    """The card with some arguments replaced, which its name then says."""
    from dataclasses import replace

    from e4profile.cards import find_card

    card = find_card(name).with_arguments(given)
    said = " ".join(f"{key}={value}" for key, value in given.items())
    return replace(card, name=f"{card.name} {said}")


def _listing() -> Table:
    from e4profile.figures import FIGURES
    from e4profile.render.tables import Column, Table

    return Table(
        title="Figures",
        columns=(
            Column("kind", "kind", "text", priority=100),
            Column("meaning", "meaning", "text", priority=90),
            Column("models", "default models", "text", priority=50),
        ),
        rows=tuple(
            {
                "kind": figure.kind,
                "meaning": figure.meaning,
                "models": _some(figure.default_models()) or "every network recorded",
            }
            for figure in FIGURES.values()
        ),
        notes=("draw one: e4profile plot KIND [MODELS...] --out DIR",),
    )


def _some(models: Sequence[str]) -> str:
    return ", ".join([*models[:3], *([f"{len(models) - 3} more"] if len(models) > 3 else [])])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plot")(plot)
