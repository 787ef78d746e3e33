"""What was measured of a network's equivariance, and what it says: the verdict, the layers that break it, causes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from e4profile.groups import FiniteGroup
from e4profile.witnesses.equivariance.probe import Errors, worst_of

AT_INIT, RANDOMISED, TRAINED = "at_init", "randomised", "trained"
STATES = (AT_INIT, RANDOMISED, TRAINED)
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
"""Relative errors above these are no rounding of the dtype."""

_SHOWN_LAYERS = 8

EQUIVARIANT = "equivariant"
AT_INIT_ONLY = "equivariant at initialisation only"
NOT_RANDOMISED = "equivariant, but not with random parameters"
UNTIL_TRAINED = "equivariant until trained"
NOT_EQUIVARIANT = "not equivariant"
NOT_COMPARABLE = "not comparable"
"""How a verdict begins that is none; the reason and the remedy follow it."""


@dataclass(frozen=True)
class LayerErrors:
    """One layer's own relative errors.

    Attributes:
        path: dotted module path.
        layer: class name.
        errors: per state, ``max |f(g x) - g f(x)| / max |f(x)|`` by element; None for an element that is not
            in the layer's group.
        reason: why the layer says that it is not exact on its input, or None.
        inner: whether it is a part of another layer that is compared.
    """

    path: str
    layer: str
    errors: Mapping[str, Errors]
    reason: str | None
    inner: bool

    def worst(self, state: str) -> float | None:
        """The largest error in a state; None where nothing was compared."""
        return worst_of(self.errors.get(state, ()))


@dataclass(frozen=True)
class EquivarianceReport:
    """What was measured.

    Attributes:
        group: the group that acted.
        dtype: of the computation.
        tolerance: what counts as rounding.
        train_steps: optimiser steps before the state ``trained``.
        output: per state, the output's relative error by element.
        layers: the layers that were compared, in order of execution.
        not_compared: other layers with parameters, whose field types are unknown.
        notes: what a reader must know, a sentence each.
        constant: the states in which the output shows nothing, so that a small error is no proof.
        unshown: why small errors are no proof, and the remedy; None where they are.
        undecided: why large errors prove nothing against the network, and the remedy; None where they do.
        causes: what in the network's code breaks equivariance, a sentence each.
    """

    group: FiniteGroup
    dtype: str
    tolerance: float
    train_steps: int
    output: Mapping[str, Errors]
    layers: tuple[LayerErrors, ...]
    not_compared: tuple[str, ...]
    notes: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    unshown: str | None = None
    undecided: str | None = None
    causes: tuple[str, ...] = ()

    def exact(self, error: float | None) -> bool:
        """Whether an error is no more than rounding; an element that was not compared is no evidence against it."""
        return error is None or error < self.tolerance

    @property
    def verdict(self) -> str:
        """The network as a whole, its output and every compared layer."""
        held = {
            state: all(map(self.exact, errors)) and all(self.exact(layer.worst(state)) for layer in self.layers)
            for state, errors in self.output.items()
        }
        reason = self.unshown if all(held.values()) else self.undecided
        if reason is not None:
            return f"{NOT_COMPARABLE}: {reason}"
        if all(held.values()):
            return EQUIVARIANT
        if not held[AT_INIT] or AT_INIT in self.constant:
            return NOT_EQUIVARIANT
        later = [state for state in held if held[state] and state not in (AT_INIT, *self.constant)]
        if not later:
            return AT_INIT_ONLY
        return NOT_RANDOMISED if TRAINED in later else UNTIL_TRAINED

    @property
    def broken(self) -> list[LayerErrors]:
        """The innermost layers that break equivariance in some state."""
        found = [layer for layer in self.layers if not all(self.exact(layer.worst(state)) for state in self.output)]
        return [layer for layer in found if not any(other.path.startswith(f"{layer.path}.") for other in found)]

    @property
    def findings(self) -> list[str]:
        """The verdict and where it comes from, a sentence each."""
        steps = f"after {self.train_steps} optimiser step{'' if self.train_steps == 1 else 's'}"
        states = {AT_INIT: "at initialisation", RANDOMISED: "randomised", TRAINED: steps}
        found = [f"{self.verdict} under {self.group.alias} ({self.dtype}, tolerance {self.tolerance:g})"]
        alike: dict[tuple[str, str | None], list[LayerErrors]] = {}
        for layer in self.broken:
            alike.setdefault((layer.layer, layer.reason), []).append(layer)
        for (kind, reason), (first, *others) in alike.items():
            amounts = ", ".join(f"{_number(first.worst(state))} {states[state]}" for state in self.output)
            why = f": {reason}" if reason else ""
            more = f"; the same at {', '.join(layer.path for layer in others)}" if others else ""
            found.append(f"breaks at {first.path or 'the network'} ({kind}), error {amounts}{why}{more}")
        if not self.layers:
            amounts = ", ".join(f"{_number(worst_of(errors))} {states[state]}" for state, errors in self.output.items())
            found.append(
                "no layer could be compared, because none names its group and field types; the output's error is "
                f"{amounts}"
            )
        elif self.verdict != EQUIVARIANT and not self.verdict.startswith(NOT_COMPARABLE) and not self.broken:
            found.append(f"every compared layer holds: the cause is outside them (not compared: {self._rest})")
        return [*found, *(self.causes if self.verdict != EQUIVARIANT else ()), *self.notes]

    @property
    def _rest(self) -> str:
        names = list(self.not_compared) or ["functional code"]
        more = f" and {len(names) - _SHOWN_LAYERS} more" if len(names) > _SHOWN_LAYERS else ""
        return f"{', '.join(names[:_SHOWN_LAYERS])}{more}"


def states_of(train_steps: int) -> tuple[str, ...]:
    """The states that are measured with so many optimiser steps."""
    return STATES if train_steps else STATES[:2]


def _number(error: float | None) -> str:
    if error is None:
        return "–"
    return "not finite or another shape" if math.isinf(error) else f"{error:.1e}"
