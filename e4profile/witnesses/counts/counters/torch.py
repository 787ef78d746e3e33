"""PyTorch's own ``FlopCounterMode``: it counts each operator that runs and has a formula, two FLOPs per MAC.

It runs on the network's own device, as its users run it, and what has a formula depends on the device: on a CPU the
fused attention, the fast path of the transformer layers and the recurrent layers have none. The operators of
``e4profile.ops`` register theirs with PyTorch, so that it sees their aggregation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import Count, CounterSpec, layer_counts

if TYPE_CHECKING:
    from torch import nn


def count_torch(model: nn.Module, inputs: Sequence[Any], **keywords: Any) -> Count:
    """Count with ``torch.utils.flop_counter.FlopCounterMode``; operations are MACs by operator.

    Raises:
        SettingError: for an operator whose FLOPs are odd, which no number of MACs is.
        Whatever the model raises.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from e4profile.ops.flops import macs_of
    from e4profile.witnesses.walk import following

    by_path: dict[str, Counter[str]] = {}
    mode = FlopCounterMode(display=False)
    with following(model) as walk:

        def located(operator: Any, formula: Callable[..., int]) -> Callable[..., int]:
            # the mode's own table adds up every module with those inside it, from which a module that two others
            # share cannot be taken out again
            def flops(*arguments: Any, **named: Any) -> int:
                found = formula(*arguments, **named)
                by_path.setdefault(walk.path, Counter())[str(operator)] += macs_of(str(operator), int(found))
                return found

            return flops

        mode.flop_registry = {operator: located(operator, formula) for operator, formula in mode.flop_registry.items()}
        with mode:
            model(*inputs, **keywords)
    return Count(COUNTER.name, COUNTER.version or "", layer_counts(model, by_path), raw=True)


COUNTER = CounterSpec("torch", "torch", count_torch, keywords=True)
