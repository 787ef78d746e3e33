"""``e4profile time --fits``: the largest batch of each network whose pass stays within a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from e4profile.questions.time.runs import kept, timed
from e4profile.show.tables import Column, Table

if TYPE_CHECKING:
    from e4profile.subjects.subject import Target
    from e4profile.witnesses.timing.fits import FittingBatch
    from e4profile.witnesses.timing.passes import Setting
    from e4profile.witnesses.timing.samples import StopRule, TimeRecord


def fits_networks(
    cards: Sequence[Target], choices: Sequence[Setting], rule: StopRule, limit_s: float, out: Path | None
) -> Table:
    """The largest batch of each network and pass, side by side; ``out`` keeps every timing on the way.

    Raises:
        SettingError: for inputs whose leading sizes are no batch.
    """
    from e4profile.errors import SettingError
    from e4profile.questions.waiting import waiting
    from e4profile.subjects.subject import full_name

    for card in cards:
        if card.batched.batch_size is None:
            given = " ".join(map(str, card.specs))
            raise SettingError(
                f"--fits: the inputs of {card.name} ({given}) share no leading size that could be the batch"
            )
    rows: list[dict[str, object]] = []
    notes: list[str] = []
    with waiting("time --fits") as say:
        for number, card in enumerate(cards, start=1):
            for choice in choices:
                what = f"{full_name(card)} ({number} of {len(cards)}), {choice.pass_}"
                found = _search(card, choice, rule, limit_s, out, partial(_tell, say, what))
                rows.append(_row(card, choice, found, limit_s))
                notes += [f"{full_name(card)}, {choice.pass_}: {why}" for why in _reasons(found, limit_s)]
    return _table(rows, limit_s, [*_fastest(rows, limit_s), *_own_inputs(cards), *notes])


def _reasons(found: FittingBatch, limit_s: float) -> list[str]:
    """What the numbers of a row do not say."""
    from e4profile.show.numbers import si

    reasons = []
    if found.stopped or found.largest is None:
        reasons.append(found.stopped or f"not even a batch of {found.batch_above} stays within the limit")
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


def _fastest(rows: Sequence[dict[str, object]], limit_s: float) -> list[str]:
    """Of several networks, the one that serves the most images per second, for each pass."""
    from e4profile.show.numbers import si

    notes = []
    for one in dict.fromkeys(str(row["pass"]) for row in rows):
        rates = [(cast(float, row["images_per_s"]), row) for row in rows if row["pass"] == one and row["batch_size"]]
        if len(rates) > 1:
            rate, best = max(rates, key=lambda pair: pair[0])
            notes.append(
                f"most images per second within {si(limit_s, 's')}, {one}: {best['network']} with {rate:,.0f}, in "
                f"batches of {best['batch_size']}"
            )
    return notes


def _own_inputs(cards: Sequence[Target]) -> list[str]:
    """That --input says nothing about cards, where it stands beside them."""
    own = [card.name for card in cards if card.card is None]
    kept = [f"{card.name} {'x'.join(map(str, card.card.input))}" for card in cards if card.card and not card.specs]
    if not own or not kept:
        return []
    return [f"--input is that of {', '.join(own)}; cards keep their own images: {', '.join(kept)}"]


def _tell(say: Callable[[str], None], what: str, batch: int) -> None:
    say(f"{what}, batch of {batch}")


def _search(
    card: Target, choice: Setting, rule: StopRule, limit_s: float, out: Path | None, say: Callable[[int], None]
) -> FittingBatch:
    import torch

    from e4profile.witnesses.timing.fits import largest_batch_within, most_in_memory

    timely = replace(rule, limit_s=limit_s)

    def measure(batch: int) -> TimeRecord:
        say(batch)
        return kept(timed(card, replace(choice, batch_size=batch), timely), card, out)

    image = card.batched.at(1, torch.float32, "meta").tensors
    most = most_in_memory(sum(tensor.numel() * tensor.dtype.itemsize for tensor in image))
    return largest_batch_within(measure, limit_s, most=most)


def _row(card: Target, choice: Setting, found: FittingBatch, limit_s: float) -> dict[str, object]:
    from e4profile.subjects.subject import full_name

    largest, above = found.largest, found.above
    low, high = (None, None) if largest is None else largest.interval_s
    return {
        "network": full_name(card),
        "pass": choice.pass_,
        "mode": choice.mode,
        "device": choice.device,
        "dtype": choice.dtype,
        "threads": choice.threads,
        "batch_size": found.batch_size,
        "median_s": None if largest is None else largest.record.median_s,
        "low_s": low,
        "high_s": high if high is not None and math.isfinite(high) else None,
        "per_image_s": None if largest is None else largest.record.median_s / found.batch_size,
        "images_per_s": None if largest is None else found.batch_size / largest.record.median_s,
        "batch_above": found.batch_above,
        "above_s": None if above is None else above.record.median_s,
        "limit_s": limit_s,
        "within_noise": found.within_noise,
        "measured": found.measured,
    }


def _table(rows: list[dict[str, object]], limit_s: float, notes: list[str]) -> Table:
    from e4profile.show.numbers import si
    from e4profile.witnesses.timing.passes import PASS_MEANINGS

    passes = dict.fromkeys(str(row["pass"]) for row in rows)
    undecided = sum(row["within_noise"] is True for row in rows)
    told = [
        *(f"{one}: {PASS_MEANINGS[one]}." for one in passes),
        "The interval is that of the median (95%); the next batch is the smallest above it that was too slow.",
        *notes,
    ]
    if undecided:
        told.append(
            f"within noise: in {undecided} of {len(rows)} rows, for the reasons above, another run may find another "
            "batch"
        )
    return Table(
        title=f"Largest batch within {si(limit_s, 's')}",
        columns=(
            Column("network", "network", "text", priority=100),
            Column("pass", "pass", "text", priority=85),
            Column("mode", "mode", "text", priority=40),
            Column("device", "device", "text", priority=30),
            Column("dtype", "dtype", "text", priority=30),
            Column("threads", "threads", "integer", priority=20),
            Column("batch_size", "largest batch", "integer", "batch", 99),
            Column("median_s", "median", "seconds", priority=90),
            Column("low_s", "from", "seconds", priority=70),
            Column("high_s", "to", "seconds", priority=70),
            Column("per_image_s", "per image", "seconds", priority=98),
            Column("images_per_s", "images per second", "ratio", "images/s", 96),
            Column("batch_above", "next batch", "integer", "next", 60),
            Column("above_s", "takes", "seconds", priority=60),
            Column("limit_s", "limit", "seconds", priority=10),
            Column("within_noise", "within noise", "boolean", "noise?", 95),
            Column("measured", "measurements", "integer", "meas.", 15),
        ),
        rows=tuple(rows),
        notes=tuple(told),
    )
