"""How equivariant a network is: element by element, layer by layer, freshly built, randomised and trained.

A network whose norms still are (1, 0) can be equivariant by accident of its initialisation; so each error is
measured in three states. A layer is compared on what it receives in the network, so that an error is its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import Group, GroupLike, as_group
from e4profile.subjects.as_found import random_state_kept
from e4profile.subjects.guest import first_line
from e4profile.subjects.inputs import Example
from e4profile.subjects.subject import Subject
from e4profile.witnesses.equivariance.layers import randomise
from e4profile.witnesses.equivariance.probe import (
    FIELDS,
    Errors,
    Probe,
    group_of,
    noise_like,
    outputs_of,
    same_motion,
    worst_of,
)

AT_INIT, RANDOMISED, TRAINED = "at_init", "randomised", "trained"
STATES = (AT_INIT, RANDOMISED, TRAINED)
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
"""Relative errors above these are no rounding of the dtype."""

_SHOWN_LAYERS = 8

EQUIVARIANT = "equivariant"
AT_INIT_ONLY = "equivariant at initialisation only"
NOT_EQUIVARIANT = "not equivariant"


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
        constant: the states in which the output does not depend on the input, so that its error says nothing.
    """

    group: Group
    dtype: str
    tolerance: float
    train_steps: int
    output: Mapping[str, Errors]
    layers: tuple[LayerErrors, ...]
    not_compared: tuple[str, ...]
    notes: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()

    def exact(self, error: float | None) -> bool:
        """Whether an error is no more than rounding; an element that was not compared says nothing against it."""
        return error is None or error < self.tolerance

    @property
    def verdict(self) -> str:
        """The network as a whole, its output and every compared layer."""
        held = {
            state: all(map(self.exact, errors)) and all(self.exact(layer.worst(state)) for layer in self.layers)
            for state, errors in self.output.items()
        }
        if all(held.values()):
            return EQUIVARIANT
        return AT_INIT_ONLY if held[AT_INIT] and AT_INIT not in self.constant else NOT_EQUIVARIANT

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
        found = [f"{self.verdict} under {self.group.name} ({self.dtype}, tolerance {self.tolerance:g})"]
        alike: dict[tuple[str, str | None], list[LayerErrors]] = {}
        for layer in self.broken:
            alike.setdefault((layer.layer, layer.reason), []).append(layer)
        for (kind, reason), (first, *others) in alike.items():
            amounts = ", ".join(f"{_number(first.worst(state))} {states[state]}" for state in self.output)
            why = f": {reason}" if reason else ""
            more = f"; likewise {', '.join(layer.path for layer in others)}" if others else ""
            found.append(f"breaks at {first.path or 'the network'} ({kind}), error {amounts}{why}{more}")
        if not self.layers:
            amounts = ", ".join(f"{_number(worst_of(errors))} {states[state]}" for state, errors in self.output.items())
            found.append(
                f"no layer could be compared, as none says its group and field types; the output's error is {amounts}"
            )
        elif self.verdict != EQUIVARIANT and not self.broken:
            found.append(f"every compared layer holds: the cause is outside them (not compared: {self._rest})")
        return [*found, *self.notes]

    @property
    def _rest(self) -> str:
        names = list(self.not_compared) or ["functional code"]
        more = f" and {len(names) - _SHOWN_LAYERS} more" if len(names) > _SHOWN_LAYERS else ""
        return f"{', '.join(names[:_SHOWN_LAYERS])}{more}"


def states_of(train_steps: int) -> tuple[str, ...]:
    """The states that are measured with so many optimiser steps."""
    return STATES if train_steps else STATES[:2]


def witness(
    model: nn.Module,
    example: Example,
    *,
    group: GroupLike | None = None,
    dtype: str = "float64",
    train_steps: int = 1,
    seed: int = 0,
    field_in: str = "trivial",
    field_out: str | None = None,
    progress: Callable[[str], object] | None = None,
) -> EquivarianceReport:
    """Measure a network's equivariance; the network itself is not touched.

    Args:
        model: with values, on any device.
        example: its inputs; every tensor (B, channels, h, w) among them is moved.
        group: the group that acts; the part of the first layer's own group that is exact on the grid when None.
        dtype: float64 or float32.
        train_steps: Adam steps (learning rate 0.01) on random data in training mode; 0 leaves the state out.
        seed: of the random parameters and data.
        field_in: the type of the inputs that are moved.
        field_out: the type of the outputs; None takes what the layer says that made them, and else ``trivial``
            for maps and ``invariant`` for everything else.
        progress: is told of each state that has been measured.

    Raises:
        SettingError: for a group that is not exact on the grid, a network that names no group, ...
        UnknownNameError: for an unknown field type.
        Whatever the model's forward raises.
    """
    if dtype not in TOLERANCES:
        raise UnknownNameError("dtype", dtype, TOLERANCES)
    floating: torch.dtype = getattr(torch, dtype)
    if train_steps < 0:
        raise SettingError(f"train_steps (={train_steps}) must not be negative")
    for field in (field_in, *(() if field_out is None else (field_out,))):
        if field not in FIELDS:
            raise UnknownNameError("field type", field, FIELDS)
    acting = _acting_group(model, group)
    acting.require_exact_on_grid("the equivariance witness")
    inputs = example.map(lambda tensor: tensor.to(floating) if tensor.is_floating_point() else tensor)
    if not any(tensor.dim() == 4 for tensor in inputs.tensors):
        raise SettingError(f"nothing to move: no input (B, channels, h, w) among ({example})")
    notes: list[str] = []
    makers: dict[str, Callable[[nn.Module], nn.Module | None]] = {
        AT_INIT: lambda network: network,
        RANDOMISED: lambda network: randomise(network, seed),
        TRAINED: lambda network: _trained(network, inputs, train_steps, seed, notes),
    }
    probes: dict[str, Probe] = {}
    output: dict[str, Errors] = {}
    for state in states_of(train_steps):
        network = makers[state](copy.deepcopy(model).to(floating).eval())
        if network is not None:
            probes[state] = Probe(network, acting, field_in, field_out)
            output[state] = probes[state].run(inputs)
            if probes[state].constant:
                notes.append(f"{state}: the output does not depend on the input, so its error says nothing")
        if progress is not None:
            progress(state)
    return EquivarianceReport(
        acting, dtype, TOLERANCES[dtype], train_steps, output,
        _layers(probes), probes[AT_INIT].not_compared, (*_subgroup_notes(probes[AT_INIT]), *notes),
        tuple(state for state, probe in probes.items() if probe.constant),
    )  # fmt: skip


def witness_of(subject: Subject, **options: Any) -> EquivarianceReport:
    """Measure a subject's equivariance on its own inputs (see ``witness`` for the options).

    Raises:
        UserCodeError: when a user-defined model's forward raises, naming the module in which it happened.
        SettingError: for options that cannot be.
    """
    model, example = subject.build(), subject.example()
    with subject.guarded():
        return witness(model, example, **options)


def _acting_group(model: nn.Module, group: GroupLike | None) -> Group:
    if group is not None:
        return as_group(group)
    own = next((one for one in map(group_of, model.modules()) if one is not None and one.order > 1), None)
    if own is None:
        raise SettingError("no layer of this network names a group: give the group that acts, --group p4 for example")
    return Group(math.gcd(4, own.rotations), own.mirrors)


def _trained(network: nn.Module, inputs: Example, steps: int, seed: int, notes: list[str]) -> nn.Module | None:
    """The network after some optimiser steps on random data, in evaluation mode; None where it cannot be trained."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        notes.append("not trained: no parameter requires a gradient")
        return None
    optimiser = torch.optim.Adam(parameters, lr=0.01)
    generator = torch.Generator().manual_seed(seed)
    # a batch norm needs two images
    batch = inputs.map(lambda tensor: torch.cat([tensor, tensor]) if tensor.dim() else tensor)
    with random_state_kept(), torch.enable_grad():
        torch.manual_seed(seed)
        try:
            network.train()
            for _ in range(steps):
                data = batch.map(lambda tensor: noise_like(tensor, generator))
                optimiser.zero_grad()
                _loss(outputs_of(network(*data.positional, **data.keywords)), generator).backward()
                optimiser.step()
        except Exception as error:  # the other states need no training, and the reason is shown
            notes.append(f"not trained: {first_line(error)}")
            return None
    return network.eval()


def _loss(outputs: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    losses = [(one - noise_like(one, generator)).square().mean() for one in outputs if one.requires_grad]
    if not losses:
        raise SettingError("no output depends on a parameter")
    return torch.stack(losses).sum()


def _layers(probes: Mapping[str, Probe]) -> tuple[LayerErrors, ...]:
    first = probes[AT_INIT]
    owned = {path for path, module in first.network.named_modules() if group_of(module) and path in first.errors}
    order = [path for path, _ in first.network.named_modules() if path in first.errors]
    return tuple(
        LayerErrors(
            path,
            first.kinds[path],
            {state: tuple(probe.errors.get(path, ())) for state, probe in probes.items()},
            first.reasons[path],
            any(path != outer and path.startswith(f"{outer}." if outer else "") for outer in owned),
        )
        for path in order
    )


def _subgroup_notes(probe: Probe) -> list[str]:
    acting = probe.acting
    smaller = sorted(
        group.name
        for group in probe.groups
        if any(same_motion(group, acting, element) is None for element in acting.elements)
    )
    if not smaller:
        return []
    return [f"layers of {', '.join(smaller)} are compared under the elements that they share with {probe.acting.name}"]


def _number(error: float | None) -> str:
    if error is None:
        return "–"
    return "not finite or another shape" if math.isinf(error) else f"{error:.1e}"


def element_name(group: Group, element: int) -> str:
    """An element for people: ``90°``, ``mirror``, ``mirror, 90°``."""
    rotation, mirror = group.split(element)
    turned = f"{360 * rotation / group.rotations:g}°"
    if not mirror:
        return turned
    return f"mirror, {turned}" if rotation else "mirror"
