"""Settings of equal time: measured, at a few settings around the match of the MACs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from e4profile.cards import Card, find_card
from e4profile.errors import SettingError
from e4profile.matching import Axis, CardCost, Match, bracket, closest

_STEEPEST = 3.0
_SECONDS = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>s|ms|us)")

ROUNDS = 3
"""How often the MACs that take the wanted time are estimated anew."""

CLOSE = 0.05
"""A relative deviation that needs no further round."""


def match_time(
    card: Card,
    to: str,
    measure: Callable[[Card], float],
    *,
    vary: str = "width",
    progress: Callable[[str], None] = lambda _: None,
) -> Match:
    """Find the setting whose measured time is nearest to another network's or to a number.

    Time does not follow from the closed form, and measuring every setting takes too long: a few settings are
    measured around the one whose MACs are in proportion to the target, time as a power of the MACs is corrected by
    what they took, and again, three times at most. On an enumerated axis every setting is measured.

    Args:
        card: the network, with every other argument in place.
        to: a card's name, or a time such as ``"12ms"``, ``"0.5s"``, ``"800us"``.
        measure: seconds of one pass of a card.
        vary: one of ``e4profile.matching.VARIED``.
        progress: told in words what is measured.

    Raises:
        SettingError: for an axis that the network does not have, or that no setting can build.
        UnknownNameError: for an axis or card that does not exist.
    """
    axis = Axis(card, vary)
    macs = CardCost(axis, "macs")
    wanted = seconds(to)
    other = None if wanted is not None else find_card(to)
    reference = card if other is None else other
    progress(f"{reference.name}, whose MACs are the first guess")
    reference_s = measure(reference)
    target_s = reference_s if wanted is None else wanted
    target_macs = round(macs.of(reference) * target_s / reference_s)
    measured: dict[int, float] = {}

    def measure_all(indices: list[int]) -> None:
        for index in indices:
            if index not in measured:
                setting = axis.setting(index)
                progress(f"{card.name} at {', '.join(f'{k}={v}' for k, v in setting.items())}")
                measured[index] = measure(card.with_arguments(setting))

    if axis.enumerated:
        measure_all([index for index in axis.indices() if macs(index) is not None])
    for _ in range(0 if axis.enumerated else ROUNDS):
        around = bracket(macs, max(1, target_macs))
        known = set(measured)
        measure_all(around)
        if not measured:
            break
        nearest = min(measured, key=lambda index: (abs(measured[index] - target_s), index))
        if abs(measured[nearest] / target_s - 1) <= CLOSE or set(measured) == known:
            break
        points = sorted((count, measured[i]) for i in measured if (count := macs(i)) is not None)
        target_macs = _macs_taking(target_s, points)
    if not measured:
        raise SettingError(f"no {vary} of {card.name} fits: {macs.refused}")
    settings: list[tuple[dict[str, Any], float]] = [
        (axis.setting(i), time_s) for i, time_s in measured.items()
    ]
    note = (
        f"measured at {len(measured)} settings "
        + ("that can be built" if axis.enumerated else "around the match of the MACs")
        + "; a setting not measured may come nearer"
    )
    name = None if other is None else other.name
    return closest(card.name, settings, by="time", target=target_s, target_name=name, notes=(note,))


def _macs_taking(target_s: float, points: list[tuple[int, float]]) -> int:
    """MACs that take a time, by the power law through the cheapest and the costliest measured point."""
    (few, short_s), (many, long_s) = points[0], points[-1]
    rising = many > few and long_s > short_s
    exponent = math.log(many / few) / math.log(long_s / short_s) if rising else 1.0
    # a flat stretch (overheads alone) says little about how far to go
    growth: float = (target_s / long_s) ** min(_STEEPEST, exponent)
    return max(1, round(many * growth))


def seconds(text: str) -> float | None:
    """A time as people write it: ``0.05s``, ``12 ms``, ``800us``; None when it is none."""
    found = _SECONDS.fullmatch(text)
    if found is None:
        return None
    return float(found["number"]) * {"s": 1.0, "ms": 1e-3, "us": 1e-6}[found["unit"]]
