"""thop, raw: what its users would get. It hooks the leaf modules of a copy of the model and runs it once."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from e4profile.subjects.as_found import evaluation_mode, random_state_kept
from e4profile.witnesses.counts.base import Count, LayerCount


def count_thop(model: nn.Module, inputs: Sequence[Any]) -> Count:
    """Count with ``thop.profile``; the model itself is not touched.

    Each layer's operations stand under its class name, because thop has no finer account. Its parameters
    are its own too: it adds up the leaf modules that it knows.

    Raises:
        ImportError: when thop (or ``distutils``, which it needs) is not installed.
        Whatever the model or thop raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from thop import profile

        copied = copy.deepcopy(model)
        with evaluation_mode(copied), random_state_kept(), torch.no_grad():
            _, _, account = profile(copied, inputs=tuple(inputs), verbose=False, ret_layer_info=True)
    layers: list[LayerCount] = []

    def leaves(parts: dict[str, Any], module: nn.Module, path: str) -> None:
        for name, (operations, params, inner) in parts.items():
            below = f"{path}.{name}" if path else name
            child = module.get_submodule(name)
            if inner:
                leaves(inner, child, below)
            elif operations or params:
                kind = type(child).__name__
                amounts = {kind: int(operations)} if operations else {}
                layers.append(LayerCount(below, kind, int(params), amounts))

    leaves(account, model, "")
    notes = ("parameters are thop's own: only leaf modules that it knows",)
    return Count("thop", version("thop"), tuple(layers), raw=True, notes=notes)
