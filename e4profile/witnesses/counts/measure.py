"""One network through every counter: the closed form, what runs, and what the stock counters say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import nn

from e4profile.conventions import convention
from e4profile.errors import SettingError, some_of
from e4profile.subjects.copies import materialised
from e4profile.subjects.inputs import Example, as_example
from e4profile.subjects.subject import Subject
from e4profile.witnesses.counts import COUNTERS
from e4profile.witnesses.counts.base import WITNESSED_KINDS, Count, LayerDifference, added, differences
from e4profile.witnesses.counts.closed_form import count_forms
from e4profile.witnesses.counts.dispatch import count_run
from e4profile.witnesses.counts.gap import Gap, explain
from e4profile.witnesses.counts.recorded import RecordedShapes, count_recorded
from e4profile.witnesses.counts.registry import find_counters
from e4profile.witnesses.counts.stock import ask

EVERY_LAYER_FORMED = "closed form: every layer has one; the shapes between them are recorded from the run"


@dataclass(frozen=True)
class Coverage:
    """How much of what runs lies in layers that have a closed form, and is proven by it.

    Attributes:
        macs: MACs in them.
        of_macs: MACs that run.
        params: parameters in them.
        of_params: all parameters.
        whole: whether nothing that has parameters or runs operations lies outside of them.
    """

    macs: int
    of_macs: int
    params: int
    of_params: int
    whole: bool

    @property
    def percent(self) -> Fraction:
        """Of the MACs; of the parameters where no MACs run."""
        part, of = (self.macs, self.of_macs) if self.of_macs else (self.params, self.of_params)
        return Fraction(100 * part, of) if of else Fraction(100 * self.whole)

    def __str__(self) -> str:
        if self.whole:
            return "whole"
        pairs = ((self.macs, self.of_macs, "MACs"), (self.params, self.of_params, "parameters"))
        said = [f"{_percent(part, of)}% of the {unit}" for part, of, unit in pairs if of]
        return f"partial: {', '.join(said) or 'not every operation'}" if self.macs or self.params else "none"


def _percent(part: int, of: int) -> str:
    """With as many decimals as set it apart from nothing and from all."""
    share = Decimal(100 * part) / Decimal(of)
    least = min(share, 100 - share) or Decimal(1)
    return f"{share:.{max(0, -least.adjusted())}f}"


@dataclass(frozen=True)
class Measurement:
    """Every counter's view of one network.

    Attributes:
        closed: the closed form.
        dispatch: what one forward pass executes.
        raw: the third-party counters that gave an answer.
        failures: why a third-party counter gave none, by counter.
        printed_params: parameters by the source's printed closed form.
        printed_macs: MACs by the source's printed closed form.
    """

    closed: Count
    dispatch: Count
    printed_params: int
    printed_macs: int
    raw: Mapping[str, Count] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    sizes: Literal["topology", "recorded", "none"] = "topology"
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> list[LayerDifference]:
        """Where closed form and dispatch disagree; with recorded shapes, among the layers that have a form."""
        found = differences(self.closed, self.dispatch)
        if self.sizes == "topology":
            return found
        formed = {layer.path for layer in self.closed.layers}
        return [difference for difference in found if difference.path in formed]

    @property
    def agrees(self) -> bool:
        """Closed form and dispatch agree in every layer, and no operator is unknown."""
        return "closed-form" not in self.failures and not self.differences and not self.dispatch.uncounted

    @property
    def coverage(self) -> Coverage:
        """How much of what runs has a closed form."""
        formed = {layer.path for layer in self.closed.layers}
        ran = self.dispatch.rolled_up(formed)
        inside = [layer for path, layer in ran.items() if path in formed]
        outside = any(layer.params or layer.operations for path, layer in ran.items() if path not in formed)
        whole = self.sizes == "topology" or (self.sizes == "recorded" and not outside)
        macs, params = (sum(getattr(layer, name) for layer in inside) for name in ("macs", "params"))
        return Coverage(macs, self.dispatch.macs, params, self.dispatch.params, whole)

    @property
    def gaps(self) -> dict[str, Gap]:
        """Each raw counter's deviation from what runs, cause by cause."""
        return {name: explain(count, self.dispatch) for name, count in self.raw.items()}

    def total(self, convention_name: str) -> int:
        """The built network's cost under any convention.

        Kinds that run come from the dispatch counter; kinds that only a publication's rule knows come from the
        closed form.
        """
        return convention(convention_name).total(self._operations)

    def beyond_macs(self, convention_name: str) -> dict[str, int]:
        """What a convention charges beyond the MACs that run, or leaves out of them, by kind.

        ``total("macs")`` plus these amounts is ``total(convention_name)``.
        """
        weights, macs = convention(convention_name).weights, convention("macs").weights
        amounts = {
            kind: (weights.get(kind, 0) - macs.get(kind, 0)) * amount for kind, amount in self._operations.items()
        }
        return {kind: amount for kind, amount in sorted(amounts.items()) if amount}

    @property
    def _operations(self) -> dict[str, int]:
        ruled = {kind: n for kind, n in self.closed.operations.items() if kind not in WITNESSED_KINDS}
        return {**self.dispatch.operations, **added(*self.dispatch.elements.values()), **ruled}

    @property
    def versions(self) -> dict[str, str]:
        """Counter versions by counter."""
        counts = {"closed-form": self.closed, "dispatch": self.dispatch, **self.raw}
        return {name: count.version for name, count in counts.items()}


def measure(subject: Subject, counters: Sequence[str] = COUNTERS) -> Measurement:
    """Every counter's view of a network on its own inputs.

    The network is built once. The closed form and the dispatch counter need no values of it; a third-party counter
    runs it; when it is missing or fails, its reason stands in ``failures`` and the
    others go on.

    Raises:
        SettingError: for arguments that the network refuses, or an input that it cannot take.
        UserCodeError: for what a user-defined model raises, naming the module in which it happened.
        UnknownNameError: for a counter that does not exist.
    """
    model = subject.build_to_count(run=any(spec.raw for spec in find_counters(counters)))
    example = subject.example("meta" if subject.meta_is_enough else "cpu")
    with subject.guarded():
        return _measure(materialised(model, example), subject.runnable, example, counters)


def measure_module(model: nn.Module, input_shape: Any, counters: Sequence[str] = COUNTERS) -> Measurement:
    """Count any module; it is left as it was found.

    The closed form follows the topology where it can. Otherwise each layer that has one gets it at the shape
    recorded from the run, which ``sizes`` and ``notes`` say; where no layer has one it is empty, and ``failures``
    says why. A model that cannot run on the meta device runs for real, with a note.

    Args:
        model: on any device.
        input_shape: (B, ...); or a tensor, a dict of keyword inputs, a sequence of shapes and tensors, or an
            ``Example``.
        counters: which stock counters to ask besides.

    Raises:
        UnknownNameError: for a counter that does not exist.
        SettingError: for inputs that are none.
        Whatever the model's forward raises.
    """
    example = example_for(model, input_shape)
    return _measure(materialised(model, example), lambda counted: counted, example, counters)


def example_for(model: nn.Module, inputs: Any) -> Example:
    """Inputs of a library call (see ``as_example``) in the model's own floating dtype."""
    floating = (tensor for tensor in model.parameters() if tensor.is_floating_point())
    return as_example(inputs, next((tensor.dtype for tensor in floating), torch.get_default_dtype()))


def _measure(
    model: nn.Module, real: Callable[[nn.Module], nn.Module], example: Example, counters: Sequence[str]
) -> Measurement:
    asked = find_counters(counters)
    failures: dict[str, str] = {}
    strict = _strict(model, example)
    dispatch, found, ran = count_run(model, example, RecordedShapes)
    notes = [*ran]
    if isinstance(strict, str):
        closed, printed_params, printed_macs = count_recorded(model, found), 0, 0
        sizes: Literal["topology", "recorded", "none"] = "recorded" if closed.layers else "none"
        places: dict[str, list[str]] = {}
        for path, reason in found.reasons.items():
            places.setdefault(reason, []).append(path or "the network")
        why = [f"by topology, {strict}", *(f"{some_of(paths)}: {reason}" for reason, paths in places.items())]
        if closed.layers and _all_formed(closed, dispatch):
            notes.append(EVERY_LAYER_FORMED)
        elif closed.layers:
            notes += [*closed.notes, *(f"no closed form: {reason}" for reason in dict.fromkeys(why))]
        else:
            failures["closed-form"] = "; ".join(dict.fromkeys(why))
    else:
        (closed, printed_params, printed_macs), sizes = strict, "topology"
    raw, refused = ask([spec for spec in asked if spec.raw], lambda: real(model), example, dispatch)
    failures |= refused
    return Measurement(closed, dispatch, printed_params, printed_macs, raw, failures, sizes, tuple(notes))


def _all_formed(closed: Count, dispatch: Count) -> bool:
    """Whether nothing with parameters or operations lies outside the layers that have a closed form."""
    formed = {layer.path for layer in closed.layers}
    return not dispatch.uncounted and all(
        path in formed for path, layer in dispatch.rolled_up(formed).items() if layer.params or layer.operations
    )


def _strict(model: nn.Module, example: Example) -> tuple[Count, int, int] | str:
    """The closed form by topology, or why there is none."""
    shape = example.single_shape
    if shape is None:
        return f"shapes follow from one input tensor, not from ({example})"
    try:
        return count_forms(model, shape)
    except SettingError as error:
        return str(error)
