"""``e4profile reconcile``: which architectures and counting rules give published figures."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.cli.options import Format, Overrides, Units, check_format, names, overrides
from e4profile.cli.output import Progress, emit, note
from e4profile.errors import SettingError, positive

if TYPE_CHECKING:
    from e4profile.cards import Card
    from e4profile.reconcile import Reconciliation, Row
    from e4profile.render.tables import Table


def reconcile(
    models: Annotated[
        list[str], typer.Argument(help="Cards' names or card files.", metavar="NAME|CARD.toml...")
    ],
    params: Annotated[
        str | None, typer.Option("--params", help="Published parameters, e.g. 18.8K.", metavar="N")
    ] = None,
    flops: Annotated[
        str | None, typer.Option("--flops", help="Published FLOPs, e.g. 17M.", metavar="N")
    ] = None,
    macs: Annotated[str | None, typer.Option("--macs", help="Published MACs.", metavar="N")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Every row of the card's published block at once.")
    ] = False,
    rows_of: Annotated[
        str | None,
        typer.Option("--rows-of", help="Every published row of another card instead.", metavar="NAME"),
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="Published rows of this table only.", metavar="NAME")
    ] = None,
    settings: Overrides = None,
    changes: Annotated[
        int, typer.Option("--changes", help="How many arguments may differ from the card's.", metavar="N")
    ] = 2,
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", help="Search these arguments only. Repeatable.", metavar="ARGUMENT"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Show at most N explanations.", metavar="N")] = 10,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Search architectures and counting rules that give all published figures at their printed precision.

    The simplest come first: the fewest arguments that differ from the card, the fewest differences from plain
    MACs. How much was searched, and what chance alone would find, is always said.
    """
    check_format(output_format)
    from e4profile.cards import find_card
    from e4profile.reconcile import reconcile as search

    positive(**{"--limit": limit})
    cards = [find_card(name).with_arguments(overrides(settings)) for name in names(models)]
    given = {"params": params, "flops": flops, "macs": macs}
    rows = _rows(cards, given, find_card(rows_of) if rows_of else None, published or table is not None, table)
    progress: list[Progress] = []

    def step(_: int, total: int) -> None:
        if not progress:
            progress.append(Progress("reconcile", total))
        progress[0].step("architectures")

    try:
        found = search(rows, changes=changes, vary=names(vary) or None, progress=step)
    finally:
        for one in progress:
            one.close()
    if output_format == "json":
        document = {"models": [card.name for card in cards], **found.as_object(limit)}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    else:
        emit(reconcile_table(", ".join(card.name for card in cards), found, limit), output_format, units)
    if output_format in ("json", "csv"):
        for text in _space_notes(found):
            note(text)


def _rows(
    cards: list[Card], given: dict[str, str | None], rows_of: Card | None, published: bool, table: str | None
) -> list[Row]:
    from e4profile.reconcile import Figure, Row, published_rows

    figures = tuple(Figure(quantity, text) for quantity, text in given.items() if text is not None)
    if figures and (published or rows_of):
        raise SettingError("give either figures (--params, --flops, --macs) or published rows, not both")
    if not figures and not published and rows_of is None:
        raise SettingError("give published figures: --params 18.8K --flops 17M, or --published")
    if figures:
        return [Row(card.name, card, figures) for card in cards]
    return [row for card in cards for row in published_rows(card, rows_of, table)]


def reconcile_table(name: str, found: Reconciliation, limit: int) -> Table:
    """The simplest explanations, or what comes nearest."""
    from e4profile.reconcile.ranking import changes_text
    from e4profile.render.tables import Column, Table

    columns = [
        Column("differences", "differences", "integer", "diff.", 100),
        Column("changes", "changed arguments", "text", priority=95),
        Column("rule", "counted as macs, but", "text", priority=90),
    ]
    figures = (
        f"{found.figures} figures of {found.rows} rows" if found.rows > 1 else f"{found.figures} figures"
    )
    if found.matches:
        columns.append(Column("rounding", "rounding", "text", priority=60))
        rows = [
            {
                "differences": match.differences,
                "changes": changes_text(match.changes),
                "rule": str(match.rule),
                "rounding": match.rounding,
            }
            for match in found.matches[:limit]
        ]
        title = f"{name}: what gives all of {figures}, simplest first"
    else:
        columns.append(Column("worst", "worst figure off by %", "percent", "off by", 80))
        columns.append(Column("figure", "worst figure", "text", priority=20))
        rows = [
            {
                "differences": near.differences,
                "changes": changes_text(near.changes),
                "rule": str(near.rule),
                "worst": 100 * near.deviation,
                "figure": near.figure,
            }
            for near in found.nearest[:limit]
        ]
        title = f"{name}: none found that gives {figures}; the nearest"
    notes = _space_notes(found)
    if found.matches:
        best = found.matches[0]
        simplest = f"simplest: {changes_text(best.changes)}; {best.rule}; {best.rounding}"
        same = "; ".join(changes_text(changes) for changes in best.same[:3])
        notes.insert(0, simplest + (f"; the same counts with {same}" if same else ""))
        hidden = len(found.matches) - len(rows)
        if hidden > 0:
            notes.append(f"{hidden:,} more, less simple or as simple; see --limit")
    return Table(title, tuple(columns), tuple(rows), tuple(notes))


def _space_notes(found: Reconciliation) -> list[str]:
    sizes = ", ".join(f"{name} {count}" for name, count in found.axes.items())
    share = 100 * found.chance_share
    return [
        f"searched {found.combinations:,} combinations of {found.architectures:,} architectures with their counting "
        f"rules, every figure rounded or truncated: {found.found:,} match",
        f"values besides the card's: {sizes or 'none'}; {found.refused:,} architectures cannot be built",
        f"chance: of 1,000 made-up versions of one row ({found.chance_row}) within 10%, {share:.1f}% find a match, "
        f"{found.chance:.3g} on average" + ("; all rows together less" if found.rows > 1 else ""),
    ]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reconcile")(reconcile)
