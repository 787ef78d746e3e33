"""A published table in the paper's own layout, and which rule of rounding its figures follow."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from e4profile.networks.cards import GPU_MEMORY, UNRESOLVED
from e4profile.networks.published import agrees_rounded, agrees_truncated, printed
from e4profile.questions.published.rows import (
    BYTES_PER_MB,
    COST,
    MEASUREMENT,
    NOT_BUILT,
    BuiltCell,
    published_text,
    rebuilt_title,
)
from e4profile.show.tables import Column, Table


def printed_layout(name: str, cells: Sequence[BuiltCell]) -> Table:
    """One line for each printed row: what a row carries as published, each cost as the built network gives it.

    A cost has the digits that the paper prints. Where the built network gives other digits, the published figure
    follows in brackets.
    """
    shown = [one for one in cells if one.kind != MEASUREMENT]
    quantities = list(dict.fromkeys(one.cell.quantity for one in sorted(shown, key=lambda one: one.kind == COST)))
    rows: dict[tuple[str, int, str], dict[str, str | None]] = {}
    for one in shown:
        row = rows.setdefault((one.card.name, one.row.order, one.row.row), dict.fromkeys(quantities))
        row[one.cell.quantity] = _figure(one)
    columns = (
        Column("row", "row", "text", priority=100),
        *(Column(name, name.replace("_", " "), "text", priority=90) for name in quantities),
    )
    notes = ["costs: built, with the published digits; test errors: as published, not measured"]
    if any(one.verdict == UNRESOLVED for one in shown):
        notes.append("in brackets: the published figure, where the built network gives another")
    found = tuple({"row": label, **row} for (_, _, label), row in rows.items())
    return Table(
        f"{rebuilt_title(name)}, as printed",
        columns,
        found,
        (*notes, *rule_of_rounding(cells)),
        convention=f"of each cost: e4profile published {name}",
    )


def rule_of_rounding(cells: Sequence[BuiltCell]) -> list[str]:
    """That no single rule, rounding or truncation, gives every reproduced figure; nothing where one does."""
    only_rounded: dict[str, int] = {}
    only_truncated: dict[str, int] = {}
    for one in cells:
        if not one.judged or one.verdict == UNRESOLVED or one.built is None:
            continue
        value, figure = _value(one), one.cell.value
        rounded, truncated = agrees_rounded(value, figure), agrees_truncated(value, figure)
        if rounded != truncated:
            (only_rounded if rounded else only_truncated)[figure] = one.built
    if not only_rounded or not only_truncated:
        return []
    return [
        f"no single rule of rounding gives every figure: {_some(only_truncated)} only when truncated, "
        f"{_some(only_rounded)} only when rounded"
    ]


def _some(figures: dict[str, int]) -> str:
    first, *others = (f"{figure} for {built:,}" for figure, built in figures.items())
    return first + (f" and {len(others)} more" if others else "")


def _value(one: BuiltCell) -> Fraction:
    return Fraction(one.built or 0, BYTES_PER_MB if one.cell.quantity == GPU_MEMORY else 1)


def _figure(one: BuiltCell) -> str:
    if not one.cell.compared or one.verdict in NOT_BUILT:
        return published_text(one.cell)
    built = printed(_value(one), one.cell.value, truncated=one.cell.rounding == "truncated")
    unit = f" {one.cell.unit}" if one.cell.unit else ""
    return built + unit + (f" [{published_text(one.cell)}]" if one.verdict == UNRESOLVED else "")
