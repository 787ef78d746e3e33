"""What is counted as what, declared once.

Counters report operations by *kind*: multiply-accumulates for the arithmetic kinds, elements for the
norms and for what runs element by element. A convention weighs the kinds: one of the table below, one of the files in
``rules/``, or a user's file. A MAC becomes two FLOPs only there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from e4profile.errors import SettingError, UnknownNameError, from_table, parse_toml, read_text

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


_OF_OUTPUTS = """abs add clamp compare div elu erf exp gelu hardsigmoid hardswish hardtanh leaky_relu log maximum
    minimum mish mul neg pow prelu relu relu6 rsqrt selu sigmoid silu softplus sqrt square sub tanh where
    upsample_bicubic upsample_bilinear upsample_nearest grid_sampler"""
_OF_INPUTS = """log_softmax softmax max mean min sum var adaptive_avg_pool adaptive_max_pool avg_pool max_pool"""

ELEMENT_KINDS: Mapping[str, str] = {
    **dict.fromkeys(sorted(_OF_OUTPUTS.split()), "elements of the result"),
    **dict.fromkeys(sorted(_OF_INPUTS.split()), "elements of the input"),
    "other_elementwise": "elements of the result of any other operator that maps elements one by one",
    "attention_scaling": "elements of the queries and keys that fused attention scales",
    "attention_softmax": "elements of the softmax inside fused attention",
    "sum_outputs": "elements of the result of a sum",
    "norm_affine": "elements of norms that have a weight",
    "batch_norm_statistics": "elements of batch norms that compute mean and variance, as instance norms do",
    "convolution_bias": "elements of the results of convolutions with a bias",
    "linear_bias": "elements of the results of matrix products with a bias",
    "norm_weights": "parameters of norms, once per image",
    "embedding_weights": "parameters of embeddings, once per image",
}
"""Kinds of what runs element by element, and what their unit is. They are counted from a run alone, are no MACs, and
weigh 0 in every convention of the table below."""

KINDS = (*MAC_KINDS, *NORM_KINDS, *FILTER_KINDS, *ADDITION_KINDS, *NAIVE_KINDS, *CHARGE_KINDS, *ELEMENT_KINDS)
"""Every kind that a convention may weigh."""


@dataclass(frozen=True)
class Convention:
    """A named rule for adding up operations: a weight per kind, 0 for a kind that is not named.

    Attributes:
        name: on the command line.
        meaning: in words.
        weights: whole numbers by kind.
        published_rule: marks a publication's own tool whose figures are not what runs: a cell that follows from it
            alone is reproduced *under a named rule*.
        source: what the rule is that of.
        differences: where the tool of this rule reports another figure, a phrase each.
    """

    name: str
    meaning: str
    weights: Mapping[str, int]
    published_rule: bool = False
    source: str = ""
    differences: tuple[str, ...] = ()

    @property
    def elementwise(self) -> bool:
        """Whether it charges what runs element by element, which no closed form states."""
        return any(weight and kind in ELEMENT_KINDS for kind, weight in self.weights.items())

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


RULES = Path(__file__).parent / "rules"
"""The rules of counters and publications, a file of weights each."""


def rule_names() -> list[str]:
    """The names of the rules that come as files; none is read."""
    return sorted(file.stem for file in RULES.glob("*.toml"))


def convention(name: str) -> Convention:
    """The convention of that name, or the one in a ``.toml`` file.

    Raises:
        UnknownNameError: with the nearest names.
        SettingError: for a file that cannot be used, naming key, value and remedy.
    """
    if name in CONVENTIONS:
        return CONVENTIONS[name]
    if name.endswith(".toml"):
        file = Path(name)
        return _read(file, file.stat().st_mtime_ns if file.exists() else 0)
    if name not in rule_names():
        raise UnknownNameError("convention", name, (*CONVENTIONS, *rule_names()))
    return _shipped(name)


def all_conventions() -> dict[str, Convention]:
    """Those of the table, then those that come as files."""
    return {**CONVENTIONS, **{name: _shipped(name) for name in rule_names()}}


@cache
def _shipped(name: str) -> Convention:
    return _read(RULES / f"{name}.toml", 0)


@dataclass(frozen=True)
class _Written:
    """A convention as it is written."""

    meaning: str
    weights: dict[str, object]
    name: str = ""
    source: str = ""
    differences: list[str] = field(default_factory=list)


@lru_cache(maxsize=64)
def _read(file: Path, _changed: int) -> Convention:
    table = parse_toml(read_text(file), file)
    for key, example in (("meaning", 'meaning = "what it counts"'), ("weights", "[weights] with add = 1")):
        if key not in table and set(table) <= {"name", "meaning", "weights", "source", "differences"}:
            raise SettingError(f"{file}: {key}: missing; for example {example}")
    written = from_table(table, _Written, f"{file}: ")
    weights: dict[str, int] = {}
    for kind, weight in written.weights.items():
        if kind not in KINDS:
            raise SettingError(f"{file}: weights.{kind}: {UnknownNameError('kind of operation', kind, KINDS)}")
        if isinstance(weight, bool) or not isinstance(weight, int):
            raise SettingError(f"{file}: weights.{kind}: {weight!r} must be a whole number")
        weights[kind] = weight
    name = written.name or file.stem
    if name in CONVENTIONS or (name in rule_names() and file.parent != RULES):
        raise SettingError(f"{file}: name: {name!r} is a convention of e4profile; give it another name")
    return Convention(name, written.meaning, weights, source=written.source, differences=tuple(written.differences))
