"""One network through every counter: the closed form, what runs, and what the stock counters say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from e4profile.conventions import convention
from e4profile.errors import E4ProfileError, SettingError
from e4profile.layers.containers import trace
from e4profile.networks.cards import Card
from e4profile.subjects.inputs import Example, as_example
from e4profile.witnesses.counts import COUNTERS
from e4profile.witnesses.counts.base import WITNESSED_KINDS, Count, LayerDifference, differences
from e4profile.witnesses.counts.closed_form import count_closed_form, printed_form
from e4profile.witnesses.counts.dispatch import count_run
from e4profile.witnesses.counts.gap import Gap, explain
from e4profile.witnesses.counts.recorded import RecordedShapes, count_recorded
from e4profile.witnesses.counts.registry import find_counters
from e4profile.witnesses.counts.stock import ask, first_line

EVERY_LAYER_FORMED = "closed form: every layer has one; the shapes between them are recorded from the run"


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
        return {**self.dispatch.operations, **ruled}

    @property
    def versions(self) -> dict[str, str]:
        """Counter versions by counter."""
        counts = {"closed-form": self.closed, "dispatch": self.dispatch, **self.raw}
        return {name: count.version for name, count in counts.items()}


def measure(card: Card, counters: Sequence[str] = COUNTERS, batch_size: int = 1) -> Measurement:
    """Build a card's network and count it.

    The closed form and the dispatch counter need no memory. A third-party counter runs the real network; when
    it is missing or fails, its reason stands in ``failures`` and the others go on.

    Raises:
        SettingError: for arguments that the network refuses, or an input that it cannot take.
        UnknownNameError: for a counter that does not exist.
    """
    shape = card.input_shape(batch_size)
    model = card.build("meta")
    try:
        example = Example((torch.empty(shape, device="meta"),))
        return _measure(model, lambda: card.build("cpu"), example, counters)
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, E4ProfileError):
            raise
        raise SettingError(f"{card.name} cannot run on an input {shape}: {_why(model, shape, error)}") from error


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
    return _measure(model, lambda: model, example_for(model, input_shape), counters, fallback=True)


def example_for(model: nn.Module, inputs: Any) -> Example:
    """Inputs of a library call (see ``as_example``) in the model's own floating dtype."""
    floating = (tensor for tensor in model.parameters() if tensor.is_floating_point())
    return as_example(inputs, next((tensor.dtype for tensor in floating), torch.get_default_dtype()))


def _why(model: nn.Module, shape: tuple[int, ...], error: Exception) -> str:
    # the closed form follows the same shapes and names the layer that they do not fit
    try:
        trace(model, shape)
    except SettingError as reason:
        return str(reason)
    return first_line(error)


def _measure(
    model: nn.Module,
    real: Callable[[], nn.Module],
    example: Example,
    counters: Sequence[str],
    *,
    fallback: bool = False,
) -> Measurement:
    asked = find_counters(counters)
    failures: dict[str, str] = {}
    strict = _strict(model, example)
    dispatch, found, ran = count_run(model, example, RecordedShapes, fallback=fallback)
    notes = [*ran]
    if isinstance(strict, str):
        closed, printed_params, printed_macs = count_recorded(model, found), 0, 0
        sizes: Literal["topology", "recorded", "none"] = "recorded" if closed.layers else "none"
        parts = (f"{path or 'the network'}: {reason}" for path, reason in found.reasons.items())
        why = [f"by topology, {strict}", *parts]
        if closed.layers and _all_formed(closed, dispatch):
            notes.append(EVERY_LAYER_FORMED)
        elif closed.layers:
            notes += [*closed.notes, *(f"no closed form: {reason}" for reason in dict.fromkeys(why))]
        else:
            failures["closed-form"] = "; ".join(dict.fromkeys(why))
    else:
        (closed, printed_params, printed_macs), sizes = strict, "topology"
    raw, refused = ask([spec for spec in asked if spec.raw], real, example, dispatch)
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
        return (count_closed_form(model, shape), *printed_form(model, shape))
    except SettingError as error:
        return str(error)
