"""fvcore, raw: what its users would get. It traces one real forward pass of a copy of the model."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from e4profile.subjects.as_found import evaluation_mode, random_state_kept
from e4profile.witnesses.counts.base import Count, LayerCount


def count_fvcore(model: nn.Module, inputs: Sequence[Any]) -> Count:
    """Count with ``fvcore.nn.FlopCountAnalysis``; the model itself is not touched.

    Its unit is one MAC per "flop", except for norms, which it charges per element.

    Raises:
        ImportError: when fvcore is not installed.
        Whatever the model or fvcore raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        copied = copy.deepcopy(model)
        with evaluation_mode(copied), random_state_kept(), torch.no_grad():
            analysis = FlopCountAnalysis(copied, tuple(inputs))
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            cumulative = analysis.by_module_and_operator()
            unsupported = dict(sorted(analysis.unsupported_ops().items()))
    layers = []
    seen: set[nn.Parameter] = set()
    for path, module in model.named_modules():
        own = Counter({name: int(amount) for name, amount in cumulative.get(path, {}).items()})
        for child, part in module.named_children():
            inner = cumulative.get(f"{path}.{child}" if path else child, {})
            own.subtract({name: int(amount) for name, amount in inner.items() if part is not module})
        parameters = [parameter for parameter in module.parameters(recurse=False) if parameter not in seen]
        seen.update(parameters)
        amounts = {name: amount for name, amount in sorted(own.items()) if amount}
        if amounts or parameters:
            layers.append(LayerCount(path, type(module).__name__, sum(p.numel() for p in parameters), amounts))
    return Count("fvcore", version("fvcore"), tuple(layers), raw=True, uncounted=unsupported)
