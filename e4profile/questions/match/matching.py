"""Settings of equal cost: the width (or another argument) whose cost is nearest to a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from e4profile.conventions import convention
from e4profile.errors import E4ProfileError, SettingError, one_of, positive
from e4profile.questions.match.axes import Axis, bracket, falls
from e4profile.questions.match.targets import PREDICTED, QUANTITIES, UNITS, wanted
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import Subject, resolve
from e4profile.subjects.written import described
from e4profile.witnesses.many_settings import Drawn
from e4profile.witnesses.timing.rates import Rate
from e4profile.witnesses.variants import VariantCounter, step_bytes

_WINDOW = 16
_ALL_ALIKE = 12


@dataclass(frozen=True)
class Point:
    """One setting and its cost.

    Attributes:
        setting: the arguments that were varied.
        value: the cost: exact for params, macs and memory; measured seconds for time.
        deviation: value - target.
        interval: where a measured value lies with 95% confidence; None for exact ones and for too few samples.
        alike: whether a measured value cannot be told apart from the nearest setting's.
    """

    setting: Mapping[str, Any]
    value: int | float
    deviation: int | float
    interval: tuple[float, float] | None = None
    alike: bool = False

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {"setting": dict(self.setting), "value": self.value, "deviation": self.deviation}


@dataclass(frozen=True)
class Match:
    """The setting nearest to a target, with the next cheaper and the next costlier one.

    Attributes:
        model: the network whose setting was varied.
        by: one of ``QUANTITIES``.
        target: the cost to come near to.
        target_name: the network that the target is the cost of; None for a number.
        nearest: the setting; of two equally near ones the cheaper.
        below: the next cheaper setting; None when there is none.
        above: the next costlier setting; None when there is none.
        notes: what a reader must know, the most important first.
        alike: further settings, whose measured times cannot be told apart from the nearest one's.
        noise: why the measured times should not be trusted; empty for quiet or exact ones.
        interrupted: whether Ctrl-C ended the measurement, so that this is what was measured until then.
        at_most: whether ``nearest`` is the costliest setting that does not exceed the target.
    """

    model: str
    by: str
    target: int | float
    target_name: str | None
    nearest: Point
    below: Point | None
    above: Point | None
    notes: tuple[str, ...] = ()
    alike: tuple[Point, ...] = ()
    noise: tuple[str, ...] = ()
    interrupted: bool = False
    at_most: bool = False

    @property
    def out_of_reach(self) -> bool:
        """Whether the target lies below the cheapest or above the costliest setting."""
        side = self.below if self.nearest.deviation > 0 else self.above
        return self.nearest.deviation != 0 and side is None and not self.alike

    def as_object(self) -> dict[str, Any]:
        """For JSON: the nearest setting flat, its neighbours as objects."""
        found: dict[str, Any] = {
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
        if self.by == "time":
            found |= {
                "verdict": "interrupted" if self.interrupted else "ambiguous" if self.alike else "clear",
                "interval": None if self.nearest.interval is None else list(self.nearest.interval),
                "alike": [point.as_object() for point in self.alike],
                "noise": list(self.noise),
            }
        return found


class VariantCost:
    """The cost of the settings of an axis: counted (params, macs), predicted, or of a predicted training step (memory).

    Lower bounds of MACs, where operators are unknown, are refused; with ``guess`` they say where to look.
    """

    def __init__(
        self,
        axis: Axis,
        by: str,
        *,
        convention_name: str = "macs",
        batch_size: int = 1,
        optimiser: str = "sgd",
        guess: bool = False,
        rates: Mapping[str, Rate] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.axis, self.by, self.guess = axis, by, guess
        self.convention_name, self.batch_size, self.optimiser = convention_name, batch_size, optimiser
        self.counter = VariantCounter(elements=by == "macs" and convention(convention_name).elementwise)
        self.progress, self.rates = progress, rates
        self.refused: E4ProfileError | None = None
        self.known: dict[int, Any] = {}

    def __call__(self, index: int) -> Any:
        """The cost of one candidate; None where the network refuses the setting."""
        if self.axis.last is not None and index > self.axis.last:
            return None
        if index not in self.known:
            setting = self.axis.setting(index)
            self.progress(f"{described(setting)}, {len(self.known)} settings tried")
            try:
                self.known[index] = self.of(self.axis.subject.with_arguments(setting))
            except (SettingError, UserCodeError) as error:
                self.refused, self.known[index] = error, None
            self._check_it_changes()
        return self.known[index]

    def of(self, subject: Subject) -> Any:
        """The cost of a whole network: a whole number, of a predicted time seconds.

        Raises:
            SettingError: for arguments that the network refuses, and MACs that are a lower bound.
            UserCodeError: for what a user-defined model raises.
        """
        if self.by == "memory":
            return step_bytes(subject, self.batch_size, self.optimiser, self.counter)
        if self.by == PREDICTED:
            model, shape = subject.build_to_count(), (subject.batch_size, *subject.shape[1:])
            with subject.guarded(subject.batch_size):
                return Drawn(model, shape, rates=self.rates).predicted_s()
        if self.by == "params":
            return self.counter(subject).params
        count = self.counter if self.guess else self.counter.exact
        return count(subject).total(self.convention_name)

    def _check_it_changes(self) -> None:
        values = [value for value in self.known.values() if value is not None]
        if len(values) >= _ALL_ALIKE and len(set(values)) == 1 and not self.axis.enumerated:
            raise SettingError(_no_change(self.axis.name, self.by, self.axis.subject.name, values[0]))


def match(
    subject: Subject,
    to: Subject | str | int | float,
    *,
    by: str = "params",
    vary: str = "width",
    convention_name: str = "macs",
    batch_size: int = 1,
    optimiser: str = "sgd",
    at_most: bool = False,
    rates: Mapping[str, Rate] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Match:
    """Find the setting whose exact cost is nearest to another network's or to a number.

    Args:
        subject: the network, with every other argument in place; it is counted on its own inputs.
        to: a network, its name, a number, or a number as text such as ``"25k"``, ``"3G"``, ``"18.8K"``.
        by: ``params`` or ``macs``, by closed form where it is promised, and else counted from what runs;
            ``memory`` as predicted, ``predicted`` for the time of a forward pass by ``rates``; for ``time`` see
            ``e4profile.questions.match.by_time``.
        vary: an argument, or one with its values: ``width``, ``width=8..64``, ``width=8,16,32``. One of
            ``VARIED`` where arguments mean what they do in layers; else any argument.
        convention_name: what ``macs`` counts.
        batch_size: images of the training step that ``memory`` predicts.
        optimiser: of that step, a name of ``witnesses.memory.step.MOMENTS``.
        at_most: take the costliest setting that does not exceed the target, in place of the nearest.
        rates: of the kinds of operators on a device, for predicted times.
        progress: told in words which setting is counted.

    Raises:
        SettingError: for an argument that the network does not have or that does not change the cost, a target
            that cannot be read or that every setting exceeds, or a network that no setting can build.
        UnknownNameError: for a quantity, argument, convention or card that does not exist.
        UserCodeError: for a user-defined model that no setting builds, with the last error's traceback.
    """
    one_of("quantity", by, QUANTITIES)
    if by == "time":
        raise SettingError("time is matched by measurement: see e4profile.questions.match.by_time.match_time")
    if by == PREDICTED and rates is None:
        raise SettingError("predicted times need the rates of a calibration")
    positive(batch_size=batch_size)
    convention(convention_name)
    axis = Axis(subject, vary)
    cost = VariantCost(
        axis, by, convention_name=convention_name, batch_size=batch_size, optimiser=optimiser, rates=rates,
        progress=progress,
    )  # fmt: skip
    target, name = _target(to, cost)
    found, notes = candidates(axis, cost, target)
    points = [(axis.setting(index), value) for index, value in found]
    match = closest(subject.name, points, by=by, target=target, target_name=name, notes=notes, at_most=at_most)
    return replace(match, notes=(*match.notes, *_how_counted(subject, match, cost)))


def _how_counted(subject: Subject, match: Match, cost: VariantCost) -> tuple[str, ...]:
    if match.by in ("memory", PREDICTED):
        return ()
    return cost.counter(subject.with_arguments(match.nearest.setting)).notes


def closest(
    model: str,
    points: list[tuple[dict[str, Any], Any]],
    *,
    by: str,
    target: int | float,
    target_name: str | None = None,
    notes: tuple[str, ...] = (),
    at_most: bool = False,
) -> Match:
    """The nearest of some settings, or the costliest up to the target, and the next cheaper and costlier among them.

    Raises:
        SettingError: when they all cost the same, so that the argument decides nothing, or all exceed the target where
            none may.
    """
    ordered = sorted(points, key=lambda point: point[1])
    values = [value for _, value in ordered]
    if len(ordered) > 1 and values[0] == values[-1]:
        raise SettingError(_no_change(", ".join(ordered[0][0]), by, model, values[0]))
    place = min(range(len(ordered)), key=lambda i: abs(values[i] - target))
    if at_most:
        if values[0] > target:
            raise SettingError(
                f"no setting of {model} has at most {_said(target)} {UNITS[by]}: the cheapest, "
                f"{described(ordered[0][0])}, has {_said(values[0])}"
            )
        place = max(i for i in range(len(ordered)) if values[i] <= target)
    below = next((i for i in range(place - 1, -1, -1) if values[i] < values[place]), None)
    above = next((i for i in range(place + 1, len(ordered)) if values[i] > values[place]), None)

    def point(index: int | None) -> Point | None:
        if index is None:
            return None
        return Point(ordered[index][0], values[index], values[index] - target)

    nearest = point(place)
    assert nearest is not None
    return Match(model, by, target, target_name, nearest, point(below), point(above), notes, at_most=at_most)


def _said(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _no_change(name: str, by: str, model: str, value: object) -> str:
    return f"{name} does not change the {by} of {model} (={value} at every setting)"


def _target(to: Subject | str | int | float, cost: VariantCost) -> tuple[Any, str | None]:
    if isinstance(to, (str, int, float)):
        number = wanted(to, cost.by)
        if number is not None:
            return number, None
        to = resolve(str(to))
    value = cost.of(to)
    if not value:
        raise SettingError(f"{to.name} has no {UNITS[cost.by]} to match")
    return value, to.name


def candidates(axis: Axis, cost: VariantCost, target: Any) -> tuple[list[tuple[int, Any]], tuple[str, ...]]:
    """The settings around a target with their costs, and notes on how they were found.

    Raises:
        SettingError: when no setting can be built, or none reaches the target.
        UserCodeError: when no setting of a user-defined model can be built; what its code says stands below.
    """
    name, model = axis.name, axis.subject.name
    if axis.enumerated:
        found = [(i, value) for i in axis.indices() if (value := cost(i)) is not None]
        if not found:
            raise none_fits(cost, f"no {name} builds {model}")
        return found, _left_out(axis, cost)
    _check_as_given(axis, cost)
    downwards = falls(cost, last=axis.last, gap=axis.gap)
    sign = -1 if downwards else 1

    def signed(index: int) -> Any:
        value = cost(index)
        return None if value is None else sign * value

    around = bracket(signed, sign * target, axis.largest, last=axis.last, gap=axis.gap)
    if not around:
        if cost.refused is not None and not any(value is not None for value in cost.known.values()):
            raise none_fits(cost, f"no {name} of {model} fits")
        why = f"none up to {axis.setting(axis.largest)[name] if axis.last else axis.largest:,} reaches {_said(target)}"
        raise SettingError(f"no {name} of {model} fits: {cost.refused or why}")
    tried = sorted((i, sign * value) for i, value in cost.known.items() if value is not None)
    if all(first[1] <= second[1] for first, second in pairwise(tried)):
        return [(i, value) for i in around if (value := cost(i)) is not None], ()
    last = around[-1] + _WINDOW if axis.last is None else min(around[-1] + _WINDOW, axis.last)
    window = range(max(1, around[0] - _WINDOW), last + 1)
    note = f"cost does not grow with {name} everywhere: nearest of the {len(window)} settings around the match"
    # what was tried on the way is known too
    known = {*window, *cost.known}
    return [(i, value) for i in sorted(known) if (value := cost(i)) is not None], (note,)


def _check_as_given(axis: Axis, cost: VariantCost) -> None:
    """Code that is broken whatever its arguments says so itself, before a search hides it."""
    subject = axis.subject
    if not subject.costed_whole and subject.accepts(axis.name) and subject.argument(axis.name) is not None:
        cost.of(subject)


def none_fits(cost: VariantCost, text: str, otherwise: str = "") -> E4ProfileError:
    """The error that says why no setting can be built, with the last refusal and what stands below it."""
    reason = cost.refused
    kind = UserCodeError if isinstance(reason, UserCodeError) else SettingError
    error: E4ProfileError = kind(f"{text}: {reason or otherwise}")
    error.details = "" if reason is None else reason.details
    return error


def _left_out(axis: Axis, cost: VariantCost) -> tuple[str, ...]:
    refused = [described(axis.setting(i)) for i in axis.indices() if cost.known.get(i, 0) is None]
    if not refused:
        return ()
    listed = "; ".join(refused[:3]) + (f" and {len(refused) - 3} more" if len(refused) > 3 else "")
    return (f"omitted, because they cannot be built: {listed} ({cost.refused})",)
