"""The settings of a sweep with their costs, those that keep to limits, and those that no other beats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from e4profile.errors import E4ProfileError, SettingError, some_of
from e4profile.questions.sweep.quantities import How, Limit, Quantity, Reading
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import Varied, described
from e4profile.witnesses.counts.measure import measure
from e4profile.witnesses.many_settings import FORMULAS, Choice, Column, Integers, ManyCosts, NotTogether, cost_of_many
from e4profile.witnesses.variants import VariantCounter

MOST_BUILT = 1_000
"""So many settings at most are built; more are costed by closed form alone."""
MOST_SETTINGS = 10_000_000
SAMPLE = 50
"""Settings of which the networks are built and counted, as a proof of the others."""
_SEED = 0
_NEAREST = 5


@dataclass
class Cloud:
    """Every setting of some networks, one after another.

    Attributes:
        subjects: the networks.
        axes: the arguments that are varied, the last fastest.
        found: what each network's settings cost by closed form.
        notes: how it was found, a sentence each.
        asked: what was found by asking networks, by quantity and setting.
        disagreements: settings of the sample whose networks count otherwise.
    """

    subjects: Sequence[Subject]
    axes: Sequence[Varied]
    found: Sequence[ManyCosts]
    notes: list[str] = field(default_factory=list)
    asked: dict[str, dict[int, Reading]] = field(default_factory=dict)
    disagreements: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many settings there are, of all networks."""
        return sum(one.size for one in self.found)

    @property
    def possible(self) -> Integers:
        """The settings that can be built."""
        return np.flatnonzero(np.concatenate([one.possible for one in self.found]))

    def place(self, index: int) -> tuple[int, int]:
        """Which network a setting is of, and its number there."""
        for number, one in enumerate(self.found):
            if index < one.size:
                return number, index
            index -= one.size
        raise IndexError(index)

    def setting(self, index: int) -> dict[str, Any]:
        """The arguments that are varied."""
        number, inner = self.place(index)
        return self.found[number].setting(inner) if self.axes else {}

    def subject(self, index: int) -> Subject:
        """A setting's network."""
        return self.subjects[self.place(index)[0]].with_arguments(self.setting(index))

    def named(self, index: int) -> str:
        """A setting in words."""
        number, _ = self.place(index)
        words = described(self.setting(index))
        return " ".join(
            filter(None, (self.subjects[number].full_name if len(self.subjects) > 1 or not words else "", words))
        )

    def values(self, quantity: Quantity) -> Integers:
        """A quantity of every setting; 0 where ``stated`` says that there is none."""
        if quantity.ask is not None:
            values = np.zeros(self.size)
            for index, reading in self.asked.get(quantity.name, {}).items():
                values[index] = reading.value or 0
            return values
        parts = [one.quantities.get(quantity.formula, np.zeros(one.size, dtype=np.int64)) for one in self.found]
        return np.concatenate(parts)

    def stated(self, quantity: Quantity) -> Any:
        """Whether a setting has a quantity."""
        if quantity.ask is not None:
            stated = np.zeros(self.size, dtype=bool)
            readings = self.asked.get(quantity.name, {})
            stated[[index for index, reading in readings.items() if reading.value is not None]] = True
            return stated
        return np.concatenate([one.stated(quantity.formula) for one in self.found])

    def value(self, quantity: Quantity, index: int) -> int | float | None:
        """A quantity of one setting."""
        if quantity.ask is not None:
            reading = self.asked.get(quantity.name, {}).get(index)
            return None if reading is None else reading.value
        number, inner = self.place(index)
        found = self.found[number]
        if not found.stated(quantity.formula)[inner] or quantity.formula not in found.quantities:
            return None
        values = found.quantities[quantity.formula]
        return float(values[inner]) if values.dtype == np.float64 else int(values[inner])

    def interval(self, quantity: Quantity, index: int) -> tuple[float, float] | None:
        """Where a measured quantity of a setting lies."""
        reading = self.asked.get(quantity.name, {}).get(index)
        return None if reading is None else reading.interval

    def ask(self, quantity: Quantity, indices: Integers, how: How) -> None:
        """Ask the networks of some settings what no closed form says.

        Raises:
            SettingError: for more settings than are built, with the remedy.
        """
        if quantity.ask is None:
            return
        if len(indices) > MOST_BUILT:
            raise SettingError(
                f"{quantity.name} is found by building each network, and {len(indices):,} settings are left; at most "
                f"{MOST_BUILT:,} are built: limit what the closed form says first, for example --max params=1M, or "
                "vary fewer values"
            )
        readings = quantity.ask([self.subject(int(index)) for index in indices], how)
        self.asked[quantity.name] = {int(index): one for index, one in zip(indices, readings, strict=True)}
        remarks = list(dict.fromkeys(one.note for one in readings if one.note))
        if remarks:
            self.notes.append(some_of(remarks, "; ", 3))


def check_size(axes: Sequence[Varied], networks: int) -> int:
    """How many settings the axes have.

    Raises:
        SettingError: for more than are costed, with the remedy.
    """
    total = prod(len(axis.given or ()) for axis in axes)
    if networks * total > MOST_SETTINGS:
        counts = " x ".join(f"{len(axis.given or ()):,} {axis.name}" for axis in axes)
        raise SettingError(
            f"{networks * total:,} settings ({counts}{f' x {networks} networks' if networks > 1 else ''}); at most "
            f"{MOST_SETTINGS:,} are costed at once: give fewer values, for example with a step, width=8..512..8"
        )
    return total


def cloud_of(subjects: Sequence[Subject], axes: Sequence[Varied], quantities: Iterable[Quantity], how: How) -> Cloud:
    """Every setting with its closed form; of networks that have none for many settings, each is built and counted.

    Raises:
        SettingError: for too many settings, also for those that have to be built.
        UnknownNameError: for an argument that a network does not take.
    """
    total = check_size(axes, len(subjects))
    columns = _columns(axes, total)
    formulas = tuple(dict.fromkeys(one.formula for one in quantities if one.formula))
    notes: list[str] = []
    found = []
    for subject in subjects:
        for axis in axes:
            subject.check_accepts(axis.name)
        try:
            found.append(_together(subject, columns, formulas, how))
        except NotTogether as reason:
            if total > MOST_BUILT:
                raise SettingError(
                    f"{reason}. So each of {total:,} settings has to be built, and at most {MOST_BUILT:,} are: give "
                    "fewer values"
                ) from reason
            found.append(_each_built(subject, columns, total, how, notes))
            notes.insert(0, f"{reason}; so each setting is built and counted")
    return Cloud(subjects, axes, found, notes)


def _columns(axes: Sequence[Varied], total: int) -> dict[str, Column]:
    sizes = [len(axis.given or ()) for axis in axes]
    codes = np.unravel_index(np.arange(total), sizes) if axes else ()
    columns: dict[str, Column] = {}
    for axis, code in zip(axes, codes, strict=True):
        values = axis.given or ()
        whole = all(type(value) is int for value in values)
        columns[axis.name] = np.array(values, dtype=np.int64)[code] if whole else Choice(tuple(values), code)
    return columns


def _together(subject: Subject, columns: Mapping[str, Column], formulas: Sequence[str], how: How) -> ManyCosts:
    if subject.input is None:
        raise NotTogether(f"{subject.name} takes other inputs than one positional tensor, which no closed form follows")
    batch_size = how.batch_size if not subject.input_given else None
    return cost_of_many(subject, columns, formulas, batch_size=batch_size, rates=how.rates)


def _each_built(subject: Subject, columns: Mapping[str, Column], total: int, how: How, notes: list[str]) -> ManyCosts:
    counter = VariantCounter()
    costs = {name: np.zeros(total, dtype=object) for name in ("params", "macs")}
    found = ManyCosts(total, np.zeros(total, dtype=bool), {}, subject, columns)
    subjects = [subject.with_arguments(found.setting(index)) for index in range(total)]
    subjects = [one if how.batch_size is None else one.at_batch(how.batch_size) for one in subjects]

    def counts_of(one: Subject) -> dict[str, Any]:
        counted = counter(one)
        return {"params": counted.params, "macs": counted.total(), "unknown": list(counted.unknown),
                "notes": list(counted.notes)}  # fmt: skip

    for index, said in how.kept.each("counts", subjects, counts_of, how.batch_size, how.progress):
        if isinstance(said, E4ProfileError):
            if not isinstance(said, SettingError | UserCodeError):
                raise said
            found.refusals.append(np.array([index]))
            continue
        found.possible[index] = True
        costs["params"][index], costs["macs"][index] = said["params"], said["macs"]
        if said["unknown"]:
            found.unstated.setdefault("macs", []).append((np.array([index]), "unknown operators"))
        notes += [note for note in said["notes"] if note not in notes]
    found.quantities.update(costs)
    for name in FORMULAS:
        if name not in costs:
            found.unstated[name] = [(np.arange(total), "no closed form")]
    return found


def prove(cloud: Cloud, how: How) -> None:
    """Build and count a random sample of the settings, and say whether the closed form is what it counts."""
    by_form = np.concatenate([one.possible & (one.walks > 0) for one in cloud.found])
    possible = np.flatnonzero(by_form)
    if not len(possible):
        return
    chosen = np.sort(np.random.default_rng(_SEED).choice(possible, min(SAMPLE, len(possible)), replace=False))
    subjects = [cloud.subject(int(index)) for index in chosen]
    subjects = [one if how.batch_size is None else one.at_batch(how.batch_size) for one in subjects]

    def counts_of(one: Subject) -> dict[str, Any]:
        counted = measure(one, ()).dispatch
        return {"params": counted.params, "macs": counted.macs}

    for at, ran in how.kept.each("sample", subjects, counts_of, how.batch_size, how.progress):
        if isinstance(ran, E4ProfileError):
            raise ran
        place, inner = cloud.place(int(chosen[at]))
        said = {name: int(cloud.found[place].quantities[name][inner]) for name in ("params", "macs")}
        if said != ran:
            cloud.disagreements.append(f"{cloud.named(int(chosen[at]))}: closed form {said}, counted {ran}")
    how_many = f"{len(chosen)} of {len(possible):,} settings, drawn at random (seed {_SEED}), were built and counted"
    if cloud.disagreements:
        cloud.notes.insert(
            0, f"{how_many}, and {len(cloud.disagreements)} differ: {some_of(cloud.disagreements, '; ', 3)}"
        )
    else:
        cloud.notes.insert(0, f"by closed form; {how_many}: parameters and MACs are the closed form's")


@dataclass(frozen=True)
class Chosen:
    """The settings that are left, in order.

    Attributes:
        indices: of the settings.
        nearest: whether none meets the limits, so that these come nearest to them.
        excess: of those how many times the worst limit is missed.
    """

    indices: list[int]
    nearest: bool = False
    excess: Mapping[int, float] = field(default_factory=dict)


def within(cloud: Cloud, limits: Sequence[Limit], how: How) -> Chosen:
    """The settings that keep to all limits; those nearest to them where none does.

    Limits on what the closed form says come first, so that few networks are asked for the others.
    """
    left = cloud.possible
    for limit in sorted(limits, key=lambda one: one.quantity.ask is not None):
        if limit.quantity.name not in cloud.asked:
            cloud.ask(limit.quantity, left, how)
        stated = cloud.stated(limit.quantity)[left]
        if not stated.any():
            raise SettingError(
                f"{limit.quantity.name} is stated for no setting that is left: {_why(cloud, limit.quantity)}"
            )
        kept = left[stated & limit.met(cloud.values(limit.quantity)[left]).astype(bool)]
        if not len(kept):
            return _nearest(cloud, limits, left)
        left = kept
    return Chosen([int(index) for index in left])


def _why(cloud: Cloud, quantity: Quantity) -> str:
    reasons = [reason for one in cloud.found for _, reason in one.unstated.get(quantity.formula, ())]
    reasons += [reading.note for reading in cloud.asked.get(quantity.name, {}).values() if reading.note]
    return some_of(list(dict.fromkeys(reasons)) or ["no setting can be built"], "; ", 2)


def _nearest(cloud: Cloud, limits: Sequence[Limit], left: Integers) -> Chosen:
    """The settings, of those left, whose worst limit is missed by the smallest factor."""
    excess = np.ones(len(left))
    known = np.ones(len(left), dtype=bool)
    for limit in limits:
        stated = cloud.stated(limit.quantity)[left]
        if limit.quantity.ask is not None and limit.quantity.name not in cloud.asked:
            continue
        values = np.maximum(cloud.values(limit.quantity)[left].astype(float), 1e-300)
        ratio = values / float(limit.bound) if limit.most else float(limit.bound) / values
        known &= stated
        excess = np.maximum(excess, ratio)
    order = [at for at in np.argsort(excess, kind="stable") if known[at]][:_NEAREST]
    indices = [int(left[at]) for at in order]
    return Chosen(indices, nearest=True, excess={int(left[at]): float(excess[at]) for at in order})


def front(cloud: Cloud, indices: Sequence[int], quantities: Sequence[Quantity]) -> list[int]:
    """The settings that no other beats: none is clearly better in one of the quantities and clearly worse in none.

    Exact quantities are compared exactly. Of measured ones, settings whose intervals overlap are alike.
    """
    kept = np.array(indices, dtype=np.int64)
    for quantity in quantities:
        kept = kept[cloud.stated(quantity)[kept]]
    if not len(kept):
        return []
    low, high = [], []
    for quantity in quantities:
        values = cloud.values(quantity)[kept]
        between = [cloud.interval(quantity, int(index)) for index in kept] if quantity.ask is not None else []
        low.append(_ends(values, between, 0))
        high.append(_ends(values, between, 1))
    return [int(kept[at]) for at in _unbeaten(low, high)]


def _ends(values: Integers, between: Sequence[tuple[float, float] | None], end: int) -> Integers:
    if not any(between):
        return values
    return np.array([value if pair is None else pair[end] for value, pair in zip(values, between, strict=True)])


def _unbeaten(low: Sequence[Integers], high: Sequence[Integers]) -> list[int]:
    exact = all(one is other for one, other in zip(low, high, strict=True))
    if exact:
        return _exact_front(low)
    found = []
    for at in range(len(low[0])):
        better = np.any([above < below[at] for above, below in zip(high, low, strict=True)], axis=0)
        worse = np.any([below > above[at] for above, below in zip(high, low, strict=True)], axis=0)
        if not (better & ~worse).any():
            found.append(at)
    return found


def _sortable(values: Integers) -> Integers:
    """The values, or for numbers beyond 64 bits their places in order."""
    return np.unique(values, return_inverse=True)[1] if values.dtype == object else values


def _exact_front(costs: Sequence[Integers]) -> list[int]:
    """By the first cost, then the others: whoever is left when its turn comes is beaten by none before it."""
    costs = [_sortable(one) for one in costs]
    left = np.lexsort(tuple(reversed(costs)))
    found: list[int] = []
    while len(left):
        first = left[0]
        no_better = np.all([one[left] >= one[first] for one in costs], axis=0)
        equal = np.all([one[left] == one[first] for one in costs], axis=0)
        found += [int(at) for at in left[equal]]
        left = left[~no_better]
    return found


def ordered(cloud: Cloud, indices: Sequence[int], by: Quantity, *, descending: bool = False) -> list[int]:
    """The settings, the cheapest (or the costliest) first; those without the quantity last."""
    kept = np.array(indices, dtype=np.int64)
    values = _sortable(cloud.values(by)[kept])
    order = np.lexsort((-values if descending else values, ~cloud.stated(by)[kept]))
    return [int(index) for index in kept[order]]


def alike(cloud: Cloud, indices: Sequence[int], quantity: Quantity) -> list[tuple[int, int]]:
    """Neighbours in the order of a measured quantity whose intervals overlap."""
    pairs = []
    for one, other in pairwise(indices):
        first, second = cloud.interval(quantity, one), cloud.interval(quantity, other)
        if first is not None and second is not None and first[0] <= second[1] and second[0] <= first[1]:
            pairs.append((one, other))
    return pairs
