"""``e4profile time --fits``: the largest batch of each network whose pass stays within a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.questions.time.runs import kept, timed
from e4profile.questions.time.table import finite
from e4profile.show.tables import Column, Field, Table, table_of

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.timing.fits import Bound, FittingBatch
    from e4profile.witnesses.timing.passes import PassSetting
    from e4profile.witnesses.timing.samples import StopRule, TimeRecord


def fits_networks(
    cards: Sequence[Subject], choices: Sequence[PassSetting], rule: StopRule, limit_s: float, out: Path | None
) -> Table:
    """The largest batch of each network and pass, side by side; ``out`` keeps every timing on the way.

    Raises:
        SettingError: for inputs whose leading sizes are no batch.
    """
    from e4profile.questions.output import waiting

    for card in cards:
        card.check_batched("--fits looks for")
    rows: list[_Searched] = []
    notes: list[str] = []
    with waiting("time --fits") as say:
        for number, card in enumerate(cards, start=1):
            for choice in choices:
                what = f"{card.full_name} ({number} of {len(cards)}), {choice.pass_}"
                found = _search(card, choice, rule, limit_s, out, what, say)
                rows.append(_Searched(card.full_name, choice, found, limit_s))
                notes += [f"{card.full_name}, {choice.pass_}: {why}" for why in _reasons(found, limit_s)]
    return _table(rows, limit_s, [*_fastest(rows, limit_s), *_own_inputs(cards), *notes])


def _reasons(found: FittingBatch, limit_s: float) -> list[str]:
    """What the numbers of a row do not say."""
    from e4profile.show.numbers import si

    reasons = []
    if found.stopped or found.largest is None:
        reasons.append(found.stopped or f"even a batch of {found.batch_above} exceeds the limit")
    for bound in found.undecided:
        low, high = bound.interval_s
        upwards = si(high, "s") if math.isfinite(high) else "any length"
        whose = "largest" if bound is found.largest else "next"
        reasons.append(
            f"the interval of the {whose} batch ({bound.record.batch_size}), {si(low, 's')} to {upwards}, holds "
            f"{si(limit_s, 's')}"
        )
    if found.jumps and found.largest is not None and found.above is not None:
        times = found.above.record.median_s / found.largest.record.median_s
        reasons.append(
            f"a batch of {found.batch_above} takes {times:.2g} times as long as one of {found.batch_size}, more than "
            "its images explain"
        )
    return reasons


def _fastest(rows: Sequence[_Searched], limit_s: float) -> list[str]:
    """Of several networks, the one that serves the most images per second, for each pass."""
    from e4profile.show.numbers import si

    notes = []
    for pass_ in dict.fromkeys(row.choice.pass_ for row in rows):
        rated = [(row.images_per_s, row) for row in rows if row.choice.pass_ == pass_ and row.images_per_s is not None]
        if len(rated) > 1:
            rate, best = max(rated, key=lambda pair: pair[0])
            notes.append(
                f"most images per second within {si(limit_s, 's')}, {pass_}: {best.network} with {rate:,.0f}, in "
                f"batches of {best.found.batch_size}"
            )
    return notes


def _own_inputs(cards: Sequence[Subject]) -> list[str]:
    """Which networks --input is of, where others keep their own images."""
    given = [card.name for card in cards if card.input_given]
    kept = [f"{card.name} {'x'.join(map(str, card.shape[1:]))}" for card in cards if not card.input_given]
    if not given or not kept:
        return []
    return [f"--input applies to {', '.join(given)}; cards keep their own images: {', '.join(kept)}"]


def _search(
    card: Subject,
    choice: PassSetting,
    rule: StopRule,
    limit_s: float,
    out: Path | None,
    what: str,
    say: Callable[[str], None],
) -> FittingBatch:
    import torch

    from e4profile.subjects.inputs import memory_bytes
    from e4profile.witnesses.timing.fits import (
        MEMORY_SHARE,
        largest_batch_within,
        most_in_memory,
        peak_process_bytes,
        within_memory,
    )

    timely = replace(rule, limit_s=limit_s)

    def measure(batch: int) -> TimeRecord:
        say(f"{what}, batch of {batch}")
        return kept(timed(card, replace(choice, batch_size=batch), timely), card, out)

    image = card.batched.at(1, torch.float32, "meta").tensors
    most = most_in_memory(sum(tensor.numel() * tensor.dtype.itemsize for tensor in image))
    bounded = within_memory(measure, memory_bytes() // MEMORY_SHARE, peak_process_bytes)
    # a limit beyond what sampling takes is not sampled up to: that would take minutes, or for ever
    longest_s = math.inf if limit_s <= rule.max_run_time_s else rule.max_run_time_s / rule.min_samples
    return largest_batch_within(bounded, limit_s, most=most, longest_s=longest_s)


@dataclass(frozen=True)
class _Searched:
    """A network, the pass that was timed, and the batch that was found for it."""

    network: str
    choice: PassSetting
    found: FittingBatch
    limit_s: float

    @property
    def median_s(self) -> float | None:
        return None if self.found.largest is None else self.found.largest.record.median_s

    @property
    def interval_s(self) -> tuple[float | None, float | None]:
        return _interval(self.found.largest)

    @property
    def interval_above_s(self) -> tuple[float | None, float | None]:
        return _interval(self.found.above)

    @property
    def images_per_s(self) -> float | None:
        return None if self.median_s is None else self.found.batch_size / self.median_s


def _interval(bound: Bound | None) -> tuple[float | None, float | None]:
    low, high = (None, None) if bound is None else bound.interval_s
    return low, finite(high)


_FIELDS: tuple[Field, ...] = (
    (Column("network", "network", "text", priority=100), lambda one: one.network),
    (Column("pass", "pass", "text", priority=85), lambda one: one.choice.pass_),
    (Column("mode", "mode", "text", priority=40), lambda one: one.choice.mode),
    (Column("device", "device", "text", priority=30), lambda one: one.choice.device),
    (Column("dtype", "dtype", "text", priority=30), lambda one: one.choice.dtype),
    (Column("threads", "threads", "integer", priority=20), lambda one: one.choice.threads),
    (Column("batch_size", "largest batch", "integer", "batch", 99), lambda one: one.found.batch_size),
    (Column("median_s", "median", "seconds", priority=90), lambda one: one.median_s),
    (Column("low_s", "from", "seconds", priority=70), lambda one: one.interval_s[0]),
    (Column("high_s", "to", "seconds", priority=70), lambda one: one.interval_s[1]),
    (Column("per_image_s", "per image", "seconds", priority=98),
     lambda one: None if one.median_s is None else one.median_s / one.found.batch_size),
    (Column("images_per_s", "images per second", "ratio", "images/s", 96), lambda one: one.images_per_s),
    (Column("batch_above", "next batch", "integer", "next", 60), lambda one: one.found.batch_above),
    (Column("above_s", "takes", "seconds", priority=60),
     lambda one: None if one.found.above is None else one.found.above.record.median_s),
    (Column("above_low_s", "takes from", "seconds", priority=25), lambda one: one.interval_above_s[0]),
    (Column("above_high_s", "takes to", "seconds", priority=25), lambda one: one.interval_above_s[1]),
    (Column("limit_s", "limit", "seconds", priority=10), lambda one: one.limit_s),
    (Column("within_noise", "alike", "boolean", "alike", 95, doubt=True), lambda one: one.found.within_noise),
    (Column("measured", "measurements", "integer", "meas.", 15), lambda one: one.found.measured),
)  # fmt: skip
COLUMNS = tuple(column for column, _ in _FIELDS)


def _table(rows: Sequence[_Searched], limit_s: float, notes: list[str]) -> Table:
    from e4profile.show.numbers import si
    from e4profile.witnesses.timing.passes import PASS_MEANINGS

    passes = dict.fromkeys(row.choice.pass_ for row in rows)
    undecided = sum(row.found.within_noise for row in rows)
    told = [
        *(f"{one}: {PASS_MEANINGS[one]}." for one in passes),
        "The interval is that of the median (95%); the next batch is the smallest above it that was too slow.",
        *notes,
    ]
    if undecided:
        told.append(
            f"alike: {undecided} of {len(rows)} rows may show another batch in the next run, for the reasons above"
        )
    return table_of(f"Largest batch within {si(limit_s, 's')}", _FIELDS, rows, told)
