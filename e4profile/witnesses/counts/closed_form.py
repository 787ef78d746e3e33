"""The closed form as a counter: named terms evaluated at the shapes that the topology implies.

Nothing runs and no tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version

from torch import nn

from e4profile.layers.base import Shape, layer_cost
from e4profile.layers.containers import Step, trace
from e4profile.witnesses.counts.base import Count, LayerCount


def count_closed_form(model: nn.Module, input_shape: Shape) -> Count:
    """Count a network from its layers' terms.

    Args:
        model: a network of layers with closed forms in containers that pass shapes on.
        input_shape: (B, ...).

    Raises:
        SettingError: for a part without a closed form, naming its path.
    """
    _, steps = trace(model, input_shape)
    return Count("closed form", version("e4profile"), layer_counts(model, steps))


def layer_counts(model: nn.Module, steps: Iterable[Step]) -> tuple[LayerCount, ...]:
    """What the calls of a network's layers cost by layer, parameters once, at the path that the network knows it by."""
    paths = {module: path for path, module in model.named_modules()}
    layers: dict[nn.Module, LayerCount] = {}
    for step in steps:
        cost = layer_cost(step.form, step.input_shape)
        before = layers.get(step.module)
        layers[step.module] = LayerCount(
            paths.get(step.module, step.path),
            type(step.module).__name__,
            cost.total_params,
            _added(before.operations if before else {}, cost.operations),
            _added(before.terms if before else {}, {**cost.macs, **cost.elements}),
            cost.kinds,
        )
    return tuple(layers.values())


def _added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in (*first, *second)}


def printed_form(model: nn.Module, input_shape: Shape) -> tuple[int, int]:
    """Parameters and MACs by the paper's formula, as section 4.2 of He et al. 2021 prints it.

    It covers lifting, group convolution and E4 layers without biases, norms and classifier.
    """
    _, steps = trace(model, input_shape)
    costs = [(step.module, layer_cost(step.form, step.input_shape)) for step in steps]
    params = {module: cost.printed_params for module, cost in costs}
    return sum(params.values()), sum(cost.printed_macs for _, cost in costs)
