"""The guard's result: tables for terminal and programs, a pull-request comment, JUnit XML, and platform annotations.

JUnit agrees with the exit code: a deviation is a failure, and all else that does not pass is an error, so that the
code is 0 exactly when there is neither, and 1 exactly when there is a failure.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from e4profile.errors import SettingError, read_text
from e4profile.questions.guard.checks import UNITS, Check
from e4profile.questions.guard.run import GuardResult, ModelResult
from e4profile.records.baseline import QUANTITIES
from e4profile.show.numbers import sizes
from e4profile.show.tables import Column, Table, render

MARKER = "<!-- e4profile guard -->"
"""First line of the comment, by which a later run finds its own comment again."""

STATES = {0: "everything holds", 1: "deviations", 2: "not everything is measured", 3: "no baseline"}
"""What an exit code says."""


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
        title=f"Guard of {result.config.file.name}: {STATES[result.exit_code]}",
        columns=tuple(columns),
        rows=tuple({column.key: row[column.key] for column in columns} for row in rows),
        notes=tuple(_notes(result, messages=not for_programs)),
        convention="macs; budgets are upper limits, baseline counts are exact",
    )


def _row(check: Check, *, for_programs: bool) -> dict[str, object]:
    exact = {"expected": check.expected, "actual": check.actual}
    values: dict[str, object] = {key: _exact(one) if for_programs else _shown(one) for key, one in exact.items()}
    if check.unit and not for_programs:
        whole = [None if one is None else int(one) for one in exact.values()]
        values = dict(zip(exact, sizes(whole, check.unit), strict=True))
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
            said = [check for check in model.checks if check.message and check.status != "no baseline"]
            notes += [f"{model.name}: {check.message}" for check in said]
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
    parts = [MARKER, f"### e4profile guard: {STATES[result.exit_code]}"]
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


_SUITE = "e4profile guard"


def junit_text(result: GuardResult) -> str:
    """One test case per check."""
    problems = [check for check in result.checks if check.status != "pass"]
    suite = _suite(
        tests=len(result.checks),
        failures=sum(check.status == "deviation" for check in problems),
        errors=sum(check.status != "deviation" for check in problems),
    )
    for check in result.checks:
        case = ET.SubElement(suite, "testcase", classname=_clean(check.model), name=check.name, time="0")
        if check.status != "pass":
            kind = "failure" if check.status == "deviation" else "error"
            ET.SubElement(case, kind, message=_clean(check.message), type=check.status)
    notes = [*result.notes, *(f"{model.name}: {note}" for model in result.models for note in model.notes)]
    if notes:
        ET.SubElement(suite, "system-out").text = _clean("\n".join(notes))
    return _text(suite)


def junit_error(message: str) -> str:
    """The report of a run that ended with a usage error, so that no older report is taken for it."""
    suite = _suite(tests=1, failures=0, errors=1)
    case = ET.SubElement(suite, "testcase", classname=_SUITE, name="usage", time="0")
    ET.SubElement(case, "error", message=_clean(message), type="usage")
    return _text(suite)


def write_report(file: Path, text: str) -> None:
    """Write a report, making its folder.

    Raises:
        SettingError: when it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise SettingError(f"cannot write {file}: {error.strerror}") from error


def _suite(**counts: int) -> ET.Element:
    return ET.Element(
        "testsuite", {"name": _SUITE, **{key: str(n) for key, n in counts.items()}, "skipped": "0", "time": "0"}
    )


def _text(suite: ET.Element) -> str:
    root = ET.Element("testsuites", {key: suite.attrib[key] for key in ("name", "tests", "failures", "errors")})
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    # XML 1.0 has no way to write a control character, escaped or not
    return "".join(c if c in "\t\n" or (c.isprintable() and c not in "\ufffe\uffff") else " " for c in text)


PLATFORMS = ("github",)

SHOWN = 10
"""Annotations of one kind that the platform shows for a step."""


def github_annotations(result: GuardResult) -> list[str]:
    """One command line per network with problems; the tenth gathers what does not fit.

    A baseline that no network has is said once.
    """
    config = result.config.file
    failing = [model for model in result.models if model.problems]
    if failing and all(check.status == "no baseline" for model in failing for check in model.problems):
        names = ", ".join(model.name for model in failing)
        return [_command(config, None, "e4profile guard", f"no baseline for {names}: {_first(failing)}")]
    shown = failing if len(failing) <= SHOWN else failing[: SHOWN - 1]
    lines = [
        _command(
            config,
            model.name,
            f"e4profile guard: {model.name}",
            "\n".join(f"{check.name}: {check.message}" for check in model.problems),
        )
        for model in shown
    ]
    if len(shown) < len(failing):
        rest = failing[len(shown) :]
        names = ", ".join(model.name for model in rest)
        lines.append(_command(config, None, "e4profile guard", f"{len(rest)} more networks deviate: {names}"))
    return lines


def _first(failing: Sequence[ModelResult]) -> str:
    return failing[0].problems[0].message


def _command(file: Path, model: str | None, title: str, message: str) -> str:
    properties = {"file": _relative(file), "title": title}
    line = _line_of(file, model) if model is not None else None
    if line is not None:
        properties["line"] = str(line)
    said = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::error {said}::{_data(message)}"


def _relative(file: Path) -> str:
    """As the platform wants it: from the folder that the step runs in, with forward slashes."""
    return Path(os.path.relpath(file)).as_posix()


def _line_of(file: Path, model: str) -> int | None:
    """The line that names the network; None where a text search does not find it."""
    pattern = re.compile(rf"""\s*name\s*=\s*(["']){re.escape(model)}\1""")
    lines = read_text(file).splitlines()
    return next((number for number, line in enumerate(lines, start=1) if pattern.match(line)), None)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
