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
ATTENTION_NAIVE = "attention_naive"
BATCH_NORM = "batch_norm"
GROUP_NORM = "group_norm"
EXPANSION = "expansion"
TRANSFORM = "transform"
EXPANSION_REFERENCE = "expansion_reference"
POINTWISE_AT_OUTPUT = "pointwise_at_output"
DENSE_AS_FACTORS = "dense_as_factors"
NORM_WEIGHT = "norm_weight"
CONTAINER_WEIGHT = "container_weight"
BELOW_DEPTH = "below_depth"

MAC_KINDS = (CONVOLUTION, LINEAR, AGGREGATION, ATTENTION)
"""Kinds whose unit is one multiply-accumulate that really runs."""

NORM_KINDS = (BATCH_NORM, GROUP_NORM)
"""Kinds whose unit is one normalised element."""

FILTER_KINDS = (EXPANSION,)
"""Kinds of arithmetic on filters alone: once per forward whatever the batch, and not again at inference with
fixed weights. They weigh 0 in ``macs``."""

ADDITION_KINDS = (TRANSFORM,)
"""Kinds whose unit is one sum or difference, of maps or filters that go to the irrep basis and back. No MACs: every
convention weighs them 0."""

CHARGE_KINDS = (POINTWISE_AT_OUTPUT, DENSE_AS_FACTORS, NORM_WEIGHT, CONTAINER_WEIGHT, BELOW_DEPTH)
"""Kinds by which a published tool's charge differs from what runs, one per cause; may be negative."""

NAIVE_KINDS = (ATTENTION_NAIVE, EXPANSION_REFERENCE)
"""Kinds of products that a published implementation spells out and ours does not execute: they weigh 0 in
``macs`` and no counter of a running network sees them."""


@dataclass(frozen=True)
class Convention:
    """A named rule for adding up operations: a weight per kind, 0 for a kind that is not named.

    ``published_rule`` marks a publication's own tool whose figures are not what runs: a cell that follows from
    it alone is reproduced *under a named rule*.
    """

    name: str
    meaning: str
    weights: Mapping[str, int]
    published_rule: bool = False

    def total(self, operations: Mapping[str, int]) -> int:
        """The weighted sum of operations by kind."""
        return sum(self.weights.get(kind, 0) * amount for kind, amount in operations.items())


_AT_OUTPUT = {POINTWISE_AT_OUTPUT: 1, DENSE_AS_FACTORS: 1}

CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention(
            "macs",
            "multiply-accumulates of convolutions, linear maps, aggregation and attention",
            dict.fromkeys(MAC_KINDS, 1),
        ),
        Convention("flops", "2 x macs", dict.fromkeys(MAC_KINDS, 2)),
        Convention(
            "printed",
            "convolution and linear MACs plus 5 per normalised element; aggregation, ReLU, bias and pooling 0; "
            "self-attention as its published einsums, gates 0 (reproduces Tables 1-3 of He et al. 2021; the paper's "
            "formula, section 4.2, counts the aggregation too: see `e4profile formula e4`)",
            {CONVOLUTION: 1, LINEAR: 1, ATTENTION_NAIVE: 1, BATCH_NORM: 5, GROUP_NORM: 5},
        ),
        Convention(
            "fvcore",
            "what fvcore counts in evaluation mode: convolution and linear MACs, 2 per batch-norm element, "
            "5 per group-norm element; aggregation 0; self-attention as its published einsums, gates 0",
            {CONVOLUTION: 1, LINEAR: 1, ATTENTION_NAIVE: 1, BATCH_NORM: 2, GROUP_NORM: 5},
        ),
        Convention("convolution", "convolution MACs that run, nothing else", {CONVOLUTION: 1}),
        Convention(
            "weights-at-output",
            "convolutions, each charged weight elements x group order x output positions: the pointwise "
            "factor of a separable convolution runs at input positions and is charged at output positions, "
            "and a pre-multiplied dense filter bank is charged as its factors (Lengyel & van Gemert 2021)",
            {CONVOLUTION: 1, **_AT_OUTPUT},
            published_rule=True,
        ),
        Convention(
            "summary-tool",
            "torchinfo as released with Lengyel & van Gemert 2021: weights-at-output, plus every linear and "
            "norm weight once, plus every weight element once more for each container module (block, stage, "
            "shortcut, separable pair) around it; biases 0",
            {CONVOLUTION: 1, LINEAR: 1, **_AT_OUTPUT, NORM_WEIGHT: 1, CONTAINER_WEIGHT: 1},
            published_rule=True,
        ),
        Convention(
            "summary-tool-depth-3",
            "summary-tool without the modules deeper than three levels, which in the ResNets are the "
            "convolution and the norm of a shortcut; the shortcut container itself is still charged",
            {CONVOLUTION: 1, LINEAR: 1, **_AT_OUTPUT, NORM_WEIGHT: 1, CONTAINER_WEIGHT: 1, BELOW_DEPTH: 1},
            published_rule=True,
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
