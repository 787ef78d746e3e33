"""The closed form as a counter: named terms evaluated at the shapes that the topology implies.

Nothing runs and no tensor is read.
"""

from __future__ import annotations

from importlib.metadata import version

from torch import nn

from e4profile.counters.base import Count, LayerCount
from e4profile.layers.base import Shape, layer_cost
from e4profile.layers.containers import trace


def count_closed_form(model: nn.Module, input_shape: Shape) -> Count:
    """Count a network from its layers' terms.

    Args:
        model: a network of layers with closed forms in containers that pass shapes on.
        input_shape: (B, ...).

    Raises:
        SettingError: for a part without a closed form, naming its path.
    """
    _, steps = trace(model, input_shape)
    layers = []
    for step in steps:
        cost = layer_cost(step.form, step.input_shape)
        layers.append(
            LayerCount(
                step.path,
                type(step.module).__name__,
                cost.total_params,
                cost.operations,
                {**cost.macs, **cost.elements},
            )
        )
    return Count("closed form", version("e4profile"), tuple(layers))


def printed_form(model: nn.Module, input_shape: Shape) -> tuple[int, int]:
    """Parameters and MACs by the closed forms as section 4.2 of He et al. 2021 prints them.

    The printed forms cover lifting, group convolution and E4 layers without biases, norms and classifier.
    """
    _, steps = trace(model, input_shape)
    costs = [layer_cost(step.form, step.input_shape) for step in steps]
    return sum(cost.printed_params for cost in costs), sum(cost.printed_macs for cost in costs)
