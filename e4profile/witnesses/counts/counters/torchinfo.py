"""torchinfo: it multiplies the parameters of each leaf module by its outputs.

A class with "Conv" in its name has outputs at every pixel; any other layer has one output per image. So it charges a
linear map over tokens for the first token only, and a filter that a group convolution turns for one of its copies.
Biases, and the weights of norms and embeddings, are charged too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import BIAS, PER_OUTPUT, Count, CounterSpec, Known, LayerCount

if TYPE_CHECKING:
    from torch import nn


def count_torchinfo(model: nn.Module, inputs: Sequence[Any]) -> Count:
    """Count with ``torchinfo.summary``.

    Each layer's ``total_mult_adds`` are listed by its class, split into those of its biases and the others as
    torchinfo charges them: in proportion to the parameters. Parameters are its own too.

    Raises:
        ImportError: when torchinfo is not installed.
        Whatever the model or torchinfo raises.
    """
    from torchinfo import summary

    try:
        statistics = summary(model, input_data=list(inputs), verbose=0)
    except RuntimeError as error:
        # it raises one of its own, without the message, for whatever the model raised
        raise error.__cause__ or error from None
    paths = {id(module): path for path, module in model.named_modules()}
    amounts: dict[str, Counter[str]] = {}
    params: dict[str, int] = {}
    classes: dict[str, str] = {}
    for layer in statistics.summary_list:
        path = paths[layer.layer_id]
        classes[path] = layer.class_name
        if not layer.is_recursive:
            params[path] = max(layer.num_params if layer.is_leaf_layer else layer.leftover_params(), 0)
        if layer.is_leaf_layer and layer.macs:
            amounts.setdefault(path, Counter()).update(_split(layer))
    layers = tuple(
        LayerCount(path, name, params.get(path, 0), {kind: n for kind, n in amounts.get(path, {}).items() if n})
        for path, name in classes.items()
        if params.get(path) or path in amounts
    )
    return Count(COUNTER.name, COUNTER.version or "", layers, raw=True, notes=("parameters are torchinfo's own",))


def _split(layer: Any) -> dict[str, int]:
    """A layer's figure as torchinfo adds it up: in proportion to its parameters, biases apart."""
    sizes = {name: p.numel() for name, p in layer.module.named_parameters() if "weight" in name or "bias" in name}
    biases = layer.macs * sum(n for name, n in sizes.items() if "bias" in name) // sum(sizes.values())
    products, outputs = layer.macs - biases, 0
    if "ConvTranspose" in layer.class_name:
        # a product is made per position of the input
        outputs = products - products * prod(layer.input_size[2:]) // prod(layer.output_size[2:])
    return {layer.class_name: products - outputs, BIAS: biases, PER_OUTPUT: outputs}


COUNTER = CounterSpec(
    "torchinfo", "torchinfo", count_torchinfo,
    known=(Known("further uses of a weight unseen", lambda _, reported, ran: ran % reported == 0),),
)  # fmt: skip
