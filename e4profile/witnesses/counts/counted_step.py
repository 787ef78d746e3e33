"""The products of one training step, forward and backward, counted from what runs on the meta device.

For models without a closed form. PyTorch's own formula for the backward of a convolution charges the gradient of
the weight as if every group met every input channel; here both gradients cost what the forward pass costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from e4profile.conventions import MAC_KINDS
from e4profile.subjects.batches import ModelInputs
from e4profile.subjects.borrowed import borrowed
from e4profile.subjects.losses import Loss
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.counts.ledger import operations


@dataclass(frozen=True)
class CountedStep:
    """MACs of one training step, without the optimiser's update.

    Attributes:
        forward: of the forward pass, in training mode.
        backward: for the gradients of feature maps and parameters that require one, with what an operator computes
            again in backward.
        unknown: operators of the forward pass that have no formula, with how often they ran.
    """

    forward: int
    backward: int
    unknown: Mapping[str, int]


class _Products(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution_backward.default:
            self.macs += _convolution_backward(*args)
            return out
        # the gradients of activations, norms and pooling have no formula: they multiply element by element
        amounts = operations(func, args, kwargs or {}, out, None) or {}
        self.macs += sum(amount for kind, amount in amounts.items() if kind in MAC_KINDS)
        return out


def _convolution_backward(gradient: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, *rest: Any) -> int:
    transposed, wanted = rest[4], rest[-1]
    # every element of the side with fewer positions meets the weights of its group once
    positions = features if transposed else gradient
    forward = positions.numel() * math.prod(weight.shape[1:])
    return forward * (bool(wanted[0]) + bool(wanted[1]))


def count_training_step(
    model: nn.Module, inputs: ModelInputs, batch_size: int | None = None, loss: Loss = "auto"
) -> CountedStep:
    """Count one training step of a network; it is left as it was found.

    Args:
        model: on any device; nothing is computed.
        inputs: of one call (see ``ModelInputs``).
        batch_size: in place of the inputs' leading sizes; None leaves them.
        loss: what backward starts from (see ``e4profile.subjects.losses``).

    Raises:
        SettingError: for a loss that does not fit the output.
        Whatever the model's forward raises.
    """
    with borrowed(model, inputs, batch_size=batch_size, train=True, device="meta") as lent:
        example = lent.example
        value = lent.loss(lent.forward(), loss)
        with _Products() as backward:
            value.backward()
    forward = count_dispatch(model, example.positional, example.keywords, training=True)
    return CountedStep(forward.macs, backward.macs, forward.uncounted)
