"""The closed form as a counter, forward and in training: named terms at the shapes that the topology implies.

Nothing runs and no tensor is read.

Every product of an input and a weight is differentiated by two products of the same size, one for the gradient of the
input and one for that of the weight; the first is not needed where the input depends on no parameter, as the image
does. A product of two feature maps (aggregation, attention) is differentiated in both, so it costs 2x as well. Norms,
activations and pooling multiply elementwise and count 0, as in the forward pass. ``torch.utils.flop_counter`` agrees
with this exactly, except for grouped convolutions: at torch 2.13 it says (1 + g) / 2 times too much for the backward
of a convolution with g groups, because it charges the gradient of the weight as if every group met every input
channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from torch import nn

from e4profile.conventions import AGGREGATION, ATTENTION, CONVOLUTION, LINEAR
from e4profile.errors import SettingError, positive
from e4profile.layers.base import Shape
from e4profile.layers.containers import FeatureMap, Step, trace
from e4profile.layers.terms import Terms, evaluate
from e4profile.witnesses.counts.base import Count, LayerCount, added
from e4profile.witnesses.environment import own_version

_WEIGHTED = (CONVOLUTION, LINEAR)
_OF_TWO_MAPS = (AGGREGATION, ATTENTION)


def count_closed_form(model: nn.Module, input_shape: Shape) -> Count:
    """Count a network from its layers' terms.

    Args:
        model: a network of layers with closed forms in containers that pass shapes on.
        input_shape: (B, ...).

    Raises:
        SettingError: for a part without a closed form, naming its path.
    """
    return count_forms(model, input_shape)[0]


def count_forms(model: nn.Module, input_shape: Shape) -> tuple[Count, int, int]:
    """The closed form, and parameters and MACs by the paper's formula, from one walk.

    The paper's formula is that of section 4.2 of He et al. 2021 as printed: lifting, group convolution and E4 layers
    without biases, norms and classifier, executed by filter banks.

    Raises:
        SettingError: for a part without a closed form, naming its path.
    """
    _, steps = trace(model, input_shape)
    params = {step.module: step.cost.printed_params for step in steps}
    count = Count("closed form", own_version(), formed_layers(model, steps))
    return count, sum(params.values()), sum(map(_printed_macs, steps))


def _printed_macs(step: Step) -> int:
    """MACs of a call by the source's own formula, which is of filter banks, however the layer runs."""
    layer = step.form
    values = {**step.dimensions, **dict.fromkeys(getattr(layer, "in_irreps_where", ()), 0)}
    printed = {name: layer.macs[name] for name in layer.printed.get("macs", ())}
    return step.input_shape[0] * sum(evaluate(printed, values).values())


def formed_layers(model: nn.Module, steps: Iterable[Step]) -> tuple[LayerCount, ...]:
    """What the calls of a network's layers cost by layer, parameters once, at the path that the network knows it by."""
    paths = {module: path for path, module in model.named_modules()}
    layers: dict[nn.Module, LayerCount] = {}
    for step in steps:
        cost = step.cost
        before = layers.get(step.module)
        layers[step.module] = LayerCount(
            paths.get(step.module, step.path),
            type(step.module).__name__,
            cost.total_params,
            added(before.operations if before else {}, cost.operations),
            added(before.terms if before else {}, {**cost.macs, **cost.elements}),
            cost.kinds,
        )
    return tuple(layers.values())


@dataclass(frozen=True)
class StepMacs:
    """MACs of a layer, or of a network, in one training step.

    Attributes:
        forward: of the forward pass.
        backward_input: for the gradients of feature maps; both operands of aggregation and attention.
        backward_weight: for the gradients of weights.
    """

    forward: int
    backward_input: int
    backward_weight: int

    @property
    def backward(self) -> int:
        """Both parts of the backward pass."""
        return self.backward_input + self.backward_weight

    @property
    def total(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward


@dataclass(frozen=True)
class LayerTraining(StepMacs):
    """MACs of one layer in one training step, with its dotted module path and its class name."""

    path: str
    layer: str


@dataclass(frozen=True)
class TrainingCost(StepMacs):
    """MACs of one training step, layer by layer.

    Attributes:
        layers: every call of a layer in order of execution; layers that multiply nothing are left out.
        images: images that run through the network in the step.
    """

    layers: tuple[LayerTraining, ...]
    images: int


def training_step_macs(model: nn.Module, input_shape: Shape, images_per_sample: int = 1) -> TrainingCost:
    """The MACs of one training step of every parameter, without the optimiser's update.

    Args:
        model: a network of layers with closed forms in containers that pass shapes on.
        input_shape: (B, ...) with B training samples; its gradient is not needed.
        images_per_sample: images that run for one sample: 2 where every image has a transformed copy.

    Raises:
        SettingError: for a part without a closed form, a first layer whose terms do not say what they read, or a
            layer whose container does not say what it reads.
    """
    positive(images_per_sample=images_per_sample)
    images = input_shape[0] * images_per_sample
    _, steps = trace(model, FeatureMap((images, *input_shape[1:]), learned=False))
    layers = tuple(layer for layer in map(_layer, steps) if layer.total)
    forward, to_inputs, to_weights = (sum(getattr(layer, one.name) for layer in layers) for one in fields(StepMacs))
    return TrainingCost(forward, to_inputs, to_weights, layers, images)


def _layer(step: Step) -> LayerTraining:
    cost = step.cost
    weighted = {name: macs for name, macs in cost.macs.items() if cost.kinds[name] in _WEIGHTED}
    of_two = sum(macs for name, macs in cost.macs.items() if cost.kinds[name] in _OF_TWO_MAPS)
    to_weights = sum(weighted.values())
    to_inputs = to_weights - _read_constants(step)
    if step.input_learned is None and to_inputs:
        raise SettingError(
            f"{step.path or type(step.module).__name__}: whether its input depends on a parameter is not known; its "
            "container's trace must hand on the shapes that it takes from its parts"
        )
    if not step.input_learned:
        # of a term that may run in the irrep basis, only the one of the basis that runs is there
        to_inputs -= sum(weighted.get(name, 0) for name in _entry_terms(step, weighted))
    return LayerTraining(to_weights + of_two, to_inputs + 2 * of_two, to_weights, step.path, type(step.module).__name__)


def _entry_terms(step: Step, weighted: dict[str, int]) -> frozenset[str]:
    """The terms that read the layer's input itself: the one there is, or those that the layer names."""
    declared: frozenset[str] | None = getattr(step.form, "entry_terms", None)
    if declared is not None:
        return declared
    running = frozenset(name for name, macs in weighted.items() if macs)
    if len(running) > 1:
        layer = type(step.module).__name__
        raise SettingError(
            f"{step.path or layer}: {layer} comes first and must name, in entry_terms, which of its terms "
            f"({', '.join(sorted(running))}) read its input"
        )
    return running


def _read_constants(step: Step) -> int:
    """MACs of weights with constants such as coordinates, whose gradient is not needed."""
    constant: Terms = getattr(step.form, "constant_inputs", {})
    if not constant:
        return 0
    amounts = evaluate(constant, step.dimensions)
    once: frozenset[str] = getattr(step.form, "per_forward", frozenset())
    return sum(macs * (1 if name in once else step.input_shape[0]) for name, macs in amounts.items())
