"""Reading a file of results: what each of them counted or timed, under a name that another file can share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e4profile.errors import SettingError, read_text
from e4profile.records.baseline import QUANTITIES, read_baseline
from e4profile.records.count_document import SCHEMA_VERSION as COUNT_SCHEMA
from e4profile.records.store import RecordStore
from e4profile.records.times import KIND as TIME_KIND
from e4profile.records.times import from_record
from e4profile.witnesses.counts.registry import REGISTRY
from e4profile.witnesses.timing.samples import TimeRecord

AXES = ("group", "width", "kernel", "reduction", "slices")
"""The arguments by which a sweep's rows name a setting."""

_NAMES = ("model", "network", "card", "row", "quantity", "counter", "pass", "mode", "device", "dtype", "execution")
_NUMBERS = ("batch_size", "threads")
_RESOLVED_GROUP = "z2"
_DIGITS = 4300
_QUANTITIES = ("params", *(spec.key for spec in REGISTRY.values()), "macs", "flops")
_COUNT_TYPES = {"model": str, "arguments": dict, "input": str, "convention": str, "totals": dict, "layers": list}

_BOUNDS = ("closed_form", "dispatch")
"""What is a lower bound where operators are unknown."""

RECORDS_NAME = "records.jsonl"
NETWORK = "(network)"
"""The layer of what belongs to a network itself and to no module in it."""


@dataclass(frozen=True, order=True)
class Key:
    """What a count belongs to: a model in its setting, and a layer of it (empty for the whole)."""

    model: str
    layer: str = ""


class AtLeast(int):
    """A count that is a lower bound, because operators ran that are unknown: it equals nothing."""


@dataclass(frozen=True)
class Counted:
    """What one count of one network says about itself."""

    model: str
    arguments: Mapping[str, Any]
    input: str
    convention: str

    def beside(self, other: Counted) -> str:
        """In words, the arguments that differ from another's first, and all in one order for both."""
        names = [*self.arguments, *(name for name in other.arguments if name not in self.arguments)]
        names.sort(key=lambda name: (self._said(name) == other._said(name), name))
        words = ", ".join(self._said(name) for name in names if name in self.arguments)
        return f"{self.model}{f' ({words})' if words else ''} on {self.input}"

    def _said(self, name: str) -> str:
        return f"{name}={self.arguments[name]!r}" if name in self.arguments else ""


@dataclass
class Results:
    """What a file holds.

    Attributes:
        file: where it was read.
        rows: whether it is a table of rows, whose settings are named by ``AXES`` alone.
        counted: the network, for the JSON of ``count``, whose keys name layers only.
        classes: of the layers, by path, for the JSON of ``count``.
        counts: exact values by quantity, or ``AtLeast``; None where a counter gave no figure.
        environments: where the counts of records were taken.
        times: timings by setting.
        skipped: quantities that are no counts and are not compared.
        notes: what was left out, a sentence each.
    """

    file: Path
    rows: bool = False
    counted: Counted | None = None
    classes: dict[str, str] = field(default_factory=dict)
    environments: list[Mapping[str, Any]] = field(default_factory=list)
    counts: dict[Key, dict[str, int | None]] = field(default_factory=dict)
    times: dict[str, TimeRecord] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def read_results(file: Path, *, by_axes: bool = False) -> Results:
    """Read a file: records (``records.jsonl``, timings), the JSON of a command, or a guard's baseline.

    Args:
        file: to read; of a sweep's folder, its records.
        by_axes: name the settings of a sweep's records by ``AXES`` alone, as its table does.

    Raises:
        SettingError: for a file that cannot be read or holds nothing to compare, with the reason.
    """
    if file.is_dir():
        if not (file / RECORDS_NAME).is_file():
            raise SettingError(f"{file}: is a folder without {RECORDS_NAME}: name a file of results")
        file /= RECORDS_NAME
    text = read_text(file)
    if not text.strip():
        raise SettingError(f"{file}: is empty: nothing to compare")
    if re.search(rf"[0-9]{{{_DIGITS + 1}}}", text):
        raise SettingError(f"{file}: a number of more than {_DIGITS:,} digits is not a count")
    if _is_csv(text):
        raise SettingError(f"{file}: CSV is for other programs; write what is to be compared with --format json")
    found = Results(file)
    data, broken = _parsed(text)
    if text.lstrip().startswith("["):
        if broken:
            raise SettingError(f"{file}: not JSON: {broken}")
        found.rows = True
        _read_rows(found, data)
    elif not isinstance(data, dict):
        _read_records(found, by_axes=by_axes)
    elif "models" in data:
        _read_baseline(found)
    elif "layers" in data:
        _read_count(found, data)
    else:
        _read_records(found, by_axes=by_axes)
    if not found.counts and not found.times:
        first, *others = found.notes or ("",)
        more = f"; and {len(others)} more lines like it" if others else ""
        # a text that begins like one JSON object of several lines
        cut = (
            f"; as one JSON object it is cut short or damaged: {broken}"
            if broken and text.strip().startswith("{\n")
            else ""
        )
        raise SettingError(f"{file}: nothing to compare{f': {first}{more}' if first else ''}{cut}")
    return found


def _is_csv(text: str) -> bool:
    first = text.lstrip("\ufeff").splitlines()[0]
    return "," in first and first.lstrip()[:1] not in ("{", "[")


def _parsed(text: str) -> tuple[Any, str]:
    """The value that a text is as JSON, and why it is none."""
    try:
        return json.loads(text), ""
    except (ValueError, RecursionError) as error:
        return None, str(error)


def _read_baseline(found: Results) -> None:
    baseline = read_baseline(found.file)
    for name, model in (baseline.models if baseline else {}).items():
        found.counts[Key(name)] = {key: model.costs[key] for key in QUANTITIES if key in model.costs}
        for path, layer in model.layers.items():
            found.counts[Key(name, path or NETWORK)] = dict(layer.costs)


def _read_count(found: Results, data: Mapping[str, Any]) -> None:
    schema = data.get("schema")
    if type(schema) is not int or schema != COUNT_SCHEMA:
        raise SettingError(
            f"{found.file}: a count of schema {schema!r}; this version reads {COUNT_SCHEMA}: count it anew"
        )
    for name, kind in _COUNT_TYPES.items():
        if not isinstance(data.get(name), kind):
            raise SettingError(f"{found.file}: {name} (={data.get(name)!r}) must be a {kind.__name__}")
    found.counted = Counted(data["model"], data["arguments"], data["input"], data["convention"])
    bounds = _BOUNDS if data.get("at_least") else ()
    _add(found, Key(""), data["totals"], bounds)
    for number, row in enumerate(data["layers"]):
        if not isinstance(row, dict) or not isinstance(row.get("path"), str):
            raise SettingError(f"{found.file}: layer {number} is not an object with a path")
        found.classes[row["path"]] = str(row.get("layer"))
        # a layer in which both counters agree holds no unknown operator
        _add_once(found, Key("", row["path"] or NETWORK), row, () if row.get("agrees") else bounds)


def _read_rows(found: Results, rows: Sequence[Any]) -> None:
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise SettingError(f"{found.file}: row {number} is not an object with named values")
        if "median_s" in row:
            raise SettingError(
                f"{found.file}: holds medians without their samples; keep the samples with: e4profile time --out FILE"
            )
        if isinstance(row.get("totals"), dict) and isinstance(row.get("model"), str):
            _add_once(found, Key(_total_name(row)), row["totals"], _BOUNDS if row.get("at_least") else ())
            continue
        path = row.get("path")
        key = Key(_row_name(row), (path or NETWORK) if isinstance(path, str) else "")
        if key == Key(""):
            raise SettingError(f"{found.file}: row {number} names neither a model nor a layer, so it has no pair")
        _add_once(found, key, row)


def _add_once(found: Results, key: Key, row: Mapping[str, Any], bounds: Sequence[str] = ()) -> None:
    if key in found.counts:
        raise SettingError(
            f"{found.file}: two rows for {' '.join((key.model, key.layer)).strip()}: they cannot be told apart"
        )
    _add(found, key, row, bounds)


def _total_name(row: Mapping[str, Any]) -> str:
    """A row of ``count`` of several networks: the network, its arguments, its input and how it is counted."""
    arguments = row.get("arguments")
    named = _record_name(row["model"], arguments if isinstance(arguments, dict) else {}, by_axes=False)
    return f"{named} on {row.get('input')} by {row.get('convention')}"


def _row_name(row: Mapping[str, Any]) -> str:
    name = next((row[key] for key in _NAMES[:3] if isinstance(row.get(key), str)), "")
    more = [str(row[key]) for key in _NAMES[3:] if isinstance(row.get(key), str)]
    more += [f"{key}={row[key]}" for key in (*AXES, *_NUMBERS) if row.get(key) is not None]
    return " ".join((name, *more)).strip()


def _add(found: Results, key: Key, values: Mapping[str, Any], bounds: Sequence[str] = ()) -> None:
    """The counts among some values; those that ``bounds`` names are lower ones."""
    named = {*_NAMES, *_NUMBERS, *AXES, "path", "layer"}
    counts: dict[str, int | None] = {}
    for name, value in _flat(values):
        if name in named:
            continue
        if isinstance(value, str) and name in _QUANTITIES:
            where = " ".join((key.model, key.layer)).strip() or "the totals"
            raise SettingError(f"{found.file}: {where}: {name} (={value!r}) is not a number")
        if value is None or isinstance(value, int):
            counts[name] = AtLeast(value) if name in bounds and value is not None else value
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
            timing = from_record(record)
            replaced += _time_name(timing) in found.times
            found.times[_time_name(timing)] = timing
            continue
        key = Key(_record_name(record.card, record.arguments, by_axes=by_axes))
        replaced += key in found.counts
        found.environments.append(record.environment)
        _add(found, key, record.counts, ("macs_measured",) if record.counts.get("unknown") else ())
    if replaced:
        found.notes.append(f"{found.file.name}: {replaced} records are replaced by later ones of the same setting")


def _record_name(card: str, arguments: Mapping[str, Any], *, by_axes: bool) -> str:
    names: Sequence[str] = AXES if by_axes else [*AXES, *sorted(set(arguments) - set(AXES))]
    values = dict(arguments)
    if by_axes:
        from e4profile.groups import alias_of

        # as a sweep's table says it: a topology without a group is a plain network
        values["group"] = alias_of(values.get("group", _RESOLVED_GROUP))
    return " ".join((card, *(f"{name}={values[name]}" for name in names if values.get(name) is not None)))


def _time_name(timing: TimeRecord) -> str:
    means = [name for name, used in (("compiled", timing.compiled), ("CUDA graphs", timing.graphed)) if used]
    words = [
        _record_name(timing.name, timing.arguments, by_axes=False),
        timing.pass_,
        timing.mode,
        timing.inputs or "x".join(map(str, timing.input_shape)),
        timing.device,
        timing.dtype,
        f"threads={timing.threads}",
        *means,
    ]
    return " ".join(words)
