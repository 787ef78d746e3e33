"""Timings, comparisons and breakdowns as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from e4profile.show.numbers import si
from e4profile.show.tables import Column, Field, Table, table_of

if TYPE_CHECKING:
    from e4profile.witnesses.timing.breakdown import Breakdown
    from e4profile.witnesses.timing.measure import Comparison
    from e4profile.witnesses.timing.samples import TimeRecord


def _execution(record: TimeRecord) -> str:
    means = [name for name, used in (("compiled", record.compiled), ("CUDA graphs", record.graphed)) if used]
    return ", ".join(means) or "eager"


_SETTING: tuple[Field, ...] = (
    (Column("pass", "pass", "text", priority=85), lambda one: one.pass_),
    (Column("mode", "mode", "text", priority=60), lambda one: one.mode),
    (Column("batch_size", "batch", "integer", priority=85), lambda one: one.batch_size),
    (Column("device", "device", "text", priority=30), lambda one: one.device),
    (Column("dtype", "dtype", "text", priority=30), lambda one: one.dtype),
    (Column("execution", "execution", "text", priority=10), _execution),
    (Column("threads", "threads", "integer", priority=20), lambda one: one.threads),
)
_TIMES: tuple[Field, ...] = (
    (Column("network", "network", "text", priority=100), lambda one: one.title),
    *_SETTING,
    (Column("median_s", "median", "seconds", priority=98), lambda one: one.median_s),
    (Column("iqr_s", "interquartile range", "seconds", "IQR", 80), lambda one: one.iqr_s),
    (Column("per_image_s", "per image", "seconds", priority=40), lambda one: one.median_s / one.batch_size),
    (Column("images_per_s", "images per second", "ratio", "images/s", 42), lambda one: one.images_per_s),
    (Column("mfu_percent", "MFU %", "percent", "MFU", 45), lambda one: None if one.mfu is None else 100 * one.mfu),
    (Column("samples", "samples", "integer", priority=50), lambda one: len(one.samples.seconds)),
    (Column("dropped", "dropped", "integer", priority=5), lambda one: one.samples.dropped),
    (Column("noisy", "noisy", "boolean", priority=70, doubt=True), lambda one: one.noisy),
    (Column("stopped_by", "stopped by", "text", priority=15), lambda one: one.samples.stopped_by),
)
_COMPARED: tuple[Field, ...] = (
    (Column("network", "network", "text", priority=95), lambda one: one.first.title),
    (Column("against", "against", "text", priority=90), lambda one: one.second.title),
    *((column, lambda one, value=value: value(one.first)) for column, value in _SETTING),
    (Column("median_s", "median", "seconds", priority=70), lambda one: one.first.median_s),
    (Column("against_s", "against's median", "seconds", "other", 60), lambda one: one.second.median_s),
    (Column("ratio", "ratio", "ratio", priority=98), lambda one: one.estimate.ratio),
    (Column("low", "from", "ratio", priority=80), lambda one: one.estimate.low),
    (Column("high", "to", "ratio", priority=80), lambda one: finite(one.estimate.high)),
    (Column("pairs", "pairs", "integer", priority=40), lambda one: len(one.first.samples.seconds)),
    (Column("verdict", "verdict", "verdict", priority=100), lambda one: one.estimate.verdict),
)
_ENVIRONMENT = Column("environment", "environment", "text", "env.", 99)
BREAKDOWN = (
    Column("term", "term", "text", priority=100),
    Column("seconds", "time", "seconds", priority=80),
    Column("time_percent", "time %", "percent", priority=95),
    Column("time_iqr_percent", "IQR of it", "percent", "IQR", 40),
    Column("macs", "forward MACs", "integer", priority=60),
    Column("mac_percent", "MACs %", "percent", priority=90),
)
TIMED = (_ENVIRONMENT, *(column for column, _ in _TIMES))
COMPARED = tuple(column for column, _ in _COMPARED)

WITNESSES = {
    "closed form": "the closed form",
    "dispatch": "the dispatch counter, module by module: this network as a whole has no closed form",
}
"""What gave the MACs of a breakdown or a roofline."""


def threads_text(threads: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{threads} thread" + ("s" if threads != 1 else "")


def time_table(records: Sequence[TimeRecord], *, mixed: bool = False) -> Table:
    """One row per timing.

    Raises:
        SettingError: for records of different environments, unless mixing is asked for.
    """
    from e4profile.records.times import environment_labels

    labels = environment_labels([record.environment for record in records], mixed=mixed)
    label_of = {id(record): label for record, label in zip(records, labels, strict=True)}
    fields = list(_TIMES)
    if any(labels):
        fields.insert(1, (_ENVIRONMENT, lambda one: label_of[id(one)]))
    return table_of("Time of one pass", fields, records, [*_notes(records, labels), *_peak_notes(records)])


def _peak_notes(records: Sequence[TimeRecord]) -> list[str]:
    """Of what MFU is the share, once for each peak."""
    known = {(one.device, one.dtype, one.threads, one.peak_macs_per_s) for one in records if one.mfu is not None}
    above = any(one.mfu is not None and one.mfu > 1 for one in records)
    too_low = (
        "MFU above 100%: the peak was measured too low (e4profile time --roofline --refresh measures it anew), or the "
        "pass runs with fewer products than are counted."
    )
    return ([too_low] if above else []) + [
        f"MFU: MACs of the pass (of a step, forward and backward) per second, as a share of {si(peak, 'MACs/s')}, the "
        f"peak of {device} in {dtype} with {threads_text(threads)}, measured in a matrix product."
        for device, dtype, threads, peak in sorted(known)
        if peak is not None
    ]


def comparison_table(found: Sequence[Comparison]) -> Table:
    """One row per comparison; the verdict is on the first network."""
    records = [record for one in found for record in (one.first, one.second)]
    confidence = found[0].estimate.confidence
    notes = [
        f"Sampled in turn; the ratio is the median of the pairs' ratios with its {confidence:.0%} interval.",
        *_notes(records, [""] * len(records), "timings"),
    ]
    return table_of("Time of one pass, compared", _COMPARED, found, notes)


def breakdown_table(found: Breakdown) -> Table:
    """One row per term, the unattributed rest, and the total."""
    macs = sum(one.macs for one in found.terms)
    parts: list[tuple[str, float, float, int | None, float]] = [
        *((one.term, one.seconds, one.time_share, one.macs, one.mac_share) for one in found.terms),
        ("unattributed", found.unattributed_s, found.unattributed_share, None, 0.0),
        ("total", found.total_s, 1.0, macs, 1.0),
    ]
    quartiles = {one.term: one.share_quartiles for one in found.terms if one.share_quartiles}
    spreads = {term: 100 * (third - first) for term, (first, third) in quartiles.items()}
    rows = tuple(
        {
            "term": term,
            "seconds": seconds,
            "time_percent": 100 * share,
            "time_iqr_percent": spreads.get(term),
            "macs": its_macs,
            "mac_percent": 100 * mac_share if macs and its_macs is not None else None,
        }
        for term, seconds, share, its_macs, mac_share in parts
    )
    notes = [
        f"Mean of {found.passes} passes under the profiler, which slows small operators down; "
        f"without it the median is {si(found.whole.median_s, 's')}; IQR: of the passes' shares.",
        "Unattributed is the time between operators: Python and the profiler's own marks, on a device also idling.",
        f"MACs by {WITNESSES[found.witness]}.",
        *found.notes,
        *(f"noisy: {reason}" for reason in found.whole.noise_reasons),
    ]
    title = f"{found.name}: {found.pass_}, {found.mode}, batch of {found.input_shape[0]}"
    convention = "macs; the shares are of a forward pass"
    return Table(title, BREAKDOWN, rows, tuple(notes), convention)


def finite(value: float | None) -> float | None:
    """The number, or None where it is infinite."""
    return value if value is not None and math.isfinite(value) else None


def _notes(records: Sequence[TimeRecord], labels: Sequence[str], what: str = "rows") -> list[str]:
    from e4profile.records.times import difference
    from e4profile.witnesses.timing.passes import PASS_MEANINGS
    from e4profile.witnesses.timing.samples import noise_notes

    notes = [f"{pass_}: {PASS_MEANINGS[pass_]}." for pass_ in dict.fromkeys(record.pass_ for record in records)]
    seen: set[str] = set()
    for record, label in zip(records, labels, strict=True):
        if label not in seen:
            seen.add(label)
            where = record.environment
            device = where.get("device" if record.device == "cuda" else "cpu", record.device)
            apart = difference(records[0].environment, where) if label else ""
            unlike = f"; unlike {labels[0]} in {apart}" if apart else ""
            notes.append(
                f"{label + ': ' if label else ''}{device}, torch {where.get('torch')}, "
                f"{threads_text(record.threads)}{unlike}."
            )
    for record in {(one.title, one.inputs, one.loss): one for one in records}.values():
        if record.inputs:
            notes.append(f"{record.title} is called with {record.inputs}.")
        if " of " in record.loss:
            notes.append(f"{record.title}: the loss is the {record.loss}; --loss chooses another.")
    return notes + noise_notes([record.samples for record in records], what)
