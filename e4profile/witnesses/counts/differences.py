"""One counter against another: where closed form and dispatch disagree."""

from __future__ import annotations

from dataclasses import dataclass

from e4profile.conventions import MAC_KINDS, NORM_KINDS
from e4profile.witnesses.counts.base import Count

WITNESSED_KINDS = (*MAC_KINDS, *NORM_KINDS)
"""The kinds that both the closed form and the dispatch counter report."""


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
            pairs[kind] = (left.operations.get(kind, 0) if left else 0, right.operations.get(kind, 0) if right else 0)
        found += [LayerDifference(path, name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]
    return found
