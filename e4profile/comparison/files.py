"""Reading a file of results: what each of them counted or timed, under a name that another file can share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e4profile.errors import SettingError
from e4profile.guard.baseline import QUANTITIES, read_baseline
from e4profile.records import RecordStore
from e4profile.timing.record import KIND as TIME_KIND
from e4profile.timing.record import TimeRecord

AXES = ("group", "width", "kernel", "reduction", "slices")
"""The arguments by which a sweep's rows name a setting."""

_NAMES = ("model", "network", "card", "counter", "pass", "mode", "device", "dtype", "execution")
_NUMBERS = ("batch_size", "threads")
_RESOLVED_GROUP = "z2"


@dataclass(frozen=True, order=True)
class Key:
    """What a count belongs to: a model in its setting, and a layer of it (empty for the whole)."""

    model: str
    layer: str = ""


@dataclass
class Results:
    """What a file holds.

    Attributes:
        file: where it was read.
        rows: whether it is a table of rows, whose settings are named by ``AXES`` alone.
        counts: exact values by quantity; None where a counter gave no figure.
        times: timings by setting.
        skipped: quantities that are no counts and are not compared.
        notes: what was left out, a sentence each.
    """

    file: Path
    rows: bool = False
    counts: dict[Key, dict[str, int | None]] = field(default_factory=dict)
    times: dict[str, TimeRecord] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def read_results(file: Path, *, by_axes: bool = False) -> Results:
    """Read a file: records (``records.jsonl``, timings), the JSON of a command, or a guard's baseline.

    Args:
        file: to read.
        by_axes: name the settings of a sweep's records by ``AXES`` alone, as its table does.

    Raises:
        SettingError: for a file that cannot be read or holds nothing to compare, with the reason.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingError(f"{file}: cannot be read: {reason}") from error
    found = Results(file)
    if text.lstrip().startswith("["):
        found.rows = True
        _read_rows(found, text)
    elif _is_baseline(text):
        _read_baseline(found)
    else:
        _read_records(found, by_axes=by_axes)
    if not found.counts and not found.times:
        raise SettingError(
            f"{file}: nothing to compare{': ' + '; '.join(found.notes) if found.notes else ''}"
        )
    return found


def _is_baseline(text: str) -> bool:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and "models" in data


def _read_baseline(found: Results) -> None:
    baseline = read_baseline(found.file)
    for name, model in (baseline.models if baseline else {}).items():
        found.counts[Key(name)] = {key: model.costs[key] for key in QUANTITIES if key in model.costs}
        for path, layer in model.layers.items():
            found.counts[Key(name, path or "(network)")] = dict(layer.costs)


def _read_rows(found: Results, text: str) -> None:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{found.file}: not JSON: {error}") from error
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise SettingError(f"{found.file}: row {number} is no object with named values")
        if "median_s" in row:
            raise SettingError(
                f"{found.file}: holds medians without their samples; keep the samples with: e4profile time --out FILE"
            )
        key = Key(_row_name(row), str(row.get("path", "")))
        if key in found.counts:
            raise SettingError(
                f"{found.file}: two rows for {key.model} {key.layer}: they cannot be told apart"
            )
        _add(found, key, row)


def _row_name(row: Mapping[str, Any]) -> str:
    name = next((row[key] for key in _NAMES[:3] if isinstance(row.get(key), str)), "")
    more = [str(row[key]) for key in _NAMES[3:] if isinstance(row.get(key), str)]
    more += [f"{key}={row[key]}" for key in (*AXES, *_NUMBERS) if row.get(key) is not None]
    return " ".join((name, *more)).strip()


def _add(found: Results, key: Key, values: Mapping[str, Any]) -> None:
    named = {*_NAMES, *_NUMBERS, *AXES, "path", "layer"}
    counts: dict[str, int | None] = {}
    for name, value in _flat(values):
        if name in named:
            continue
        if value is None or isinstance(value, int):
            counts[name] = value
        elif isinstance(value, float):
            found.skipped.add(name)
    if counts:
        found.counts[key] = counts


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield f"{prefix}{name}", value


def _read_records(found: Results, *, by_axes: bool) -> None:
    store = RecordStore(found.file)
    records = store.load()
    found.notes += store.notes
    replaced = 0
    for record in records:
        if record.kind == TIME_KIND:
            timing = TimeRecord.from_record(record)
            replaced += _time_name(timing) in found.times
            found.times[_time_name(timing)] = timing
            continue
        key = Key(_record_name(record.card, record.arguments, by_axes=by_axes))
        replaced += key in found.counts
        _add(found, key, record.counts)
    if replaced:
        found.notes.append(
            f"{found.file.name}: {replaced} records are replaced by later ones of the same setting"
        )


def _record_name(card: str, arguments: Mapping[str, Any], *, by_axes: bool) -> str:
    names: Sequence[str] = AXES if by_axes else [*AXES, *sorted(set(arguments) - set(AXES))]
    values = dict(arguments)
    if by_axes:
        from e4profile.groups import as_group

        # as a sweep's table says it: a topology without a group is a plain network
        values["group"] = as_group(values.get("group", _RESOLVED_GROUP)).alias
    return " ".join((card, *(f"{name}={values[name]}" for name in names if values.get(name) is not None)))


def _time_name(timing: TimeRecord) -> str:
    means = [name for name, used in (("compiled", timing.compiled), ("CUDA graphs", timing.graphed)) if used]
    words = [
        _record_name(timing.name, timing.arguments, by_axes=False),
        timing.pass_,
        timing.mode,
        "x".join(map(str, timing.input_shape)),
        timing.device,
        timing.dtype,
        f"threads={timing.threads}",
        *means,
    ]
    return " ".join(words)
