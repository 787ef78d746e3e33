"""What the guard measures of a loaded network: exact counts per layer, saved bytes, equivariance error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from e4profile.groups import Group
from e4profile.questions.guard.config import GuardedModel
from e4profile.questions.guard.loading import Loaded
from e4profile.records.baseline import LayerCosts, ModelCosts
from e4profile.witnesses.equivariance.witness import RANDOMISED, element_name, witness


def model_costs(entry: GuardedModel, loaded: Loaded, *, saved_bytes: bool = False) -> ModelCosts:
    """The counts of one network, per module that has parameters or runs operations itself.

    Raises:
        E4ProfileError: when saved bytes are asked for and the network cannot run in training mode.
    """
    counted = loaded.measured.dispatch
    costs = {"params": counted.params, "macs": counted.macs}
    layers = {one.path: (one.layer, {"params": one.params, "macs": one.total("macs")}) for one in counted.layers}
    if saved_bytes:
        from e4profile.subjects.batches import BatchedInputs
        from e4profile.witnesses.memory.saved import saved_for_backward

        batch_size = BatchedInputs.of(loaded.example).batch_size
        with loaded.subject.guarded():
            saved = saved_for_backward(loaded.model, loaded.example, batch_size=batch_size)
        costs["saved_bytes"] = saved.saved_bytes
        for _, amounts in layers.values():
            amounts["saved_bytes"] = 0
        for one in saved.modules:
            amount = one.constant_bytes + (batch_size or 0) * one.per_image_bytes
            nothing = {"params": 0, "macs": 0}
            layers.setdefault(one.path, (one.layer, nothing))[1]["saved_bytes"] = amount
    return ModelCosts(
        entry.build,
        loaded.input,
        loaded.arguments,
        costs,
        {path: LayerCosts(name, amounts) for path, (name, amounts) in layers.items()},
    )


@dataclass(frozen=True)
class EquivarianceFound:
    """How far a network is from commuting with a group.

    Attributes:
        group: whose elements acted.
        error: the largest relative error of the output over the elements; infinite where it is not finite.
        element: the element of that error, for people.
        layers: own error of the innermost layers that do not commute on the input they receive.
        unshown: why a small error is no proof, and the remedy, or None.
        undecided: why a large error proves nothing against the network, and the remedy, or None.
    """

    group: Group
    error: float
    element: str
    layers: Mapping[str, float]
    unshown: str | None = None
    undecided: str | None = None


def equivariance_error(loaded: Loaded, group: str | None = None, field_out: str | None = None) -> EquivarianceFound:
    """The equivariance error of a copy in float64 and evaluation mode, trained parameters and statistics randomised.

    Args:
        loaded: with values; it is left as it was found. Every input that is a map is moved.
        group: a group's name; the part of the first layer's own that is exact on the grid when None.
        field_out: the output's field type; what the layer says that made it when None, and else the type under which
            the network is equivariant, if there is one.

    Raises:
        SettingError: when a group is needed and not given, or does not fit.
        UnknownNameError: for a group or a field type that does not exist.
        Whatever the network's forward raises.
    """
    report = witness(loaded.model, loaded.example, group=group, field_out=field_out, train_steps=0)
    errors = [0.0 if error is None else error for error in report.output[RANDOMISED]]
    worst = max(range(len(errors)), key=errors.__getitem__)
    broken = ((layer.path, layer.worst(RANDOMISED)) for layer in report.broken)
    return EquivarianceFound(
        report.group,
        errors[worst],
        element_name(report.group, worst),
        {path: error for path, error in broken if not report.exact(error) and error is not None},
        report.unshown,
        report.undecided,
    )
