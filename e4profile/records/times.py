"""Timings in the store, and what may go into a table together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from e4profile.errors import SettingError, from_table
from e4profile.records.store import Record
from e4profile.witnesses.environment import same_environment
from e4profile.witnesses.timing.samples import Samples, TimeRecord

KIND = "time"
_APART = ("name", "clock", "samples", "environment", "arguments")
_WHERE_SAID = ("inputs", "label", "macs", "peak_macs_per_s")


def to_record(timing: TimeRecord) -> Record:
    """The line of the store."""
    arguments: dict[str, Any] = {
        name: value if isinstance(value, str | int | float | bool | None) else str(value)
        for name, value in timing.arguments.items()
    }
    counts = {
        one.name.rstrip("_"): list(value) if isinstance(value := getattr(part, one.name), tuple) else value
        for part in (timing, timing.samples)
        for one in fields(part)
        if one.name not in _APART and not (one.name in _WHERE_SAID and not getattr(part, one.name))
    }
    return Record(
        kind=KIND,
        card=timing.name,
        arguments=arguments,
        counts=counts,
        counters={"clock": timing.clock},
        environment=dict(timing.environment),
    )


def from_record(record: Record) -> TimeRecord:
    """The timing in a line of the store.

    Raises:
        SettingError: for a record of another kind, or one that lacks a value.
    """
    if record.kind != KIND:
        raise SettingError(f"a record of kind {record.kind!r} holds no timing")
    where = f"the timing of {record.card!r}: "
    counts = {"pass_" if name == "pass" else name: value for name, value in record.counts.items()}
    taken, setting = (
        {one.name: counts[one.name] for one in fields(kind) if one.name in counts} for kind in (Samples, TimeRecord)
    )
    return from_table(
        setting,
        TimeRecord,
        where,
        name=record.card,
        clock=record.counters.get("clock"),
        samples=from_table(taken, Samples, where),
        environment=record.environment,
        arguments=record.arguments,
    )


def environment_labels(environments: Sequence[Mapping[str, Any]], *, mixed: bool = False) -> list[str]:
    """A label per environment: all empty where they agree; ``A``, ``B``, ... where mixing was asked for.

    Raises:
        SettingError: when they differ in something that changes timings and ``mixed`` is not given.
    """
    distinct: list[Mapping[str, Any]] = []
    positions = []
    for environment in environments:
        alike = [p for p, other in enumerate(distinct) if not same_environment(other, environment)]
        positions.append(alike[0] if alike else len(distinct))
        if not alike:
            distinct.append(environment)
    if len(distinct) < 2:
        return [""] * len(positions)
    if not mixed:
        raise SettingError(
            f"timings from different environments do not go into one table: {difference(distinct[0], distinct[1])}; "
            "ask for a mixed table to have them labelled"
        )
    return [_letters(position) for position in positions]


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """In what two environments differ, with both values."""
    return "; ".join(f"{key}: {a.get(key)!r} against {b.get(key)!r}" for key in same_environment(a, b))


def _letters(position: int) -> str:
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
