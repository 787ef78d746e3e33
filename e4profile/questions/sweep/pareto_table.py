"""The table of a front: networks with their errors and costs, the cheapest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e4profile.errors import some_of
from e4profile.questions.published.rows import table_title
from e4profile.questions.sweep.pareto import GIVEN, PUBLISHED, Point
from e4profile.questions.time.table import finite
from e4profile.show.tables import Column, Table
from e4profile.witnesses.counts.base import SAY_THE_COST

_HEADERS = {"macs": "MACs"}


def pareto_table(
    points: Sequence[Point], x: str, error: str, how: str, notes: Sequence[str] = (),
    shown: Sequence[Point] | None = None,
) -> Table:  # fmt: skip
    """One row per network, the cheapest first, or those to be shown; published and given errors in own columns."""
    kind: Any = {"time": "seconds", "memory": "bytes"}.get(x, "integer")
    origins = {point.candidate.origin for point in points}
    columns = [
        Column("on_front", "on front", "boolean", "front", 100, doubted_by="alike"),
        *([Column("alike", "alike", "boolean", priority=60, doubt=True)] if x == "time" else []),
        Column("network", "network", "text", priority=95),
        Column("card", "card", "text", priority=30),
        *([Column("bound", "cost is", "text", priority=92)] if any(p.candidate.unknown for p in points) else []),
        Column(x, _HEADERS.get(x, x), kind, priority=90),
    ]
    if any(point.interval for point in points):
        columns += [Column("low", "95% from", kind, priority=65), Column("high", "95% to", kind, priority=65)]
    if PUBLISHED in origins:
        columns += [
            Column("published_error", error, "percent", "publ. error", 90),
            Column("published_spread", "published spread", "percent", "spread", 40),
            Column("unresolved", "published cost not reproduced", "text", "not reproduced", 70),
        ]
    if GIVEN in origins:
        columns.append(Column("given_error", "given error", "percent", priority=90))
    columns.append(Column("dominated_by", "dominated by", "text", priority=50))
    rows = []
    for point in points if shown is None else shown:
        one = point.candidate
        published = one.origin == PUBLISHED
        row = {
            "on_front": point.on_front,
            "alike": point.alike,
            "network": one.label,
            "card": one.subject.name,
            "bound": "at least" if one.unknown else None,
            x: point.cost,
            "low": point.interval and finite(point.interval[0]),
            "high": point.interval and finite(point.interval[1]),
            "published_error": one.error if published else None,
            "published_spread": one.spread,
            "unresolved": ", ".join(one.unresolved) or None,
            "given_error": None if published else one.error,
            "dominated_by": ", ".join(point.dominated_by) or None,
        }
        rows.append({column.key: row[column.key] for column in columns})
    alike = [point.candidate.label for point in points if point.alike]
    if alike:
        notes = (
            f"alike: the measured times do not decide whether {some_of(alike)} {'are' if len(alike) > 1 else 'is'} on "
            "the front; sample longer (--max-run-time-s) on an idle machine",
            *notes,
        )
    members = [point.candidate.label for point in points if point.on_front]
    return Table(
        _title(points, x, error),
        tuple(columns),
        tuple(rows),
        (f"the front, cheapest first: {'; '.join(members) or 'none'}", *_error_notes(points), *notes),
        convention=how,
    )


def _title(points: Sequence[Point], x: str, error: str) -> str:
    table = next((point.candidate.table for point in points if point.candidate.table), "")
    subject = f"{table_title(table)}: " if table else ""
    given = " and given error" if table and any(not point.candidate.table for point in points) else ""
    text = f"{subject}{error}{given} against {_HEADERS.get(x, x)}"
    return text if table else text[0].upper() + text[1:]


def _error_notes(points: Sequence[Point]) -> list[str]:
    origins = {point.candidate.origin for point in points}
    notes = []
    if PUBLISHED in origins:
        notes.append("errors are published, not measured here")
    if GIVEN in origins:
        given = ", ".join(dict.fromkeys(p.candidate.label for p in points if p.candidate.origin == GIVEN))
        notes.append(f"errors given with --error, neither published nor measured: {given}")
    bounds = [point.candidate for point in points if point.candidate.unknown]
    if bounds:
        listed = "; ".join(f"{one.label} ({some_of(one.unknown)})" for one in bounds)
        notes.append(f"lower bounds, which are on no front: unknown operators in {listed}; {SAY_THE_COST}")
    doubtful = [point.candidate for point in points if point.candidate.unresolved]
    if doubtful:
        listed = "; ".join(f"{one.label} ({', '.join(one.unresolved)})" for one in doubtful)
        notes.append(
            f"published cost not reproduced: {listed}. What is built may not be the network that had this error"
        )
    return notes
