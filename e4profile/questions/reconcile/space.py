"""The declared space: which arguments may differ from the network's own, and which rules may have counted.

A simple explanation differs from the card and from plain MACs in few things, so both are lists of differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from typing import Any

from e4profile.conventions import (
    AGGREGATION,
    ATTENTION,
    ATTENTION_NAIVE,
    BATCH_NORM,
    BELOW_DEPTH,
    CONTAINER_WEIGHT,
    CONVENTIONS,
    CONVOLUTION,
    DENSE_AS_FACTORS,
    EXPANSION,
    EXPANSION_REFERENCE,
    GROUP_NORM,
    LINEAR,
    NORM_WEIGHT,
    POINTWISE_AT_OUTPUT,
    convention,
)
from e4profile.errors import SettingError, UnknownNameError
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import Varied, parse_varied

Change = tuple[str, Any]
"""One argument and its value instead of the card's."""

NORM_WEIGHTS = tuple(range(8))
"""What a rule may charge per normalised element."""

EVALUATION_NORMS = (2, 5)
"""Per batch-norm and group-norm element, by fvcore in evaluation mode; in training mode it is 5 for both."""

_WIDTH_STEPS = range(-4, 5)


def _widths(network: Subject) -> list[Any]:
    width = network.argument("width")
    return [width + step for step in _WIDTH_STEPS if width + step > 0] if isinstance(width, int) else []


def _all_widths(network: Subject) -> list[Any]:
    widths = network.argument("widths")
    if not widths:
        return []
    first = widths[0]
    return [
        [(2 * (first + step) * width + first) // (2 * first) for width in widths]
        for step in _WIDTH_STEPS
        if first + step > 0
    ]


def _values(*values: Any) -> Callable[[Subject], list[Any]]:
    return lambda _: list(values)


def _ways_to_multiply_factors(network: Subject) -> list[Any]:
    """Of separable layers; how group convolutions run changes no published figure."""
    ways = ["factored", "naive"]
    return ways if network.argument("execution") in ways else []


AXES: Mapping[str, Callable[[Subject], list[Any]]] = {
    "encoder_norm": _values(False, True),
    "squeeze_affine": _values("field", "channel"),
    "concatenate": _values("both", "kernel", "encoder", "none"),
    "layer": _values("e4", "group"),
    "kind": _values("full", "c", "g", "gc"),
    "execution": _ways_to_multiply_factors,
    "stride_by": _values("conv", "max_pool"),
    "reduction": _values(1, 2, 4, 8),
    "slices": _values(1, 2, 4, 8),
    "channels_per_slice": _values(1, 2, 4, 8),
    "kernel": _values(3, 5, 7),
    "width": _widths,
    "widths": _all_widths,
}
"""The arguments that are searched, where a network takes them; a width is searched to 4 fields on either side.

``stride_by`` is the resolution at which strided group convolutions are charged.
"""

_OF_E4_LAYERS = {"encoder_norm", "squeeze_affine", "concatenate", "reduction", "slices", "channels_per_slice"}

_SAME_AXIS = {"channels_per_slice": "slices"}


def axes_of(networks: Sequence[Subject], vary: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The values other than the network's own for every argument that all the networks take.

    Args:
        networks: several whose arguments mean what they do in layers, or of one builder.
        vary: what is searched: an argument, or one with its values (``width=8..64``, ``act=relu,gelu``). When
            None, all of ``AXES`` that the networks take, or every argument that is a whole number (4 on either side)
            or true or false.

    Raises:
        UnknownNameError: for an argument that is not searched, or that a builder does not take.
        SettingError: for one that a network does not take, or whose values have to be said.
    """
    given = [parse_varied(text) for text in vary or ()]
    repeated = {one.name for place, one in enumerate(given) for other in given[:place] if one.name == other.name}
    if repeated:
        raise SettingError(f"--vary {min(repeated)}: given twice")
    if not all(one.arguments_as_in_layers for one in networks):
        if len({one.topology for one in networks}) > 1:
            raise SettingError(
                "a user-defined model is reconciled alone, or beside cards of the same builder: give one network"
            )
        return _whole_number_axes(networks, given if vary is not None else None)
    chosen = {one.name: one.given for one in given}
    for name, values in chosen.items():
        if values is None and name not in AXES:
            raise UnknownNameError("searched argument", name, AXES)
        for network in networks:
            if not network.accepts(name):
                raise SettingError(f"{network.name} takes no {name}")
    found: dict[str, list[Any]] = {}
    for name in AXES if vary is None else sorted(chosen, key=_place):
        if not all(network.accepts(name) for network in networks):
            continue
        own = [network.argument(name) for network in networks]
        values = chosen.get(name)
        if values is None and name in ("width", "widths") and any(value != own[0] for value in own):
            # one width for networks of several widths would not be a small difference
            continue
        tried = AXES[name](networks[0]) if values is None else values
        different = [value for value in tried if any(value != one for one in own)]
        if different:
            found[name] = different
    return found


def _place(name: str) -> int:
    return list(AXES).index(name) if name in AXES else len(AXES)


def _whole_number_axes(networks: Sequence[Subject], given: Sequence[Varied] | None) -> dict[str, list[Any]]:
    """The same for networks of one builder; where they differ in an argument, its values have to be said."""
    first = networks[0]
    if given is None:
        given = [
            Varied(name)
            for name in first.parameters
            if isinstance(first.argument(name), int)
            and all(one.argument(name) == first.argument(name) for one in networks)
        ]
    found: dict[str, list[Any]] = {}
    for one in given:
        first.check_accepts(one.name)
        every = [network.argument(one.name) for network in networks]
        own, values = every[0], one.given
        if values is None:
            if isinstance(own, bool):
                values = (not own,)
            elif isinstance(own, int):
                values = tuple(own + step for step in _WIDTH_STEPS if own + step > 0)
            else:
                raise SettingError(
                    f"{first.name}: {one.name} (={own!r}) is not a whole number: say which values it may take, for "
                    f"example --vary {one.name}=8..64"
                )
        # True equals 1, but is another argument
        different = [value for value in values if any((type(value), value) != (type(own), own) for own in every)]
        if different:
            found[one.name] = different
    return found


def _changed_together(axes: Mapping[str, Sequence[Any]], changes: int) -> Iterator[tuple[str, ...]]:
    """Every set of at most ``changes`` arguments, the smallest sets first."""
    for count in range(min(changes, len(axes)) + 1):
        for names in combinations(axes, count):
            if len({_SAME_AXIS.get(name, name) for name in names}) == count:
                yield names


def space_size(axes: Mapping[str, Sequence[Any]], changes: int) -> int:
    """How many sets of changed arguments there are, those that change nothing for lack of E4 layers too."""
    return sum(prod(len(axes[name]) for name in names) for names in _changed_together(axes, changes))


def architectures(
    networks: Sequence[Subject], axes: Mapping[str, Sequence[Any]], changes: int
) -> Iterator[tuple[Change, ...]]:
    """Every set of at most ``changes`` changed arguments, the smallest sets first.

    The same changes go to all networks; whether one can be built with them is for the caller to find out.
    """
    for names in _changed_together(axes, changes):
        for values in product(*(axes[name] for name in names)):
            changed = tuple(zip(names, values, strict=True))
            if not _says_nothing(networks, changed):
                yield changed


def _says_nothing(networks: Sequence[Subject], changes: tuple[Change, ...]) -> bool:
    """Whether an argument of E4 layers is changed where no network has such layers."""
    if not any(name in _OF_E4_LAYERS for name, _ in changes):
        return False
    if not all(one.arguments_as_in_layers and one.accepts("layer") for one in networks):
        return False
    return "e4" not in [dict(changes).get("layer", one.argument("layer")) for one in networks]


@dataclass(frozen=True)
class Rule:
    """One way of counting: a weight per kind, and how it differs from plain MACs.

    Attributes:
        weights: per kind of the network's operations.
        differences: from the convention ``macs``, a phrase each.
        name: the declared convention with the same weights; None where there is none.
    """

    weights: Mapping[str, int]
    differences: tuple[str, ...]
    name: str | None = None

    def __str__(self) -> str:
        text = "; ".join(self.differences) or "macs"
        said = not self.differences or self.differences == (f"the rule {self.name}",)
        return f"{text} (= {self.name})" if self.name and not said else text


_Option = tuple[str | None, Mapping[str, int]]


def _options(kinds: frozenset[str]) -> Iterator[list[_Option]]:
    def toggle(kind: str, phrase: str) -> list[_Option]:
        return [(None, {kind: 0}), (phrase, {kind: 1})]

    if LINEAR in kinds:
        yield [(None, {LINEAR: 1}), ("linear layers 0", {LINEAR: 0})]
    if AGGREGATION in kinds:
        yield [(None, {AGGREGATION: 1}), ("aggregation 0", {AGGREGATION: 0})]
    if kinds & {ATTENTION, ATTENTION_NAIVE}:
        yield [
            (None, {ATTENTION: 1, ATTENTION_NAIVE: 0}),
            *_if(ATTENTION_NAIVE in kinds, "attention as its published einsums", {ATTENTION_NAIVE: 1}),
            *_if(ATTENTION in kinds, "attention 0", {ATTENTION: 0}),
        ]
    if kinds & {POINTWISE_AT_OUTPUT, DENSE_AS_FACTORS}:
        yield [
            (None, {POINTWISE_AT_OUTPUT: 0, DENSE_AS_FACTORS: 0}),
            ("separable weights at output resolution", {POINTWISE_AT_OUTPUT: 1, DENSE_AS_FACTORS: 1}),
        ]
    if NORM_WEIGHT in kinds:
        yield toggle(NORM_WEIGHT, "norm weights once")
    if CONTAINER_WEIGHT in kinds:
        yield toggle(CONTAINER_WEIGHT, "weights again per container")
    if BELOW_DEPTH in kinds:
        yield toggle(BELOW_DEPTH, "shortcuts omitted")
    if kinds & {EXPANSION, EXPANSION_REFERENCE}:
        yield [
            (None, {EXPANSION: 0, EXPANSION_REFERENCE: 0}),
            *_if(EXPANSION in kinds, "filter expansion", {EXPANSION: 1}),
            *_if(EXPANSION_REFERENCE in kinds, "filter expansion per field pair", {EXPANSION_REFERENCE: 1}),
        ]


def _if(present: bool, phrase: str, weights: Mapping[str, int]) -> list[_Option]:
    return [(phrase, weights)] if present else []


def _norm_options(kinds: frozenset[str]) -> list[tuple[tuple[str, ...], Mapping[str, int]]]:
    found: list[tuple[tuple[str, ...], Mapping[str, int]]] = []
    batch_weights = NORM_WEIGHTS if BATCH_NORM in kinds else (0,)
    group_weights = NORM_WEIGHTS if GROUP_NORM in kinds else (0,)
    for batch, group in product(batch_weights, group_weights):
        phrases: tuple[str, ...]
        if {BATCH_NORM, GROUP_NORM} <= kinds and batch == group and batch > 0:
            phrases = (f"{batch} per norm element",)
        elif (batch, group) == EVALUATION_NORMS:
            phrases = ("evaluation norms: 2 per batch-norm, 5 per group-norm element",)
        else:
            phrases = (
                *((f"{batch} per batch-norm element",) if batch else ()),
                *((f"{group} per group-norm element",) if group else ()),
            )
        found.append((phrases, {BATCH_NORM: batch, GROUP_NORM: group}))
    return found


_DOUBLED = (CONVOLUTION, LINEAR, AGGREGATION, ATTENTION, ATTENTION_NAIVE, EXPANSION, EXPANSION_REFERENCE,
            POINTWISE_AT_OUTPUT, DENSE_AS_FACTORS, BELOW_DEPTH)  # fmt: skip


def rules(kinds: frozenset[str]) -> list[Rule]:
    """Every rule that treats these kinds differently, the fewest differences first."""
    found: list[Rule] = []
    norm_options, other_options = _norm_options(kinds), list(product(*_options(kinds)))
    for factor in (1, 2):
        doubled = ("2 FLOPs per MAC",) if factor == 2 else ()
        for (norm_phrases, norm_weights), rest in product(norm_options, other_options):
            weights = {CONVOLUTION: 1, **norm_weights}
            for _, part in rest:
                weights |= part
            weights = {
                kind: weight * (factor if kind in _DOUBLED else 1) for kind, weight in weights.items() if kind in kinds
            }
            phrases = tuple(phrase for phrase, _ in rest if phrase is not None)
            found.append(Rule(weights, (*doubled, *norm_phrases, *phrases), _name(weights, kinds)))
    found.sort(key=lambda rule: len(rule.differences))
    return found


def named_rules(names: Sequence[str]) -> list[Rule]:
    """The rules of these conventions as they are; each is one difference from plain MACs."""
    return [Rule(convention(name).weights, (f"the rule {name}",), name) for name in names]


def _name(weights: Mapping[str, int], kinds: frozenset[str]) -> str | None:
    for name, one in CONVENTIONS.items():
        if all(one.weights.get(kind, 0) == weights.get(kind, 0) for kind in kinds):
            return name
    return None
