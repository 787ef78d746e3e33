"""What the E4 layers of a network cost against group convolutions in their place, over kernel and group order."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from e4profile.errors import SettingError
from e4profile.layers.containers import Step, trace
from e4profile.layers.e4 import E4Conv2d
from e4profile.layers.group_conv import GroupConv2d
from e4profile.layers.terms import compile_expression, total
from e4profile.networks.cards import Card
from e4profile.symbols import A_K, A_V, A, affine_pairs, h_conv, h_out, has_bias, k, w_conv, w_out

_DEFAULT_MODELS = ("e4net", "p4m-e4r18")

KERNELS = (3, 5, 7, 9, 11)
ORDERS = (1, 2, 4, 8)
"""The orders of the groups that are exact on the pixel grid: z2; C2, D1; p4, D2; p4m."""

QUANTITIES = ("params", "macs")


def default_models() -> tuple[str, ...]:
    """The smallest and the largest E4 network as released."""
    return _DEFAULT_MODELS


def ratio_rows(card: Card) -> list[dict[str, Any]]:
    """One row per quantity, kernel and group order: the E4 layers, group convolutions of the same shapes, the ratio.

    Widths in fields, reduction, slices and map sizes are the network's own; only k and A vary. Closed form alone,
    for one image; the counts are exact integers.

    Raises:
        SettingError: for a network without E4 layers.
    """
    _, steps = trace(card.build("meta"), card.input_shape())
    layers = [(step, step.module) for step in steps if isinstance(step.module, E4Conv2d)]
    if not layers:
        raise SettingError(f"{card.name} has no E4 layers to set against group convolutions")
    kernels = np.array(KERNELS, dtype=np.int64)[:, None]
    orders = np.array(ORDERS, dtype=np.int64)[None, :]
    grid = np.zeros((len(KERNELS), len(ORDERS)), dtype=np.int64)
    own = (layers[0][1].kernel, layers[0][1].group.order)
    rows: list[dict[str, Any]] = []
    for quantity in QUANTITIES:
        dynamic = sum((_many(E4Conv2d, quantity, _e4_values(*one, kernels, orders)) for one in layers), grid)
        static = sum((_many(GroupConv2d, quantity, _gcnn_values(*one, kernels, orders)) for one in layers), grid)
        rows += [
            {
                "model": card.name,
                "quantity": quantity,
                "kernel": kernel,
                "group_order": order,
                "e4": int(dynamic[i, j]),
                "gcnn": int(static[i, j]),
                "ratio": int(dynamic[i, j]) / int(static[i, j]),
                "own": (kernel, order) == own,
            }
            for i, kernel in enumerate(KERNELS)
            for j, order in enumerate(ORDERS)
        ]
    return rows


def _many(layer: type[E4Conv2d] | type[GroupConv2d], quantity: str, values: dict[sp.Symbol, Any]) -> Any:
    return compile_expression(total(getattr(layer, quantity))).many(values)


def _e4_values(step: Step, layer: E4Conv2d, kernels: Any, orders: Any) -> dict[sp.Symbol, Any]:
    encoder, kernel = layer.concatenate in ("both", "encoder"), layer.concatenate in ("both", "kernel")
    return {
        **step.form.dimensions(step.input_shape),
        A: orders,
        k: kernels,
        A_V: orders if encoder else 1,
        A_K: orders if kernel else 1,
        affine_pairs: orders if layer.squeeze_affine == "channel" else 1,
    }


def _gcnn_values(step: Step, layer: E4Conv2d, kernels: Any, orders: Any) -> dict[sp.Symbol, Any]:
    """A convolution padded to the size of the E4 layer's own output, with true strides."""
    values = _e4_values(step, layer, kernels, orders)
    return {**values, h_conv: values[h_out], w_conv: values[w_out], has_bias: 0}
