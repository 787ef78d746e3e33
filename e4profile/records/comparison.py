"""The comparison of two files: every count with tolerance 0, every timing with its verdict.

Samples of one run do not show what differs from run to run (another load, another clock, other memory placement): the
minimum effect stands against that, and a timing that is noisy by its own flags, or of a processor at another speed,
decides nothing. Sampling in turn (``compare_pairs``) is the better witness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from e4profile.errors import SettingError
from e4profile.records.files import AtLeast, Key, Results, read_results
from e4profile.records.times import difference, environment_labels
from e4profile.witnesses.environment import same_environment
from e4profile.witnesses.timing.crowding import slowdown
from e4profile.witnesses.timing.statistics import (
    COMPARISON_CONFIDENCE,
    RatioEstimate,
    estimate,
    median,
    median_interval,
)

RESAMPLES = 10_000
BETWEEN_RUNS = 0.05
"""The smallest effect that two runs show: levels of one program differ by 1% to 2% from run to run, noisy or not."""
EQUAL, DIFFERS, ONLY_BEFORE, ONLY_AFTER, AMBIGUOUS = "equal", "differs", "only before", "only after", "ambiguous"


@dataclass(frozen=True)
class CountComparison:
    """One quantity of one layer, or of a whole model, in both files.

    ``before`` and ``after`` are None where the file has no figure; the verdict then says which has one.
    """

    key: Key
    quantity: str
    before: int | None
    after: int | None

    @property
    def verdict(self) -> str:
        """``equal``, ``differs``, ``only before`` or ``only after``; ``ambiguous`` where one is a lower bound."""
        if AtLeast in (type(self.before), type(self.after)) and None not in (self.before, self.after):
            return AMBIGUOUS
        if self.before == self.after and isinstance(self.before, bool) == isinstance(self.after, bool):
            return EQUAL
        if self.before is None or self.after is None:
            return ONLY_AFTER if self.before is None else ONLY_BEFORE
        return DIFFERS


@dataclass(frozen=True)
class TimeComparison:
    """One setting timed in both files, or in one of them.

    Attributes:
        name: of the setting.
        before_s: median in seconds; None where the first file has no such timing.
        after_s: median in seconds; None where the second file has no such timing.
        estimate: the ratio after over before; None where there is none.
        environments: labels of the two environments, empty where all are alike.
        notes: why a median should not be trusted to its digits.
    """

    name: str
    before_s: float | None
    after_s: float | None
    estimate: RatioEstimate | None
    environments: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``faster``, ``slower`` or ``ambiguous``, said of the second file; else which file has the timing.

        A timing that is noisy, before or after, is ``ambiguous``, as are two of a processor at another speed.
        """
        if self.estimate is not None:
            return self.estimate.verdict
        return ONLY_AFTER if self.before_s is None else ONLY_BEFORE


@dataclass(frozen=True)
class FileComparison:
    """Two files held against each other.

    Attributes:
        before: the first file.
        after: the second file.
        counts: every quantity of either file.
        times: every timing of either file.
        notes: what was left out.
        convention: of the counts of one network each.
        unrelated: why the layers of two networks are not the same layers; empty where they are.
    """

    before: Path
    after: Path
    counts: tuple[CountComparison, ...]
    times: tuple[TimeComparison, ...]
    notes: tuple[str, ...] = ()
    convention: str = "macs"
    unrelated: str = ""

    @property
    def different(self) -> list[CountComparison]:
        """The counts that are not equal."""
        return [one for one in self.counts if one.verdict != EQUAL]

    @property
    def holds(self) -> bool:
        """No count differs or is missing on one side, and no timing is slower."""
        return not self.different and all(one.verdict != "slower" for one in self.times)


def compare_files(before: Path, after: Path, *, allow_mixed: bool = False) -> FileComparison:
    """Compare two files of results.

    Args:
        before: the file that the verdicts are held against.
        after: the file that the verdicts are about.
        allow_mixed: compare timings of different environments, labelled.

    Raises:
        SettingError: for a file that cannot be read, files that have nothing in common, or timings of different
            environments without ``allow_mixed``.
    """
    first, second = read_results(before), read_results(after)
    if first.rows != second.rows and first.counts and second.counts:
        first, second = _by_axes(first, second)
    first, second, about = _one_network(first, second)
    counts = tuple(_counts(first, second))
    times = tuple(_times(first, second, allow_mixed=allow_mixed))
    shared = {*first.counts} & {*second.counts} or {*first.times} & {*second.times}
    if not shared:
        held = [_kinds(one) for one in (first, second)]
        if held[0] != held[1]:
            raise SettingError(f"{before} holds {held[0]} and {after} holds {held[1]}: compare like with like")
        examples = f"{_example(first)} against {_example(second)}"
        raise SettingError(f"{before} and {after} have no setting in common: {examples}")
    skipped = sorted(first.skipped | second.skipped)
    notes = [*about, *first.notes, *second.notes, *_count_environments(first, second)]
    if skipped:
        notes.append(f"not compared, because they are not counts: {', '.join(skipped)}")
    convention = first.counted.convention if first.counted else "macs"
    return FileComparison(before, after, counts, times, tuple(notes), convention, _unrelated(first, second))


def _kinds(results: Results) -> str:
    return " and ".join(word for word, held in (("counts", results.counts), ("times", results.times)) if held)


def _unrelated(first: Results, second: Results) -> str:
    """Why two networks are no versions of one: less than half of their layers have one path and one class."""
    before, after = first.counted, second.counted
    if before is None or after is None or before.model == after.model:
        return ""
    alike = first.classes.items() & second.classes.items()
    either = first.classes.items() | second.classes.items()
    if 2 * len(alike) >= len(either):
        return ""
    return (
        f"{before.model} and {after.model} are different networks: {len(alike)} of {len(either)} layers are in both, "
        "so totals only are shown; every layer with --all"
    )


def _example(results: Results) -> str:
    named = [" ".join((key.model, key.layer)).strip() for key in results.counts] or list(results.times)
    # the total of a file of one network has no name
    return repr(named[0]) if named[0] else "one network without a name"


def _by_axes(first: Results, second: Results) -> tuple[Results, Results]:
    """Records beside a table of rows: named as the table names them, and by the quantities that it shows."""
    read = [one if one.rows else read_results(one.file, by_axes=True) for one in (first, second)]
    shown = {name for one in read if one.rows for counts in one.counts.values() for name in counts}
    limited = []
    for one in read:
        kept = {key: {n: v for n, v in counts.items() if n in shown} for key, counts in one.counts.items()}
        limited.append(replace(one, counts=kept))
    return limited[0], limited[1]


def _one_network(first: Results, second: Results) -> tuple[Results, Results, list[str]]:
    """The counts of one network each: layers pair by path, whatever the networks; what differs is said."""
    before, after = first.counted, second.counted
    if before is None or after is None:
        # rows of layers have no totals
        dropped = [
            replace(one, counts={key: value for key, value in one.counts.items() if key.layer})
            if one.counted and other.rows
            else one
            for one, other in ((first, second), (second, first))
        ]
        return dropped[0], dropped[1], []
    if before.convention != after.convention:
        raise SettingError(
            f"{first.file} counts by {before.convention!r} and {second.file} by {after.convention!r}: "
            "count both by one --convention"
        )
    notes = (
        []
        if before == after
        else [f"{first.file.name}: {before.beside(after)}", f"{second.file.name}: {after.beside(before)}"]
    )
    name = before.model if before.model == after.model else ""
    named = [
        replace(one, counts={Key(name, key.layer): value for key, value in one.counts.items()})
        for one in (first, second)
    ]
    return named[0], named[1], notes


def _count_environments(first: Results, second: Results) -> list[str]:
    """Counts do not depend on the machine, but a library may have changed: said, not refused."""
    found = [one.environments[-1] if one.environments else {} for one in (first, second)]
    if not all(found) or not same_environment(*found):
        return []
    return [f"the counts were taken in different environments: {difference(*found)}"]


def _counts(first: Results, second: Results) -> list[CountComparison]:
    found = []
    for key in dict.fromkeys((*first.counts, *second.counts)):
        before: Mapping[str, Any] = first.counts.get(key, {})
        after: Mapping[str, Any] = second.counts.get(key, {})
        found += [
            CountComparison(key, name, before.get(name), after.get(name)) for name in dict.fromkeys((*before, *after))
        ]
    return found


def _times(first: Results, second: Results, *, allow_mixed: bool) -> list[TimeComparison]:
    records = [*first.times.values(), *second.times.values()]
    environments = [one.environment for one in records]
    try:
        labels = environment_labels(environments, mixed=allow_mixed) if records else []
    except SettingError:
        other = next(one for one in environments if same_environment(environments[0], one))
        raise SettingError(
            f"times from different environments are not compared: {difference(environments[0], other)}; "
            "--allow-mixed compares them anyway, labelled"
        ) from None
    label = {id(one): text for one, text in zip(records, labels, strict=True)}
    found = []
    for name in dict.fromkeys((*first.times, *second.times)):
        before, after = first.times.get(name), second.times.get(name)
        ratio = None
        notes = [
            f"{name} is noisy {when}: {reason}"
            for one, when in ((before, "before"), (after, "after"))
            if one is not None
            for reason in one.samples.noise_reasons
        ]
        if before is not None and after is not None:
            ratio = compare_independent(after.samples.seconds, before.samples.seconds)
            # other machines are at other speeds, as their labels say
            slower = None if label[id(before)] else slowdown(before.samples.loop_s, after.samples.loop_s)
            if slower is not None:
                notes.append(
                    f"{name}: the processor was at another speed: a loop took {slower:.2f} times as long after"
                )
            if before.samples.noisy or after.samples.noisy or slower is not None:
                # two runs of one program on a busy machine differ by more than either shows
                ratio = replace(ratio, verdict="ambiguous")
        found.append(
            TimeComparison(
                name,
                before.median_s if before else None,
                after.median_s if after else None,
                ratio,
                (label[id(before)] if before else "", label[id(after)] if after else ""),
                tuple(notes),
            )
        )
    return found


def compare_independent(
    first: Sequence[float],
    second: Sequence[float],
    confidence: float = COMPARISON_CONFIDENCE,
    minimum_effect: float = BETWEEN_RUNS,
    seed: int = 0,
) -> RatioEstimate:
    """Whether the first program is faster than the second, from independent samples in seconds.

    The interval is the percentile bootstrap of the ratio of medians (Efron 1979); the same samples give the same
    interval. Where either program has too few samples for an interval of its median at this confidence, the
    ratio has none either and the verdict is ``ambiguous``.

    Raises:
        SettingError: without samples, or for samples that are not positive.
    """
    if min((*first, *second), default=1.0) <= 0:
        raise SettingError("a sample without duration cannot be compared: the clock is too coarse for it")
    interval = (0.0, math.inf)
    if median_interval(first, confidence) and median_interval(second, confidence):
        generator = np.random.default_rng(seed)
        ratios = _resampled_medians(first, generator) / _resampled_medians(second, generator)
        tail = (1 - confidence) / 2
        low, high = np.quantile(ratios, (tail, 1 - tail))
        interval = (float(low), float(high))
    return estimate(median(first) / median(second), interval, confidence, minimum_effect)


def _resampled_medians(samples: Sequence[float], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Medians of bootstrap resamples, without drawing the resamples.

    A resample of n sorted samples takes the positions floor(n u) of n uniform numbers u, so its k-th smallest
    value stands at floor(n u_k), where the k-th smallest uniform number u_k follows Beta(k, n + 1 - k). The
    next one is u_k plus the smallest of the n - k larger numbers, which are uniform on (u_k, 1).
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    count = len(ordered)
    rank = (count + 1) // 2
    lower = generator.beta(rank, count + 1 - rank, RESAMPLES)
    values = ordered[np.minimum((lower * count).astype(np.int64), count - 1)]
    if count % 2 == 0:
        upper = lower + (1 - lower) * generator.beta(1, count - rank, RESAMPLES)
        values = (values + ordered[np.minimum((upper * count).astype(np.int64), count - 1)]) / 2
    medians: npt.NDArray[np.float64] = values
    return medians
