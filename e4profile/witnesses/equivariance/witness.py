"""How equivariant a network is: element by element, layer by layer, freshly built, randomised and trained.

A network whose norms still are (1, 0) can be equivariant by accident of its initialisation; so each error is
measured in three states. A layer is compared on what it receives in the network, so that an error is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError, not_negative, one_of, some_of
from e4profile.groups import FiniteGroup, Group, GroupLike, as_group
from e4profile.subjects.as_found import as_found, random_state_kept
from e4profile.subjects.copies import copied, in_dtype, materialised
from e4profile.subjects.guest import first_line
from e4profile.subjects.inputs import Example
from e4profile.subjects.refusals import refuse_unrun
from e4profile.subjects.subject import Subject
from e4profile.witnesses.beat import beat
from e4profile.witnesses.equivariance.causes import Causes
from e4profile.witnesses.equivariance.fields import (
    Declared,
    Reading,
    acts_on_elements,
    check_field,
    maps_of,
    same_motion,
)
from e4profile.witnesses.equivariance.layers import randomise, varied
from e4profile.witnesses.equivariance.probe import (
    Errors,
    Output,
    Probe,
    field_groups,
    group_of,
    inputs_read,
    noise_like,
    outputs_of,
    worst_of,
)
from e4profile.witnesses.equivariance.report import (
    AT_INIT,
    RANDOMISED,
    TOLERANCES,
    TRAINED,
    EquivarianceReport,
    LayerErrors,
    states_of,
)

_SHOWN_TENSORS = 8


class NotInFloat64(SettingError):
    """A network that computes in a lower precision, and raises where it meets float64."""


def witness(
    model: nn.Module,
    example: Example,
    *,
    group: GroupLike | None = None,
    dtype: str = "float64",
    train_steps: int = 1,
    seed: int = 0,
    field_in: Declared = None,
    field_out: Declared = None,
    progress: Callable[[str], object] | None = None,
) -> EquivarianceReport:
    """Measure a network's equivariance; the network itself is not touched.

    Args:
        model: with values, on any device.
        example: its inputs; those that are maps move: (B, channels, h, w), (B, c, A, h, w), and (B, h, w) where there
            are no others or they are as large. Random numbers replace inputs that look the same after a motion.
        group: the group that acts; the part of the first layer's own group that is exact on the grid when None.
        dtype: float64 or float32.
        train_steps: Adam steps (learning rate 0.01) on random data in training mode; 0 leaves the state out.
        seed: of the random parameters and data.
        field_in: the type or layout (see ``fields``) of the inputs that are moved, of all, of each in order or of some
            by name; None takes what the network's attribute ``field_in`` declares, and else those with an axis of A
            elements for regular fields and others for trivial ones.
        field_out: the type of the maps among the outputs, or of all where there are none, or fields as above; None
            takes what the network's attribute ``field_out`` declares or the layer that made an output, and else the
            type under which it is equivariant, if there is one.
        progress: is told of each state that has been measured.

    Raises:
        SettingError: for a group that is not exact on the grid, a network that names no group, ...
        UnknownNameError: for an unknown field type.
        Whatever the model's forward raises.
    """
    one_of("dtype", dtype, TOLERANCES)
    floating: torch.dtype = getattr(torch, dtype)
    not_negative(train_steps=train_steps)
    field_in, field_out = (
        getattr(model, name, None) if given is None else given
        for name, given in (("field_in", field_in), ("field_out", field_out))
    )
    for field in (field_in, field_out):
        if isinstance(field, str):
            check_field(field)
    acting = _acting_group(model, group)
    acting.require_exact_on_grid("the equivariance witness")
    model = materialised(model, example)
    read, unread = inputs_read(example, field_groups(model, acting), field_in)
    inputs = example.map(lambda tensor: tensor.to(floating) if tensor.is_floating_point() else tensor)
    notes = [
        f"the input {tuple(inputs.tensors[index].shape)} is moved as {reading}: give --field-in if it is another"
        for index, reading in read.items()
        if field_in is None and (reading.field == "regular" or inputs.tensors[index].dim() != 4)
    ]
    notes += _map_notes(inputs, read, acting)
    if field_in != "invariant" and _look_the_same(inputs, read, acting):
        generator = torch.Generator().manual_seed(seed)
        inputs = inputs.map(lambda tensor: noise_like(tensor, generator))
        notes.append("the inputs look the same after a motion: random numbers take their place")
    makers: dict[str, Callable[[nn.Module], nn.Module | None]] = {
        AT_INIT: lambda network: network,
        RANDOMISED: lambda network: _randomised(network, seed, notes),
        TRAINED: lambda network: _trained(network, inputs, train_steps, seed, notes),
    }
    probes: dict[str, Probe] = {}
    made: dict[str, list[Output]] = {}
    causes: Causes | None = None
    # what it remembers outside of itself, in its class or in a hook's closure, its copies write to
    with as_found(model):
        for state in states_of(train_steps):
            network = makers[state](_copied(model, floating, notes))
            if network is not None:
                causes = causes or _causes(_evaluated(network), inputs, acting, floating, lambda: _runs(model, inputs))
                probes[state] = Probe(_evaluated(network), acting, read, field_out, TOLERANCES[dtype])
                made[state] = probes[state].run(inputs)
                if _shows_nothing(made[state]):
                    notes.append(f"{state}: {made[state][0].empty}, so its error proves nothing")
            if progress is not None:
                progress(state)
    assert causes is not None
    return _report(probes, made, causes, dtype=dtype, train_steps=train_steps, unread=unread, notes=notes)


def _report(
    probes: Mapping[str, Probe],
    made: Mapping[str, Sequence[Output]],
    causes: Causes,
    *,
    dtype: str,
    train_steps: int,
    unread: str | None,
    notes: Sequence[str],
) -> EquivarianceReport:
    """What was found, under the reading of each output that serves it best."""
    tolerance, first = TOLERANCES[dtype], probes[AT_INIT]
    acting = first.acting
    chosen = [_chosen([outputs[i] for outputs in made.values()], tolerance) for i in range(len(made[AT_INIT]))]
    output = {
        state: tuple(
            worst_of([one.readings[reading][element] for one, reading in zip(outputs, chosen, strict=True)])
            for element in acting.elements
        )
        for state, outputs in made.items()
    }
    held = all((worst_of(errors) or 0.0) < tolerance for errors in output.values())
    layers = _layers(probes, held, tolerance)
    constant = tuple(state for state, outputs in made.items() if _shows_nothing(outputs))
    told = [
        f"the output {one.shape} is read as {reading}"
        for one, reading in zip(made[AT_INIT], chosen, strict=True)
        if not one.given and (len(one.shape) in (3, 5) or reading != next(iter(one.readings)))
    ]
    declared = any(
        group_of(module) for path, module in first.network.named_modules() if path in _broken(layers, tolerance)
    )
    return EquivarianceReport(
        acting, dtype, tolerance, train_steps, output, layers, first.not_compared,
        (*_subgroup_notes(first), *told, *notes), constant,
        unread or _unshown(acting, made, chosen, constant),
        _unrepeated(output, tolerance) or _rounded(dtype, output, layers, causes, first.network) or unread
        or (None if declared else _undecided(made, chosen, tolerance)),
        tuple(f"at {path}: {reason}" for path, reason in causes.windows.items()),
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


def _chosen(states: Sequence[Output], tolerance: float) -> Reading:
    """The reading of an output under which most states hold, the likeliest of these."""

    def holding(reading: Reading) -> tuple[int, ...]:
        worst = [worst_of(one.readings.get(reading, (math.inf,))) or 0.0 for one in states]
        # one that misses by the rounding of float32 before one that misses by more
        return tuple(sum(error < limit for error in worst) for limit in (tolerance, TOLERANCES["float32"]))

    return max(states[0].readings, key=holding)


def _shows_nothing(outputs: Sequence[Output]) -> bool:
    return all(one.empty for one in outputs)


def _unshown(
    acting: FiniteGroup, made: Mapping[str, Sequence[Output]], chosen: Sequence[Reading], constant: Sequence[str]
) -> str | None:  # fmt: skip
    """Why errors that are small everywhere are no proof."""
    if acting.order == 1:
        return f"{acting.alias} has no element but the identity: give --group"
    if set(made) - {AT_INIT} <= set(constant):
        return next(one.empty for one in made[constant[-1]] if one.empty)
    for one, reading in zip(made[AT_INIT], chosen, strict=True):
        if None in one.readings[reading]:
            lacks = any(same_motion(reading.own, acting, element) is None for element in acting.elements)
            if lacks and acts_on_elements(reading.field):
                return (
                    f"the output is {reading}, which lacks elements of {acting.alias}: give --group {reading.own.alias}"
                )
            return f"the inputs look the same after a motion of {acting.alias}: give larger ones, or random numbers"
    return None


def _undecided(made: Mapping[str, Sequence[Output]], chosen: Sequence[Reading], tolerance: float) -> str | None:
    """Why errors that are not small may come from what an output was taken for."""
    for index, reading in enumerate(chosen):
        states = [outputs[index] for outputs in made.values()]
        one = states[0]
        if any((worst_of(state.readings[reading]) or 0.0) < tolerance for state in states):
            continue
        regular = any(acts_on_elements(other.field) for other in one.readings)
        reason = next((state.open for state in states if state.open), None)
        if reason is not None or one.given:
            return reason
        if len(one.shape) == 3 or (len(one.shape) == 4 and regular):
            return f"give --field-out (the output {one.shape} may be {' or '.join(map(str, one.readings))})"
    return None


def _unrepeated(output: Mapping[str, Errors], tolerance: float) -> str | None:
    """Why errors say nothing of the group: the identity, which moves nothing, has one too, and of finite outputs."""
    worst = max(errors[0] or 0.0 for errors in output.values())
    if worst < tolerance or not math.isfinite(worst):
        return None
    return f"two calls on the same inputs differ by {worst:.1e}, as the forward keeps a state or draws random numbers"


def _rounded(
    dtype: str, output: Mapping[str, Errors], layers: Sequence[LayerErrors], causes: Causes, network: nn.Module
) -> str | None:
    """Why errors that are not small are those of numbers of less precision."""
    errors = [
        error for one in (*output.values(), *(e for layer in layers for e in layer.errors.values())) for error in one
    ]
    worst = worst_of(errors) or 0.0
    kept = {id(tensor) for tensor in varied(network).values()}
    constants = any(t.is_floating_point() and id(t) not in kept for t in (*network.parameters(), *network.buffers()))
    if dtype == "float64" and worst < TOLERANCES["float32"] and (causes.lower is torch.float32 or constants):
        what = "the network computes" if causes.lower is torch.float32 else "the network's constants are"
        return f"give --dtype float32, whose tolerance is {TOLERANCES['float32']:g} ({what} in float32)"
    if causes.lower is not None and worst < (fits := 10 * torch.finfo(causes.lower).eps):
        return f"the network computes in {str(causes.lower)[6:]}, where an error below {fits:.0e} is rounding"
    return None


def _copied(model: nn.Module, dtype: torch.dtype, notes: list[str]) -> nn.Module:
    """A copy in training mode, so that nothing is left that evaluation mode derives from the parameters."""
    twin = copied(model)
    with torch.no_grad():
        try:
            twin.train()
        except Exception as error:  # it can be measured as it is, and the reason is shown
            said = f"measured in evaluation mode, because it cannot be put into training mode: {first_line(error)}"
            notes.extend([said] if said not in notes else [])
        return in_dtype(twin, dtype)


def _evaluated(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        network.eval()
    return network


def _runs(model: nn.Module, inputs: Example) -> bool:
    """Whether a network runs in float32."""
    single = inputs.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor.clone())
    try:
        with torch.no_grad(), random_state_kept():
            _evaluated(_copied(model, torch.float32, []))(*single.positional, **single.keywords)
    except Exception:
        return False
    return True


def _causes(
    network: nn.Module, inputs: Example, acting: FiniteGroup, dtype: torch.dtype, runs_in_single: Callable[[], bool]
) -> Causes:
    """What is seen in one run; where it raises in a precision that it does not compute in, the remedy."""
    copied = inputs.map(torch.clone)
    causes = Causes(network, acting, dtype)
    try:
        with torch.no_grad(), random_state_kept(), causes:
            refuse_unrun(network(*copied.positional, **copied.keywords))
    except RuntimeError as error:
        if dtype is torch.float64 and causes.lower is None and runs_in_single():
            causes.lower = torch.float32
        if causes.lower is not None and dtype is torch.float64:
            tolerance = TOLERANCES["float32"]
            raise NotInFloat64(
                f"the network computes in {str(causes.lower)[6:]} and does not run in float64 ({first_line(error)}): "
                f"give --dtype float32, whose tolerance is {tolerance:g}"
            ) from None
        raise
    return causes


_DERIVED = (
    "positions",
    "map_permutation",
    "act_on_grid",
    "act_on_field",
    "regular_permutation",
    "quotient_permutation",
)
"""What follows from a group's products and action, and is not asked: a group that defines it is told so."""


def _map_notes(inputs: Example, read: Mapping[int, Reading], acting: FiniteGroup) -> list[str]:
    """What a user-defined group leaves out of the maps, which of its elements move nothing, and what is not asked."""
    if type(acting) is Group:
        return []
    maps = (maps_of(inputs.tensors[index], reading.field, reading.own) for index, reading in read.items())
    own = [name for name in _DERIVED if getattr(type(acting), name) is not getattr(FiniteGroup, name)]
    notes = []
    if own:
        notes.append(f"{acting.alias} defines {', '.join(own)}, which is not used: act_on_position moves maps")
    for rows, columns in dict.fromkeys(tuple(one.shape[-2:]) for one in maps if one is not None):
        places = len(FiniteGroup.positions(acting, rows, columns))
        if places < rows * columns:
            notes.append(
                f"{places} of {rows * columns} positions of {rows}x{columns} are the map of {acting.alias}: the others "
                "do not move, and are not compared"
            )
        still, *moved = (FiniteGroup.map_permutation(acting, element, rows, columns) for element in acting.elements)
        idle = [element for element, one in enumerate(moved, 1) if one == still]
        if idle:
            named = some_of([acting.element_name(element) for element in idle])
            notes.append(f"on maps of {rows}x{columns} nothing moves under {named} of {acting.alias}")
    return notes


def _look_the_same(inputs: Example, read: Mapping[int, Reading], acting: FiniteGroup) -> bool:
    moving = [(inputs.tensors[index], reading) for index, reading in read.items()]
    return any(
        all(torch.equal(tensor, moved) for tensor, moved in pairs if moved is not None)
        for pairs in (
            [(tensor, reading.moved(tensor, acting, element)) for tensor, reading in moving]
            for element in acting.elements[1:]
        )
    )


def _randomised(network: nn.Module, seed: int, notes: list[str]) -> nn.Module:
    names = list(varied(network))
    floating = [one for one in (*network.parameters(), *network.buffers()) if one.is_floating_point()]
    shown = f"{', '.join(names[:_SHOWN_TENSORS])}{' ...' if len(names) > _SHOWN_TENSORS else ''}"
    fixed = (
        f"; constants and frozen parameters stay: {len(floating) - len(names)}" if len(floating) > len(names) else ""
    )
    notes.append(f"randomised: {len(names)} tensors ({shown or 'no parameter requires a gradient'}){fixed}")
    return randomise(network, seed)


def _acting_group(model: nn.Module, group: GroupLike | None) -> FiniteGroup:
    if group is not None:
        return as_group(group)
    own = next((one for one in map(group_of, model.modules()) if one is not None and one.order > 1), None)
    if own is None:
        raise SettingError("no layer of this network names a group: give the group that acts, --group p4 for example")
    return Group(math.gcd(4, own.rotations), own.mirrors) if type(own) is Group else own


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
                beat()
                data = batch.map(lambda tensor: noise_like(tensor, generator))
                optimiser.zero_grad()
                _loss(outputs_of(network(*data.positional, **data.keywords)), generator).backward()
                optimiser.step()
        except Exception as error:  # the other states need no training, and the reason is shown
            notes.append(f"not trained: {first_line(error)}")
            return None
    return network


def _loss(outputs: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    losses = [(one - noise_like(one, generator)).square().mean() for one in outputs if one.requires_grad]
    if not losses:
        raise SettingError("no output depends on a parameter")
    return torch.stack(losses).sum()


def _layers(probes: Mapping[str, Probe], held: bool, tolerance: float) -> tuple[LayerErrors, ...]:
    """The compared layers; a pool, which proves nothing by itself, only where it holds or may explain the output."""
    first = probes[AT_INIT]
    modules = dict(first.network.named_modules())
    owned = {path for path, module in modules.items() if group_of(module) and path in first.errors}
    found = [
        LayerErrors(
            path,
            first.kinds[path],
            {state: tuple(probe.errors.get(path, ())) for state, probe in probes.items()},
            first.reasons[path],
            any(path != outer and path.startswith(f"{outer}." if outer else "") for outer in owned),
        )
        for path in modules
        if path in first.errors
    ]
    unsure = _broken(found, tolerance) if held else set()
    return tuple(one for one in found if one.path not in unsure or hasattr(modules[one.path], "field_in"))


def _broken(layers: Sequence[LayerErrors], tolerance: float) -> set[str]:
    """Paths of the layers with an error that is no rounding."""
    return {one.path for one in layers if any((worst_of(e) or 0.0) >= tolerance for e in one.errors.values())}


def _subgroup_notes(probe: Probe) -> list[str]:
    acting = probe.acting
    smaller = sorted(
        group.alias
        for group in probe.groups
        if any(same_motion(group, acting, element) is None for element in acting.elements)
    )
    if not smaller:
        return []
    return [f"layers of {', '.join(smaller)} are compared under the elements that they share with {acting.alias}"]
