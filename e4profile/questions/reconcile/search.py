"""Search the declared space for what gives all published figures at their printed precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from e4profile.conventions import convention, rule_names
from e4profile.errors import E4ProfileError, SettingError, not_negative
from e4profile.questions.reconcile.ranking import Built, Nearest, Reconciled, Reconciliation, best_first, values_of
from e4profile.questions.reconcile.rows import Figure, Row
from e4profile.questions.reconcile.space import Change, Rule, architectures, axes_of, named_rules, rules, space_size
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import Subject
from e4profile.witnesses.variants import Counted, VariantCounter

DRAWS = 1000
"""Made-up figures that judge chance: as precise as the published ones, and within ``BOX`` of them."""

BOX = 0.1

LARGEST_SPACE = 20_000
"""Architectures that are built; each takes some milliseconds, those of a network that has to be run more."""

_NEAREST = 20
_INT64_SAFE = 2**60

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Numbers = np.ndarray[Any, np.dtype[Any]]


Ahead = Mapping[str, Counted | SettingError | UserCodeError]
"""What other processes have counted of networks, or why they could not, by ``key_of``."""


def key_of(subject: Subject) -> str:
    """Equal for networks that are built alike."""
    return repr((subject.topology, subject.specs, sorted(subject.arguments.items())))


@dataclass
class _CountedAhead(VariantCounter):
    """Knows what was counted; what was not is counted here."""

    ahead: Ahead = field(default_factory=dict)

    def __call__(self, subject: Subject) -> Counted:
        found = self.ahead.get(key_of(subject))
        if isinstance(found, Exception):
            raise found
        return super().__call__(subject) if found is None else found


class Counter:
    """Counted networks on their own inputs and remembers them; None where a network refuses its arguments.

    Lower bounds of operations, where operators are unknown, are refused unless ``params_alone`` are asked for. With
    ``elements`` every network is run for what it does element by element.

    Attributes:
        refused: the last refusal.
    """

    def __init__(self, *, params_alone: bool = False, elements: bool = False, ahead: Ahead | None = None) -> None:
        self._known: dict[str, Counted | None] = {}
        variants = VariantCounter(elements=elements) if ahead is None else _CountedAhead(ahead=ahead)
        self._count = variants if params_alone else variants.exact
        self.refused: E4ProfileError | None = None

    def __call__(self, subject: Subject) -> Counted | None:
        """The counts of a network."""
        key = key_of(subject)
        if key not in self._known:
            try:
                self._known[key] = self._count(subject)
            except (SettingError, UserCodeError) as error:
                self.refused, self._known[key] = error, None
        return self._known[key]


def reconcile(
    rows: Sequence[Row],
    *,
    changes: int = 2,
    vary: Sequence[str] | None = None,
    conventions: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    count_ahead: Callable[[Sequence[Subject]], Ahead] | None = None,
) -> Reconciliation:
    """Find every architecture and counting rule in the declared space that give all figures of all rows.

    Every set of at most ``changes`` changed arguments is built for the most selective row. What misses that
    row's parameters is out; the others are built for the other rows too, and every counting rule is tried on
    them at once. Ctrl-C while architectures are built ends the building: what was built is searched, and
    ``left_out`` says how much was not.

    Args:
        rows: what was published.
        changes: how many of a network's arguments may differ.
        vary: the arguments that may (see ``space.axes_of``).
        conventions: that may have counted besides, by name or file; where nothing else matches, the rules that charge
            what runs element by element are tried too.
        progress: told how many architectures of how many are built.
        count_ahead: counts the architectures for the most selective row elsewhere, where it can.

    Raises:
        SettingError: without rows, for a negative number of changes, a space that is too large to be run, or when
            no architecture can be built.
        UnknownNameError: for an argument in ``vary`` that is not searched.
        UserCodeError: for a user-defined model that cannot be built as it is given.
    """
    if not rows:
        raise SettingError("nothing to reconcile: give published figures")
    not_negative(changes=changes)
    networks = list({id(row.subject): row.subject for row in rows}.values())
    ordered = sorted(rows, key=lambda row: math.prod(figure.selectivity for figure in row.figures))
    first, others = ordered[0], ordered[1:]
    named = named_rules(conventions)
    axes = axes_of(networks, vary)
    if (size := space_size(axes, changes)) > LARGEST_SPACE:
        raise SettingError(
            f"the space of {', '.join(one.name for one in networks)} holds {size:,} architectures, at most "
            f"{LARGEST_SPACE:,} are built: search fewer arguments or values (--vary), or fewer at once (--changes 1)"
        )
    space = list(architectures(networks, axes, changes))
    ahead = None if count_ahead is None else count_ahead([first.changed(changed) for changed in space])
    count = Counter(params_alone=not any(row.operations for row in rows), ahead=ahead)
    _check_as_given(networks, axes, count)
    tried: list[tuple[tuple[Change, ...], Counted]] = []
    done = 0
    try:
        for done, changed in enumerate(space, start=1):
            counts = count(first.changed(changed))
            if counts is not None:
                tried.append((changed, counts))
            progress(done, len(space))
    except KeyboardInterrupt:
        if not tried:
            raise
        done -= 1
    if not tried:
        text = f"no architecture of the space can be built for {first.label}: {count.refused}"
        error = SettingError(text)
        error.details = "" if count.refused is None else count.refused.details
        raise error
    chance, chance_share = _chance(first, [counts for _, counts in tried])
    matches: list[Reconciled] = []
    for changed, counts in tried:
        built = _build(changed, first, counts, others, count, matching=True)
        if built is not None:
            matches += _matches(changed, built)
    if not matches and not named and any(row.operations for row in rows):
        named = named_rules([name for name in rule_names() if convention(name).elementwise])
    by_name, tried_by_name = _by_name(tried, rows, named)
    matches += by_name
    return Reconciliation(
        rows=len(rows),
        figures=sum(len(row.figures) for row in rows),
        axes={name: len(values) for name, values in axes.items()},
        architectures=len(tried),
        refused=done - len(tried),
        combinations=sum(len(_rules(counts)) for _, counts in tried) + tried_by_name,
        chance=chance,
        chance_share=chance_share,
        chance_row=first.label,
        matches=tuple(best_first(matches)),
        nearest=() if matches else tuple(_nearest(tried, first, others, count)),
        left_out=len(space) - done,
    )


def _by_name(
    tried: Sequence[tuple[tuple[Change, ...], Counted]], rows: Sequence[Row], named: Sequence[Rule]
) -> tuple[list[Reconciled], int]:
    """What gives all figures by a rule as it is named, and how many pairs were tried.

    Only architectures that have every printed number of parameters are run for it; where none is printed, only the
    networks as they are given.
    """
    count = Counter(elements=any(convention(rule.name or "macs").elementwise for rule in named))
    printed = any(row.params for row in rows)
    found: list[Reconciled] = []
    pairs = 0
    for changed, counts in tried if named else ():
        if not printed and changed:
            continue
        if not all(figure.rounded[0] <= counts.params <= figure.truncated[1] for figure in rows[0].params):
            continue
        built = [(row, one) for row in rows if (one := count(row.changed(changed))) is not None]
        if len(built) < len(rows):
            continue
        for rule in named:
            pairs += 1
            values = [(Figure(one["quantity"], one["published"]), one["built"]) for one in values_of(built, rule)]
            rounded = [figure.rounded[0] <= value <= figure.rounded[1] for figure, value in values]
            truncated = [figure.truncated[0] <= value <= figure.truncated[1] for figure, value in values]
            if all(map(max, rounded, truncated)):
                short = 0 if all(rounded) else rounded.count(False)
                every = all(truncated) and not all(rounded)
                found.append(Reconciled(changed, rule, tuple(built), truncated=short, all_truncated=every))
    return found, pairs


def _check_as_given(networks: Sequence[Subject], axes: Mapping[str, list[Any]], count: Counter) -> None:
    """A network that has to be run says itself what is wrong with it as it is given; running it takes its time."""
    for network in networks:
        if network.costed_whole:
            continue
        complete = all(network.argument(name) is not None for name in axes)
        if complete and count(network) is None and count.refused is not None:
            raise count.refused


@lru_cache(maxsize=256)
def _weighted(kinds: frozenset[str]) -> tuple[tuple[Rule, ...], tuple[str, ...], Numbers]:
    found = tuple(rules(kinds))
    names = tuple(sorted(kinds))
    weights = np.array([[rule.weights.get(name, 0) for name in names] for rule in found], dtype=np.int64)
    return found, names, weights.reshape(len(found), len(names))


def _kinds(counts: Iterable[Counted]) -> frozenset[str]:
    return frozenset(kind for one in counts for kind in one.operations)


def _rules(counts: Counted) -> tuple[Rule, ...]:
    return _weighted(_kinds([counts]))[0]


def _totals(kinds: frozenset[str], counts: Counted) -> Numbers:
    """The cost of one network under every rule."""
    _, names, weights = _weighted(kinds)
    amounts = [counts.operations.get(name, 0) for name in names]
    safe = sum(map(abs, amounts)) * 16 < _INT64_SAFE
    result: Numbers = weights.astype(np.int64 if safe else object) @ np.array(
        amounts, dtype=np.int64 if safe else object
    )
    return result


def _within(values: Numbers, window: tuple[int, int]) -> Flags:
    flags: Flags = (values >= window[0]) & (values <= window[1])
    return flags


def _figures(kinds: frozenset[str], built: Iterable[Built]) -> Iterator[tuple[Row, Figure, Numbers]]:
    """Every published figure with what is built for it under every rule."""
    for row, counts in built:
        totals = _totals(kinds, counts)
        for figure in row.figures:
            yield row, figure, np.full(len(totals), counts.params) if figure.quantity == "params" else totals


def _chance(row: Row, tried: Sequence[Counted]) -> tuple[float, float]:
    """How many pairs match a made-up row on average, and the share of made-up rows that some pair matches."""
    generator = np.random.default_rng(0)
    factors = generator.uniform(1 - BOX, 1 + BOX, size=(len(row.figures), DRAWS))
    hits = np.zeros(DRAWS, dtype=np.int64)
    for counts in tried:
        kinds = _kinds([counts])
        by_rule = _totals(kinds, counts)
        left = np.ones(DRAWS, dtype=np.bool_)
        windows: list[tuple[Numbers, Numbers]] = []
        for figure, factor in zip(row.figures, factors, strict=True):
            moved = float(figure.value) * (factor - 1)
            low, high = figure.rounded[0] + moved, figure.truncated[1] + moved
            if figure.quantity == "params":
                left &= (low <= counts.params) & (counts.params <= high)
            else:
                windows.append((low, high))
        drawn = np.flatnonzero(left)
        if not drawn.size:
            continue
        if not windows:
            hits[drawn] += len(by_rule)
            continue
        inside = np.ones((drawn.size, len(by_rule)), dtype=np.bool_)
        for low, high in windows:
            inside &= (by_rule >= low[drawn, None]) & (by_rule <= high[drawn, None])
        hits[drawn] += inside.sum(axis=1)
    return float(hits.mean()), float((hits > 0).mean())


def _build(
    changed: tuple[Change, ...], first: Row, counts: Counted, others: Sequence[Row], count: Counter, *, matching: bool
) -> list[Built] | None:
    """Every row's network; None as soon as one cannot be built, or of matching ones misses its row's parameters."""
    built: list[Built] = []
    for row in (first, *others):
        one = counts if row is first else count(row.changed(changed))
        if one is None:
            return None
        if matching and not all(figure.rounded[0] <= one.params <= figure.truncated[1] for figure in row.params):
            return None
        built.append((row, one))
    return built


def _matches(changed: tuple[Change, ...], built: list[Built]) -> list[Reconciled]:
    kinds = _kinds(counts for _, counts in built)
    found = _weighted(kinds)[0]
    alive = np.ones(len(found), dtype=np.bool_)
    cells = sum(len(row.figures) for row, _ in built)
    rounded, truncated = np.zeros(len(found), dtype=np.int64), np.zeros(len(found), dtype=np.int64)
    for _, figure, values in _figures(kinds, built):
        by_rounding, by_truncation = _within(values, figure.rounded), _within(values, figure.truncated)
        alive &= by_rounding | by_truncation
        rounded += by_rounding
        truncated += by_truncation
    return [
        Reconciled(
            changed,
            found[index],
            tuple(built),
            truncated=0 if rounded[index] == cells else cells - int(rounded[index]),
            all_truncated=bool(truncated[index] == cells and rounded[index] < cells),
        )
        for index in np.flatnonzero(alive)
    ]


def _nearest(
    tried: Sequence[tuple[tuple[Change, ...], Counted]], first: Row, others: Sequence[Row], count: Counter
) -> list[Nearest]:
    """The best rule of the architectures that come nearest, by their worst figure."""
    by_first = sorted(
        ((_best_rule(changed, [(first, counts)]), changed, counts) for changed, counts in tried),
        key=lambda item: item[0].order,
    )
    found: list[Nearest] = []
    seen: set[Any] = set()
    for best, changed, counts in by_first:
        if counts.key in seen:
            continue
        seen.add(counts.key)
        built = _build(changed, first, counts, others, count, matching=False)
        if built is not None:
            found.append(_best_rule(changed, built) if others else best)
        if len(found) == _NEAREST:
            break
    return sorted(found, key=lambda one: one.order)


def _best_rule(changed: tuple[Change, ...], built: list[Built]) -> Nearest:
    kinds = _kinds(counts for _, counts in built)
    found = _weighted(kinds)[0]
    worst = np.zeros(len(found))
    where = np.full(len(found), "", dtype=object)
    for row, figure, values in _figures(kinds, built):
        outside = ~_within(values, (figure.rounded[0], figure.truncated[1]))
        deviation = np.where(outside, values.astype(np.float64) / float(figure.value) - 1, 0.0)
        further = np.abs(deviation) > np.abs(worst)
        worst = np.where(further, deviation, worst)
        where = np.where(further, f"{row.label}: {figure.quantity}", where)
    # the rules are in order of their differences, and argmin takes the first of equals
    index = int(np.argmin(np.abs(worst)))
    return Nearest(changed, found[index], tuple(built), float(worst[index]), str(where[index]))
