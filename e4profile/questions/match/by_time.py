"""Settings of equal time: measured in turn, at a few settings around the match of the MACs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from e4profile.questions.match.axes import Axis, bracket
from e4profile.questions.match.matching import Match, Point, VariantCost, closest, none_fits
from e4profile.questions.match.targets import wanted
from e4profile.subjects.subject import Subject, resolve
from e4profile.subjects.written import described
from e4profile.witnesses.timing.samples import Samples
from e4profile.witnesses.timing.statistics import compare_pairs, median_interval

ROUNDS = 3
"""How often the MACs that take the wanted time are estimated anew."""

CLOSE = 0.05
"""A relative deviation that needs no further round."""

IN_TURN = 5
"""How many settings are sampled in turn at the end."""

IN_TURN_ROUNDS = 3
"""How often settings are sampled in turn, where the target lies outside what the first ones took."""

_STEEPEST = 3.0


class Timer(Protocol):
    """Samples one pass of several networks in turn, round by round, so that a drift meets all of them."""

    def __call__(self, subjects: Sequence[Subject], *, brief: bool = False) -> list[Samples]:
        """Samples per network, paired by round; ``brief`` ones only say where to look."""


def match_time(
    subject: Subject,
    to: Subject | str | float,
    timer: Timer,
    *,
    vary: str = "width",
    progress: Callable[[str], None] = lambda _: None,
) -> Match:
    """Find the setting whose measured time is nearest to another network's or to a number.

    Time does not follow from the closed form, and measuring every setting takes too long. Brief measurements look
    for the place: around the setting whose MACs are in proportion to the target, and again around what time as a
    power of the MACs says, three times at most. The settings there are then sampled in turn, with the network that
    they are held against. Settings whose times cannot be told apart from the nearest one's are said to be alike;
    ``below`` and ``above`` are only those that can.

    Args:
        subject: the network, with every other argument in place: on its own inputs.
        to: a network, its name, seconds, or a time such as ``"12ms"``, ``"0.5s"``, ``"800us"``.
        timer: samples passes.
        vary: as for ``e4profile.questions.match.matching.match``.
        progress: told in words what is measured.

    Returns:
        The match; with ``interrupted`` what was measured until a KeyboardInterrupt, where that is anything.

    Raises:
        SettingError: for an argument that the network does not have, or that no setting can build.
        UnknownNameError: for an argument or card that does not exist.
        UserCodeError: for what a user-defined model raises.
    """
    axis = Axis(subject, vary)
    macs = VariantCost(axis, "macs", guess=True)
    number = wanted(to, "time", "--to") if isinstance(to, (str, int, float)) else None
    other = None if number is not None else resolve(to) if isinstance(to, str) else to
    assert not isinstance(other, (int, float))
    target_s = None if number is None else float(number)
    search = _Search(axis, macs, timer, progress)
    chosen: list[int] = []
    samples: list[Samples] = []
    interrupted = False
    try:
        search.look(other if other is not None else subject, target_s)
        if not search.brief_s:
            raise none_fits(macs, f"no {axis.name} of {subject.name} fits", f"none up to {axis.largest:,} reaches it")
        for left in reversed(range(IN_TURN_ROUNDS)):
            next_chosen = search.chosen()
            progress(f"in turn: {'; '.join(described(axis.setting(i)) for i in next_chosen)}")
            networks = [search.variant(index) for index in next_chosen]
            samples = timer([*networks, other] if other is not None else networks)
            chosen = next_chosen
            goal_s = samples[-1].median_s if other is not None or target_s is None else target_s
            medians = {index: one.median_s for index, one in zip(chosen, samples, strict=False)}
            # the machine may have been another one while the brief measurements were taken
            if not left or not search.look_again(medians, goal_s):
                break
    except KeyboardInterrupt:
        interrupted = True
        if not chosen:
            return _brief_match(search, None if other is None else other.name)
    found = _judged(subject.name, [axis.setting(i) for i in chosen], samples, goal_s)
    names = [described(axis.setting(i)) for i in chosen] + ([] if other is None else [other.name])
    noise = [f"{name}: {why}" for name, one in zip(names, samples, strict=False) for why in one.noise_reasons]
    notes = [*_unsure(found, noise, len(samples)), *_against_macs(axis, chosen, samples, macs)]
    if max(medians.values()) < goal_s or min(medians.values()) > goal_s:
        how = "no setting looked at takes that long" if max(medians.values()) < goal_s else "every one takes longer"
        notes.append(f"the target lies outside what was measured: {how}")
    notes.append(
        f"{len(chosen)} of the {len(search.looked)} settings tried were sampled in turn; a setting that was not "
        "measured may come nearer"
    )
    if interrupted:
        notes.insert(0, "interrupted: other settings were not sampled in turn")
    return replace(
        found,
        target_name=None if other is None else other.name,
        notes=tuple(notes),
        noise=tuple(noise),
        interrupted=interrupted,
    )


def _brief_match(search: _Search, target_name: str | None) -> Match:
    """What the brief measurements say alone; without any the interrupt goes on."""
    if not search.brief_s:
        raise KeyboardInterrupt
    points = [(search.axis.setting(index), seconds) for index, seconds in search.brief_s.items()]
    brief = f"{len(points)} brief measurement{'s' if len(points) > 1 else ''}"
    notes = (f"interrupted: {brief} one after another, nothing sampled in turn; the order may differ",)
    model = search.axis.subject.name
    found = closest(model, points, by="time", target=search.target_s, target_name=target_name, notes=notes)
    return replace(found, interrupted=True)


class _Search:
    """Brief measurements that say where to look."""

    def __init__(self, axis: Axis, macs: VariantCost, timer: Timer, progress: Callable[[str], None]) -> None:
        self.axis, self.macs, self.timer, self.progress = axis, macs, timer, progress
        self.brief_s: dict[int, float] = {}
        self.looked: set[int] = set()
        self.target_s = 0.0

    def variant(self, index: int) -> Subject:
        return self.axis.subject.with_arguments(self.axis.setting(index))

    def look(self, reference: Subject, target_s: float | None) -> None:
        if self.axis.enumerated and target_s is not None:
            reference_s = self.target_s = target_s
        else:
            self.progress(f"{reference.name}, whose MACs are the first guess")
            reference_s = self.timer([reference], brief=True)[0].median_s
            self.target_s = reference_s if target_s is None else target_s
        if self.axis.enumerated:
            self._measure([index for index in self.axis.indices() if self.macs(index) is not None])
            return
        guess = max(1, round(self.macs.of(reference) * self.target_s / reference_s))
        for _ in range(ROUNDS):
            known = set(self.brief_s)
            axis = self.axis
            self._measure(bracket(self.macs, guess, axis.largest, last=axis.last, gap=axis.gap))
            if not self.brief_s or set(self.brief_s) == known:
                return
            if abs(self.brief_s[self.nearest] / self.target_s - 1) <= CLOSE:
                return
            points = sorted((count, self.brief_s[i]) for i in self.brief_s if (count := self.macs(i)) is not None)
            guess = _macs_taking(self.target_s, points)

    def look_again(self, in_turn_s: Mapping[int, float], target_s: float) -> bool:
        """Whether another place is worth looking at, after settings that were sampled in turn all missed one way."""
        near = min(abs(seconds / target_s - 1) for seconds in in_turn_s.values()) <= CLOSE
        straddles = min(in_turn_s.values()) <= target_s <= max(in_turn_s.values())
        if near or straddles or self.axis.enumerated:
            return False
        points = sorted((count, in_turn_s[i]) for i in in_turn_s if (count := self.macs(i)) is not None)
        axis = self.axis
        found = bracket(self.macs, _macs_taking(target_s, points), axis.largest, last=axis.last, gap=axis.gap)
        if not found or set(found) <= set(in_turn_s):
            return False
        self.target_s, self.brief_s = target_s, {}
        self._measure(found)
        # the nearest of the old ones ties the rounds together
        self.brief_s |= dict(sorted(in_turn_s.items(), key=lambda item: abs(item[1] - target_s))[:1])
        return True

    @property
    def nearest(self) -> int:
        return min(self.brief_s, key=lambda index: (abs(self.brief_s[index] - self.target_s), index))

    def chosen(self) -> list[int]:
        """The nearest setting and those next to it in MACs, by MACs; a few more in an enumerated axis."""
        ordered = sorted(self.brief_s, key=lambda index: (self.macs(index) or 0, index))
        place = ordered.index(self.nearest)
        first = max(0, min(place - IN_TURN // 2, len(ordered) - IN_TURN))
        return ordered[first : first + IN_TURN]

    def _measure(self, indices: Sequence[int]) -> None:
        for index in indices:
            self.looked.add(index)
            if index not in self.brief_s:
                self.progress(f"{self.axis.subject.name} at {described(self.axis.setting(index))}")
                self.brief_s[index] = self.timer([self.variant(index)], brief=True)[0].median_s


def _judged(model: str, settings: list[dict[str, object]], samples: list[Samples], target_s: float) -> Match:
    """The nearest setting, what cannot be told apart from it, and the next that can on either side."""
    taken = samples[: len(settings)]
    place = min(range(len(settings)), key=lambda i: (abs(taken[i].median_s - target_s), i))

    def point(index: int, *, alike: bool = False) -> Point:
        seconds = taken[index].median_s
        return Point(settings[index], seconds, seconds - target_s, median_interval(taken[index].seconds), alike)

    verdicts = {
        i: compare_pairs(one.seconds, taken[place].seconds).verdict for i, one in enumerate(taken) if i != place
    }
    faster = [i for i, verdict in verdicts.items() if verdict == "faster"]
    slower = [i for i, verdict in verdicts.items() if verdict == "slower"]
    below = max(faster, key=lambda i: taken[i].median_s, default=None)
    above = min(slower, key=lambda i: taken[i].median_s, default=None)
    return Match(
        model, "time", target_s, None, point(place),
        None if below is None else point(below),
        None if above is None else point(above),
        alike=tuple(point(i, alike=True) for i, verdict in verdicts.items() if verdict == "ambiguous"),
    )  # fmt: skip


def _unsure(found: Match, noise: Sequence[str], networks: int) -> list[str]:
    """Why the nearest setting may be another one."""
    notes = []
    if found.alike:
        others = "; ".join(described(point.setting) for point in found.alike)
        notes.append(
            f"alike: {others} cannot be told apart from {described(found.nearest.setting)} by what was measured; "
            "sample longer (--max-run-time-s), on an idle machine, or take any of them"
        )
    if noise:
        more = f" (and {len(noise) - 1} more reasons in {networks} networks)" if len(noise) > 1 else ""
        notes.append(f"noisy: {noise[0]}{more}; the times are less certain than their digits")
    return notes


def _against_macs(axis: Axis, chosen: Sequence[int], samples: Sequence[Samples], macs: VariantCost) -> list[str]:
    """What took clearly longer than something of more MACs: no order of cost to rely on."""
    found: list[str] = []
    if any(macs.counter(axis.subject.with_arguments(axis.setting(index))).unknown for index in chosen):
        return found
    for place, index in enumerate(chosen):
        for other_place, other in enumerate(chosen):
            if (macs(index) or 0) < (macs(other) or 0):
                pair = compare_pairs(samples[place].seconds, samples[other_place].seconds)
                if pair.verdict == "slower":
                    names = described(axis.setting(index)), described(axis.setting(other))
                    found.append(f"{names[0]} is slower than {names[1]}, which has more MACs")
    return found


def _macs_taking(target_s: float, points: list[tuple[int, float]]) -> int:
    """MACs that take a time, by the power law through the cheapest and the costliest measured point."""
    (few, short_s), (many, long_s) = points[0], points[-1]
    rising = many > few and long_s > short_s
    exponent = math.log(many / few) / math.log(long_s / short_s) if rising else 1.0
    # a flat stretch (overheads alone) says little about how far to go
    growth: float = (target_s / long_s) ** min(_STEEPEST, exponent)
    return max(1, round(many * growth))
