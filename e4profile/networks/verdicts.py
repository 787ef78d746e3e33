"""Verdicts: a built value against a published one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from e4profile.conventions import CONVENTIONS
from e4profile.networks.cards import BY_RULE, REPRODUCED, TRUNCATED, UNRESOLVED, Cell
from e4profile.networks.published import agrees_rounded, agrees_truncated, deviation_percent


@dataclass(frozen=True)
class Verdict:
    """A published cell held against the built network."""

    verdict: str
    deviation_percent: Decimal


def judge(built: int | Fraction, cell: Cell) -> Verdict:
    """The verdict on one published cell.

    The printed digits must come out at the printed precision, rounded or truncated as the card says; a cell
    that follows only by a published tool's own rule says so.
    """
    agrees = agrees_truncated if cell.rounding == "truncated" else agrees_rounded
    deviation = deviation_percent(built, cell.value)
    if not agrees(built, cell.value):
        return Verdict(UNRESOLVED, deviation)
    if cell.convention is not None and CONVENTIONS[cell.convention].published_rule:
        return Verdict(BY_RULE, deviation)
    return Verdict(TRUNCATED if cell.rounding == "truncated" else REPRODUCED, deviation)


def tally(verdicts: list[str]) -> Mapping[str, int]:
    """How many cells have each verdict, the best verdict first."""
    return {name: verdicts.count(name) for name in (REPRODUCED, TRUNCATED, BY_RULE, UNRESOLVED) if name in verdicts}
