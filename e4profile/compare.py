"""Verdicts: a built value against a published one, and one counter against another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from e4profile.cards import BY_RULE, REPRODUCED, TRUNCATED, UNRESOLVED, Cell
from e4profile.conventions import CONVENTIONS, MAC_KINDS, NORM_KINDS
from e4profile.counters.base import Count
from e4profile.published import agrees_rounded, agrees_truncated, deviation_percent

WITNESSED_KINDS = (*MAC_KINDS, *NORM_KINDS)
"""The kinds that both the closed form and the dispatch counter report."""


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


@dataclass(frozen=True)
class LayerDifference:
    """One layer and quantity on which two counters disagree."""

    path: str
    quantity: str
    formula: int
    measured: int

    def __str__(self) -> str:
        return f"{self.path or '(network)'}: {self.quantity}: closed form {self.formula}, measured {self.measured}"


def differences(formula: Count, measured: Count) -> list[LayerDifference]:
    """Every layer where closed form and dispatch disagree, in parameters or in any witnessed kind.

    Operations and parameters outside every layer of the closed form count as disagreements too.
    """
    expected = {layer.path: layer for layer in formula.layers}
    actual = measured.rolled_up(expected)
    found: list[LayerDifference] = []
    for path in sorted({*expected, *actual}):
        left, right = expected.get(path), actual.get(path)
        pairs = {"params": (left.params if left else 0, right.params if right else 0)}
        for kind in WITNESSED_KINDS:
            pairs[kind] = (
                left.operations.get(kind, 0) if left else 0,
                right.operations.get(kind, 0) if right else 0,
            )
        found += [LayerDifference(path, name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]
    return found


def tally(verdicts: list[str]) -> Mapping[str, int]:
    """How many cells have each verdict, the best verdict first."""
    return {
        name: verdicts.count(name)
        for name in (REPRODUCED, TRUNCATED, BY_RULE, UNRESOLVED)
        if name in verdicts
    }
