"""Settings of equal cost: the width (or reduction, slices, kernel) whose cost is nearest to a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from e4profile.cards import Card, find_card
from e4profile.conventions import convention
from e4profile.errors import E4ProfileError, SettingError, UnknownNameError, positive
from e4profile.published import parse_printed

QUANTITIES = ("params", "macs", "time", "memory")
"""What two networks can be matched by."""

VARIED = ("width", "reduction", "slices", "channels_per_slice", "kernel")
"""What can be varied until they match."""

UNITS = {"params": "parameters", "macs": "MACs", "time": "seconds", "memory": "bytes"}

_DIVISORS = ("reduction", "slices", "channels_per_slice")
_LARGEST_GAP = 512
_LARGEST_INDEX = 2**24
_WINDOW = 16

Cost = Callable[[int], "int | None"]


@dataclass(frozen=True)
class Point:
    """One setting and its cost.

    Attributes:
        setting: the arguments that were varied.
        value: the cost: exact for params, macs and memory; measured seconds for time.
        deviation: value - target.
    """

    setting: Mapping[str, Any]
    value: int | float
    deviation: int | float

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {"setting": dict(self.setting), "value": self.value, "deviation": self.deviation}


@dataclass(frozen=True)
class Match:
    """The setting nearest to a target, with the next cheaper and the next costlier one.

    Attributes:
        model: the card whose setting was varied.
        by: one of ``QUANTITIES``.
        target: the cost to come near to.
        target_name: the network that the target is the cost of; None for a number.
        nearest: the setting; of two equally near ones the cheaper.
        below: the next cheaper setting; None when there is none.
        above: the next costlier setting; None when there is none.
        notes: what a reader must know about a measured match.
    """

    model: str
    by: str
    target: int | float
    target_name: str | None
    nearest: Point
    below: Point | None
    above: Point | None
    notes: tuple[str, ...] = ()

    def as_object(self) -> dict[str, Any]:
        """For JSON: the nearest setting flat, its neighbours as objects."""
        return {
            "model": self.model,
            "setting": dict(self.nearest.setting),
            "by": self.by,
            "target": self.target,
            "target_name": self.target_name,
            "value": self.nearest.value,
            "deviation": self.nearest.deviation,
            "below": None if self.below is None else self.below.as_object(),
            "above": None if self.above is None else self.above.as_object(),
        }


@dataclass(frozen=True)
class Axis:
    """What is varied: candidates are numbered from 1, ``setting`` gives the arguments of a number."""

    card: Card
    vary: str

    def __post_init__(self) -> None:
        if self.vary not in VARIED:
            raise UnknownNameError("axis", self.vary, VARIED)
        if not self.card.accepts(self._argument):
            takes = [name for name in VARIED if Axis.exists(self.card, name)]
            raise SettingError(f"{self.card.name} takes no {self.vary}; vary {', '.join(takes)}")

    @staticmethod
    def exists(card: Card, vary: str) -> bool:
        """Whether a card's network takes this axis."""
        return card.accepts(vary) or (vary == "width" and card.accepts("widths"))

    @property
    def _argument(self) -> str:
        return "widths" if self.vary == "width" and not self.card.accepts("width") else self.vary

    @property
    def enumerated(self) -> bool:
        """Whether every candidate is tried: divisors are few, and cost may fall along them."""
        return self.vary in _DIVISORS

    def setting(self, index: int) -> dict[str, Any]:
        """The arguments of candidate ``index``; several widths grow in the card's own proportion."""
        if self.vary == "kernel":
            return {"kernel": 2 * index - 1}
        if self._argument == "widths":
            widths = self.card.argument("widths")
            first = widths[0]
            return {"widths": [(2 * index * width + first) // (2 * first) for width in widths]}
        return {self.vary: index}

    def indices(self) -> list[int]:
        """Every candidate of an enumerated axis: the divisors of the width."""
        width = self.card.argument("width")
        if not isinstance(width, int):
            raise SettingError(f"{self.card.name} has no single width that {self.vary} could divide")
        return [index for index in range(1, width + 1) if width % index == 0]


class CardCost:
    """The cost of a card by closed form (params, macs) or of its predicted training step (memory)."""

    def __init__(
        self,
        axis: Axis,
        by: str,
        *,
        convention_name: str = "macs",
        batch_size: int = 1,
        optimiser: str = "sgd",
    ) -> None:
        self.axis, self.by = axis, by
        self.convention_name, self.batch_size, self.optimiser = convention_name, batch_size, optimiser
        self.refused: E4ProfileError | None = None
        self.known: dict[int, int | None] = {}

    def __call__(self, index: int) -> int | None:
        """The cost of one candidate; None where the network refuses the setting."""
        if index not in self.known:
            try:
                self.known[index] = self.of(self.axis.card.with_arguments(self.axis.setting(index)))
            except SettingError as error:
                self.refused, self.known[index] = error, None
        return self.known[index]

    def of(self, card: Card) -> int:
        """The cost of a whole card.

        Raises:
            SettingError: for arguments that the network refuses.
        """
        if self.by == "memory":
            from e4profile.memory import predict

            built = card.build("meta")
            return predict(built, card.input, self.batch_size, optimiser=self.optimiser).step_bytes
        from e4profile.counters.closed_form import count_closed_form

        count = count_closed_form(card.build("meta"), card.input_shape())
        return count.params if self.by == "params" else count.total(self.convention_name)


def match(
    card: Card,
    to: str | int,
    *,
    by: str = "params",
    vary: str = "width",
    convention_name: str = "macs",
    batch_size: int = 1,
    optimiser: str = "sgd",
) -> Match:
    """Find the setting whose exact cost is nearest to another network's or to a number.

    Args:
        card: the network, with every other argument in place.
        to: a card's name, a number, or a number as text such as ``"25k"``, ``"3G"``, ``"18.8K"``.
        by: ``params`` or ``macs`` by closed form, ``memory`` as predicted; for ``time`` see
            ``e4profile.matching_time``.
        vary: one of ``VARIED``.
        convention_name: what ``macs`` counts.
        batch_size: images of the training step that ``memory`` predicts.
        optimiser: of that step: sgd, momentum or adam.

    Raises:
        SettingError: for an axis that the network does not have or that does not change the cost, a target that
            cannot be read, or a network that no setting on the axis can build.
        UnknownNameError: for a quantity, axis, convention or card that does not exist.
    """
    if by not in QUANTITIES:
        raise UnknownNameError("quantity", by, QUANTITIES)
    if by == "time":
        raise SettingError("time is matched by measurement: see e4profile.matching_time.match_time")
    positive(batch_size=batch_size)
    convention(convention_name)
    axis = Axis(card, vary)
    cost = CardCost(axis, by, convention_name=convention_name, batch_size=batch_size, optimiser=optimiser)
    target, name = _target(to, cost)
    found, notes = _candidates(axis, cost, target)
    points = [(axis.setting(index), value) for index, value in found]
    return closest(card.name, points, by=by, target=target, target_name=name, notes=notes)


def closest(
    model: str,
    points: list[tuple[dict[str, Any], Any]],
    *,
    by: str,
    target: int | float,
    target_name: str | None = None,
    notes: tuple[str, ...] = (),
) -> Match:
    """The nearest of some settings, and the next cheaper and costlier among them.

    Raises:
        SettingError: when they all cost the same, so that the axis decides nothing.
    """
    ordered = sorted(points, key=lambda point: point[1])
    values = [value for _, value in ordered]
    if len(ordered) > 1 and values[0] == values[-1]:
        axis = ", ".join(ordered[0][0])
        raise SettingError(f"{axis} does not change the {by} of {model} (={values[0]} at every setting)")
    place = min(range(len(ordered)), key=lambda i: abs(values[i] - target))
    below = next((i for i in range(place - 1, -1, -1) if values[i] < values[place]), None)
    above = next((i for i in range(place + 1, len(ordered)) if values[i] > values[place]), None)

    def point(index: int | None) -> Point | None:
        if index is None:
            return None
        return Point(ordered[index][0], values[index], values[index] - target)

    nearest = point(place)
    assert nearest is not None
    return Match(model, by, target, target_name, nearest, point(below), point(above), notes)


def whole_number(text: str | int) -> int | None:
    """A number as people write it: ``25210``, ``25k``, ``18.8K``, ``11.69M``, ``3G``; None when it is none.

    Raises:
        SettingError: for a number that is not whole or not positive.
    """
    if isinstance(text, int):
        value = Fraction(text)
    else:
        try:
            value = Fraction(parse_printed(text)[0])
        except SettingError:
            return None
    if value.denominator != 1 or value < 1:
        raise SettingError(f"target (={text}) must be a positive whole number")
    return int(value)


def _target(to: str | int, cost: CardCost) -> tuple[int, str | None]:
    number = whole_number(to)
    if number is not None:
        return number, None
    other = find_card(str(to))
    return cost.of(other), other.name


def _candidates(axis: Axis, cost: CardCost, target: int) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
    if axis.enumerated:
        found = [(i, value) for i in axis.indices() if (value := cost(i)) is not None]
        if not found:
            raise SettingError(f"no {axis.vary} builds {axis.card.name}: {cost.refused}")
        return found, ()
    around = bracket(cost, target)
    if not around:
        why = cost.refused or f"none up to {_LARGEST_INDEX:,} reaches {target:,}"
        raise SettingError(f"no {axis.vary} of {axis.card.name} fits: {why}")
    tried = sorted((i, value) for i, value in cost.known.items() if value is not None)
    if all(first[1] <= second[1] for first, second in pairwise(tried)):
        return [(i, value) for i in around if (value := cost(i)) is not None], ()
    window = range(max(1, around[0] - _WINDOW), around[-1] + _WINDOW + 1)
    note = f"cost does not grow with {axis.vary} everywhere: nearest of the {len(window)} settings around the match"
    return [(i, value) for i in window if (value := cost(i)) is not None], (note,)


def bracket(cost: Cost, target: int, largest_index: int = _LARGEST_INDEX) -> list[int]:
    """Up to four neighbouring candidates around a target, for a cost that grows with its index.

    Doubling finds an upper end and bisection the place; a candidate that cannot be built is passed over.

    Returns:
        The candidates in order, the nearest one among them with a neighbour on either side where there is one;
        none when no candidate can be built or none up to ``largest_index`` reaches the target.
    """
    low = _first(cost, range(1, _LARGEST_GAP + 1))
    if low is None:
        return []
    high: int | None = low
    while high is not None and _known(cost, high) < target:
        if high > largest_index:
            return []
        low, high = high, _first(cost, _upwards(2 * high)) or _first(cost, _upwards(high + 1))
    if high is None:
        # the largest candidate lies below the target
        high = low
    while high - low > 1:
        middle = (low + high) // 2
        between = _first(cost, range(middle, high)) or _first(cost, range(middle - 1, low, -1))
        if between is None:
            break
        if _known(cost, between) < target:
            low = between
        else:
            high = between
    before = _first(cost, range(low - 1, max(0, low - _LARGEST_GAP), -1))
    after = _first(cost, _upwards(high + 1))
    return sorted({index for index in (before, low, high, after) if index is not None})


def _upwards(start: int) -> range:
    return range(start, start + _LARGEST_GAP)


def _first(cost: Cost, indices: range | Iterator[int]) -> int | None:
    return next((index for index in indices if cost(index) is not None), None)


def _known(cost: Cost, index: int) -> int:
    value = cost(index)
    assert value is not None
    return value
