"""The MACs of one training step, forward and backward, from the closed form.

Every product of an input and a weight is differentiated by two products of the same size, one for the gradient
of the input and one for that of the weight; the first is not needed where the input depends on no parameter,
as the image does. A product of two feature maps (aggregation, attention) is differentiated in both, so it
costs 2x as well. Norms, activations and pooling multiply elementwise and count 0, as in the forward pass.

``torch.utils.flop_counter`` agrees with this exactly, except for grouped convolutions: at torch 2.13 it says
(1 + g) / 2 times too much for the backward of a convolution with g groups, because it charges the gradient of
the weight as if every group met every input channel.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from e4profile.conventions import AGGREGATION, ATTENTION, CONVOLUTION, LINEAR
from e4profile.errors import SettingError, positive
from e4profile.layers.base import Shape, layer_cost
from e4profile.layers.containers import Chain, Residual, Step, join, trace
from e4profile.layers.terms import Terms, evaluate

_WEIGHTED = (CONVOLUTION, LINEAR)
_OF_TWO_MAPS = (AGGREGATION, ATTENTION)


@dataclass(frozen=True)
class LayerTraining:
    """MACs of one layer in one training step.

    Attributes:
        path: dotted module path.
        layer: class name.
        forward: of the forward pass.
        backward_input: for the gradients of feature maps; both operands of aggregation and attention.
        backward_weight: for the gradients of weights.
    """

    path: str
    layer: str
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
class TrainingCost:
    """MACs of one training step, layer by layer.

    Attributes:
        layers: in order of execution; layers that multiply nothing are left out.
        images: images that run through the network in the step.
    """

    layers: tuple[LayerTraining, ...]
    images: int

    @property
    def forward(self) -> int:
        """MACs of the forward pass."""
        return sum(layer.forward for layer in self.layers)

    @property
    def backward_input(self) -> int:
        """MACs for the gradients of feature maps."""
        return sum(layer.backward_input for layer in self.layers)

    @property
    def backward_weight(self) -> int:
        """MACs for the gradients of weights."""
        return sum(layer.backward_weight for layer in self.layers)

    @property
    def backward(self) -> int:
        """MACs of the backward pass."""
        return self.backward_input + self.backward_weight

    @property
    def total(self) -> int:
        """MACs of the step."""
        return self.forward + self.backward


def training_step_macs(model: nn.Module, input_shape: Shape, images_per_sample: int = 1) -> TrainingCost:
    """The MACs of one training step of every parameter, without the optimiser's update.

    Args:
        model: a network of layers with closed forms in ``Chain`` and ``Residual`` containers.
        input_shape: (B, ...) with B training samples; its gradient is not needed.
        images_per_sample: images that run for one sample: 2 where every image has a transformed copy.

    Raises:
        SettingError: for a part without a closed form, or a first layer whose terms do not say what they read.
    """
    positive(images_per_sample=images_per_sample)
    images = input_shape[0] * images_per_sample
    _, _, steps = _follow(model, (images, *input_shape[1:]), "", False)
    layers = (_layer(step, needs) for step, needs in steps)
    return TrainingCost(tuple(layer for layer in layers if layer.total), images)


Followed = tuple[Shape, bool, list[tuple[Step, bool]]]


def _follow(module: nn.Module, shape: Shape, path: str, needs: bool) -> Followed:
    """Like ``trace``, with whether each step's input, and the output, depends on a parameter."""
    steps: list[tuple[Step, bool]] = []
    if isinstance(module, Residual):
        kept, kept_needs = shape, needs
        if module.shortcut is not None:
            kept, kept_needs, steps = _follow(module.shortcut, shape, join(path, "shortcut"), needs)
        _, body_needs, inner = _follow(module.body, shape, join(path, "body"), needs)
        return kept, kept_needs or body_needs, steps + inner
    if isinstance(module, Chain):
        for name, part in module.named_children():
            shape, needs, inner = _follow(part, shape, join(path, name), needs)
            steps += inner
        return shape, needs, steps
    output_shape, found = trace(module, shape, path)
    if len(found) > 1 and not needs:
        raise SettingError(f"{path or type(module).__name__}: which of its layers comes first is not known")
    learns = any(layer_cost(step.form, step.input_shape).total_params for step in found)
    return output_shape, needs or learns, [(step, needs) for step in found]


def _layer(step: Step, needs: bool) -> LayerTraining:
    cost = layer_cost(step.form, step.input_shape)
    weighted = {name: macs for name, macs in cost.macs.items() if cost.kinds[name] in _WEIGHTED}
    of_two = sum(macs for name, macs in cost.macs.items() if cost.kinds[name] in _OF_TWO_MAPS)
    to_weights = sum(weighted.values())
    to_inputs = to_weights - _read_constants(step)
    if not needs:
        to_inputs -= sum(weighted[name] for name in _entry_terms(step, weighted))
    return LayerTraining(step.path, type(step.module).__name__, to_weights + of_two, to_inputs + 2 * of_two, to_weights)


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
    """MACs of weights with constants such as coordinates, whose gradient nobody needs."""
    constant: Terms = getattr(step.form, "constant_inputs", {})
    if not constant:
        return 0
    amounts = evaluate(constant, step.form.dimensions(step.input_shape))
    once: frozenset[str] = getattr(step.form, "per_forward", frozenset())
    return sum(macs * (1 if name in once else step.input_shape[0]) for name, macs in amounts.items())
