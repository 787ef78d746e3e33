"""Timings from committed records, each with the environment it was measured in; nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from e4profile.errors import SettingError
from e4profile.questions.columns import named_column
from e4profile.questions.time.table import time_table
from e4profile.records.store import RecordStore
from e4profile.records.times import KIND, from_record
from e4profile.show.html.model import PageTable, slug
from e4profile.show.tables import Table
from e4profile.witnesses.environment import described, same_environment
from e4profile.witnesses.timing.samples import TimeRecord

MEASURED = "measured"
"""Where ``report --measure`` keeps its timings."""

FOLDERS = ("benchmarks", "gpu", MEASURED)
"""Where records of measurements are kept, below the reports folder."""


def measured_tables(reports: Path, *endings: str) -> list[PageTable]:
    """Every table that the committed records below a reports folder give, by file name.

    Lines of ``e4profile time --out`` (.jsonl) and results of the benchmarks (.json, with ``environment`` and
    ``rows`` or ``results``) are read, or those of one of these endings; of samples the median is shown.

    Raises:
        SettingError: for a file that cannot be read as what its ending says.
    """
    found: list[PageTable] = []
    for folder in FOLDERS:
        for path in sorted((reports / folder).rglob("*.json*")):
            if path.suffix in (endings or (".json", ".jsonl")):
                label = path.relative_to(reports).as_posix()
                tables = _times(path, label) if path.suffix == ".jsonl" else _results(path, label)
                found += [PageTable(slug(table.title), table) for table in tables]
    return found


def _times(path: Path, label: str) -> list[Table]:
    store = RecordStore(path)
    records = [from_record(record) for record in store.load() if record.kind == KIND]
    if store.notes:
        raise SettingError(f"{path}: {store.notes[0]}")
    groups: list[list[TimeRecord]] = []
    for record in records:
        alike = [one for one in groups if not same_environment(one[0].environment, record.environment)]
        if alike:
            alike[0].append(record)
        else:
            groups.append([record])
    tables = []
    for group in groups:
        table = time_table(group)
        title = f"{label}: {table.title.lower()}, {group[0].environment.get('device', 'unknown device')}"
        tables.append(Table(title, table.columns, table.rows, (*table.notes, described(group[0].environment))))
    return tables


def _results(path: Path, label: str) -> list[Table]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"{path}: cannot be read as JSON: {error}") from error
    what = path.stem.replace("_", " ").capitalize()
    return [
        _result(f"{what}, {part} ({label})" if part else f"{what} ({label})", rows, where)
        for part, rows, where in _parts(content)
    ]


def _parts(content: object) -> Iterator[tuple[str, list[dict[str, Any]], Mapping[str, Any]]]:
    """The file's own rows and their environment, or those of each of its named parts."""
    if not isinstance(content, dict):
        return
    rows = next((content[key] for key in ("rows", "results") if isinstance(content.get(key), list)), None)
    if rows is not None and isinstance(content.get("environment"), dict):
        yield "", rows, content["environment"]
        return
    for name, part in content.items():
        for below, found, environment in _parts(part):
            yield f"{name}, {below}" if below else str(name), found, environment


def _result(title: str, records: list[dict[str, Any]], environment: Mapping[str, Any]) -> Table:
    sampled: set[int] = set()
    rows = [_flat(record, sampled) for record in records]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = tuple(named_column(key, [row.get(key) for row in rows]) for key in keys)
    texts = {column.key for column in columns if column.kind == "text"}
    shown = tuple(
        {key: str(value) if key in texts and value is not None else value for key in keys for value in [row.get(key)]}
        for row in rows
    )
    if not columns:
        raise SettingError(f"{title}: rows without a value to show")
    medians = [f"times are medians of {' or '.join(map(str, sorted(sampled)))} samples each"] if sampled else []
    return Table(title, columns, shown, (*medians, described(environment)))


def _flat(record: Mapping[str, Any], sampled: set[int]) -> dict[str, Any]:
    """A row without parts; of raw samples, which stay in the record, the median."""
    row: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            row |= {f"{key} {below}": one for below, one in _flat(value, sampled).items()}
        elif not isinstance(value, list):
            row[key] = value
        elif value and all(isinstance(one, int | float) for one in value):
            sampled.add(len(value))
            row[key] = median(value)
    return row
