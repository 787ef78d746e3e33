"""What is counted as what, declared once.

Counters report operations by *kind*: multiply-accumulates for the arithmetic kinds, elements for the
norms. A convention weighs the kinds. ``flops`` is the only place where a MAC becomes two FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from e4profile.errors import UnknownNameError

CONVOLUTION = "convolution"
LINEAR = "linear"
AGGREGATION = "aggregation"
ATTENTION = "attention"
BATCH_NORM = "batch_norm"
GROUP_NORM = "group_norm"

MAC_KINDS = (CONVOLUTION, LINEAR, AGGREGATION, ATTENTION)
"""Kinds whose unit is one multiply-accumulate that really runs."""

NORM_KINDS = (BATCH_NORM, GROUP_NORM)
"""Kinds whose unit is one normalised element."""


@dataclass(frozen=True)
class Convention:
    """A named rule for adding up operations: a weight per kind, 0 for a kind that is not named."""

    name: str
    meaning: str
    weights: Mapping[str, int]

    def total(self, operations: Mapping[str, int]) -> int:
        """The weighted sum of operations by kind."""
        return sum(self.weights.get(kind, 0) * amount for kind, amount in operations.items())


CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention(
            "macs",
            "multiply-accumulates of convolutions, linear maps, aggregation and attention",
            dict.fromkeys(MAC_KINDS, 1),
        ),
        Convention(
            "flops",
            "2 x macs",
            dict.fromkeys(MAC_KINDS, 2),
        ),
        Convention(
            "printed",
            "convolution and linear MACs plus 5 per normalised element; aggregation, ReLU, bias and pooling 0 "
            "(reproduces Tables 1-3 of He et al. 2021)",
            {CONVOLUTION: 1, LINEAR: 1, BATCH_NORM: 5, GROUP_NORM: 5},
        ),
        Convention(
            "fvcore",
            "what fvcore counts in evaluation mode: convolution and linear MACs, 2 per batch-norm element, "
            "5 per group-norm element; aggregation 0",
            {CONVOLUTION: 1, LINEAR: 1, BATCH_NORM: 2, GROUP_NORM: 5},
        ),
    )
}


def convention(name: str) -> Convention:
    """The convention of that name.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if name not in CONVENTIONS:
        raise UnknownNameError("convention", name, CONVENTIONS)
    return CONVENTIONS[name]
