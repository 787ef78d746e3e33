"""One network through every counter: the closed form, what runs, and what the stock counters say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from e4profile.cards import Card
from e4profile.compare import WITNESSED_KINDS, LayerDifference, differences
from e4profile.conventions import convention
from e4profile.counters import COUNTERS
from e4profile.counters.base import Count
from e4profile.counters.closed_form import count_closed_form, printed_form
from e4profile.counters.dispatch import count_dispatch
from e4profile.counters.gap import Gap, explain
from e4profile.counters.state import one_thread
from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
from e4profile.layers.containers import trace

_REAL_RUN_MACS = 10**11
_REAL_RUN_PARAMS = 2 * 10**8


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

    @property
    def differences(self) -> list[LayerDifference]:
        """Where closed form and dispatch disagree."""
        return differences(self.closed, self.dispatch)

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
        return _measure(model, lambda: card.build("cpu"), shape, counters)
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, E4ProfileError):
            raise
        raise SettingError(f"{card.name} cannot run on an input {shape}: {_why(model, shape, error)}") from error


def measure_module(
    model: nn.Module, input_shape: tuple[int, ...], counters: Sequence[str] = COUNTERS
) -> Measurement:
    """Count any module; it is left as it was found.

    A module that has no closed form (a part without one, or a container that passes no shapes on) gets an empty
    one, and ``failures`` says why.

    Args:
        model: on any device.
        input_shape: (B, ...).
        counters: which third-party counters to ask besides.

    Raises:
        UnknownNameError: for a counter that does not exist.
        Whatever the model's forward raises.
    """
    return _measure(model, lambda: model, input_shape, counters)


def _why(model: nn.Module, shape: tuple[int, ...], error: Exception) -> str:
    # the closed form follows the same shapes and names the layer that they do not fit
    try:
        trace(model, shape)
    except SettingError as reason:
        return str(reason)
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _measure(
    model: nn.Module, real: Callable[[], nn.Module], shape: tuple[int, ...], counters: Sequence[str]
) -> Measurement:
    for name in counters:
        if name not in COUNTERS:
            raise UnknownNameError("counter", name, COUNTERS)
    raw: dict[str, Count] = {}
    failures: dict[str, str] = {}
    try:
        closed = count_closed_form(model, shape)
        printed_params, printed_macs = printed_form(model, shape)
    except SettingError as error:
        closed, printed_params, printed_macs = Count("closed form", "", ()), 0, 0
        failures["closed-form"] = str(error)
    dispatch = count_dispatch(model, (torch.empty(shape, device="meta"),))
    third_party = [name for name in counters if name in ("fvcore", "thop")]
    if third_party and (reason := _too_large(dispatch)):
        failures |= dict.fromkeys(third_party, reason)
    elif third_party:
        runnable = real()
        device = next((parameter.device for parameter in runnable.parameters()), torch.device("cpu"))
        image = torch.zeros(shape, device=device)
        for name in third_party:
            _try_counter(name, runnable, image, raw, failures)
    return Measurement(closed, dispatch, printed_params, printed_macs, raw, failures)


def _too_large(counted: Count) -> str | None:
    if counted.macs > _REAL_RUN_MACS or counted.params > _REAL_RUN_PARAMS:
        return (
            f"not run: it executes the real network, and {counted.params:,} parameters with {counted.macs:,} MACs are "
            f"beyond its limit here ({_REAL_RUN_PARAMS:,} and {_REAL_RUN_MACS:,})"
        )
    return None


def raw_counter(name: str) -> Callable[[nn.Module, Sequence[Any]], Count]:
    """A third-party counter by name; importing the counter itself happens when it is called."""
    if name == "fvcore":
        from e4profile.counters.fvcore_counter import count_fvcore

        return count_fvcore
    if name == "thop":
        from e4profile.counters.thop_counter import count_thop

        return count_thop
    raise SettingError(f"{name!r} is not a third-party counter")


def _try_counter(
    name: str, model: nn.Module, image: torch.Tensor, raw: dict[str, Count], failures: dict[str, str]
) -> None:
    # whatever a third-party counter raises belongs in its own column, where the reader sees it
    try:
        with one_thread():
            raw[name] = raw_counter(name)(model, (image,))
    except Exception as error:
        failures[name] = f"{type(error).__name__}: {_first_line(error)}"
