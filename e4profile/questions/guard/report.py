"""The guard's result as tables: for the terminal and programs, and as a pull-request comment in Markdown."""

from __future__ import annotations

import math
from typing import Any

from e4profile.questions.guard.changes import UNITS
from e4profile.questions.guard.checks import Check
from e4profile.questions.guard.run import GuardResult, ModelResult
from e4profile.records.baseline import QUANTITIES
from e4profile.show.tables import Column, Table, render

MARKER = "<!-- e4profile guard -->"
"""First line of the comment, by which a later run finds its own comment again."""

_STATES = {0: "everything holds", 1: "deviations", 3: "no baseline"}


def guard_table(result: GuardResult, *, for_programs: bool = False) -> Table:
    """One row per check; the messages follow as notes, or in their own column for programs."""
    kind: Any = "ratio" if for_programs else "text"
    columns = [
        Column("verdict", "verdict", "verdict", priority=100),
        Column("model", "model", "text", priority=95),
        Column("check", "check", "text", priority=90),
        Column("expected", "expected", kind, priority=80),
        Column("actual", "actual", kind, priority=85),
    ]
    if for_programs:
        columns.append(Column("message", "message", "text"))
    rows = [_row(check, for_programs=for_programs) for check in result.checks]
    return Table(
        title=f"Guard of {result.config.file.name}: {_STATES[result.exit_code]}",
        columns=tuple(columns),
        rows=tuple({column.key: row[column.key] for column in columns} for row in rows),
        notes=tuple(_notes(result, messages=not for_programs)),
        convention="macs; budgets are upper limits, baseline counts are exact",
    )


def _row(check: Check, *, for_programs: bool) -> dict[str, object]:
    exact = {"expected": check.expected, "actual": check.actual}
    values = {key: _exact(value) if for_programs else _shown(value) for key, value in exact.items()}
    return {
        "verdict": check.status, "model": check.model, "check": check.name, **values, "message": check.message or None,
    }  # fmt: skip


def _exact(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _shown(value: float | None) -> str | None:
    return None if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _notes(result: GuardResult, *, messages: bool) -> list[str]:
    notes = []
    for model in result.models:
        if messages:
            notes += [f"{model.name}: {check.message}" for check in model.problems if check.status != "no baseline"]
        notes += [f"{model.name}: {note}" for note in model.notes]
    missing = [check for check in result.checks if check.status == "no baseline"] if messages else []
    if missing:
        # one remedy serves all of them
        models = ", ".join(dict.fromkeys(check.model for check in missing))
        remedy = missing[0].message.rpartition("; ")[2]
        notes.append(f"no baseline for {len(missing)} count{'' if len(missing) == 1 else 's'} of {models}: {remedy}")
    return [*notes, *result.notes]


def markdown_comment(result: GuardResult) -> str:
    """The whole run as a comment: checks, then per network what moved, layer by layer, and why."""
    parts = [MARKER, f"### e4profile guard: {_STATES[result.exit_code]}"]
    parts.append(render(guard_table(result), "markdown").strip())
    for model in result.models:
        if model.after is None or model.before is None or not (model.changes or model.asked):
            continue
        parts.append(render(_totals(model), "markdown").strip())
        parts += [
            render(table, "markdown", units="exact").strip() for table in map(lambda q: _moved(model, q), QUANTITIES)
            if table is not None
        ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _totals(model: ModelResult) -> Table:
    before, after = model.before, model.after
    rows = []
    for quantity in QUANTITIES:
        old = before.costs.get(quantity) if before else None
        new = after.costs.get(quantity) if after else None
        if old is not None or new is not None:
            change = None if old is None or new is None else new - old
            percent = 100 * change / old if change is not None and old else None
            rows.append(
                {"quantity": UNITS[quantity], "before": old, "after": new, "change": change, "percent": percent}
            )
    return Table(
        title=model.name,
        columns=(
            Column("quantity", "quantity", "text"),
            Column("before", "before", "integer"),
            Column("after", "after", "integer"),
            Column("change", "change", "integer"),
            Column("percent", "change %", "percent"),
        ),
        rows=tuple(rows),
        notes=tuple(f"Asked differently: {text}." for text in model.asked),
    )


def _moved(model: ModelResult, quantity: str) -> Table | None:
    changes = [change for change in model.changes if change.quantity == quantity]
    if not changes:
        return None
    return Table(
        title=f"{model.name}: {UNITS[quantity]} by layer",
        columns=(
            Column("path", "layer", "text"),
            Column("layer", "class", "text"),
            Column("before", "before", "integer"),
            Column("after", "after", "integer"),
            Column("change", "change", "integer"),
            Column("why", "why", "text"),
        ),
        rows=tuple(
            {
                "path": change.path or "(network)",
                "layer": change.layer,
                "before": change.before,
                "after": change.after,
                "change": change.after - change.before,
                "why": change.why,
            }
            for change in changes
        ),
    )
