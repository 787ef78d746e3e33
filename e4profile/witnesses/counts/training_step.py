"""The products of one training step, forward and backward, counted from what runs: here, and by PyTorch's own counter.

The count is for models without a closed form. PyTorch's own formula for the backward of a convolution charges the
gradient of the weight as if every group met every input channel; here both gradients cost what the forward pass costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from e4profile.conventions import MAC_KINDS
from e4profile.ops.flops import macs_of
from e4profile.subjects.as_found import as_found, copied_tensor, device_of
from e4profile.subjects.batches import BatchedInputs, ModelInputs
from e4profile.subjects.borrowed import Borrowed, dtype_of, measured, whole
from e4profile.subjects.losses import Loss
from e4profile.witnesses.counts.dispatch import count_run
from e4profile.witnesses.counts.ledger import Price, price_of
from e4profile.witnesses.counts.products import ComplexParts
from e4profile.witnesses.walk import Watcher


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
        self.prices: dict[Any, Price | None] = {}
        self.complex_parts = ComplexParts()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        # the gradients of activations, norms and pooling have no formula: they multiply element by element
        if func not in self.prices:
            self.prices[func] = price_of(func)
        price = self.prices[func]
        amounts = None if price is None else price(args, kwargs or {}, out, None)
        times = self.complex_parts.products(func._overloadpacket._qualified_op_name, args, out)
        self.macs += times * sum(amount for kind, amount in (amounts or {}).items() if kind in MAC_KINDS)
        return out


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
    model = whole(model, inputs, batch_size)

    def backward_macs(lent: Borrowed) -> int:
        backward = _Products()
        # a complex convolution is followed from its parts, which are made in the forward pass
        with backward:
            value = lent.loss(lent.forward(), loss)
        forward_macs = backward.macs
        with backward:
            value.backward()
        return backward.macs - forward_macs

    backward, _ = measured(model, inputs, backward_macs, batch_size=batch_size, train=True, device="meta")
    example = BatchedInputs.of(inputs).at(batch_size, dtype_of(model), device_of(model))
    forward, _, _ = count_run(model, example, Watcher, training=True)
    return CountedStep(forward.macs, backward, forward.uncounted)


def measured_training_macs(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """MACs that run while ``loss()`` is computed in training mode and differentiated.

    The optimiser's update is elementwise and multiplies no matrices, so it is not part of this. Works on the
    meta device. PyTorch's counter says (1 + g) / 2 times too much for the backward of a convolution with g
    groups (torch 2.13), so this is a truth only for networks without grouped convolutions.

    Args:
        model: the network that ``loss`` runs; its mode, buffers, gradients and the random state are left as
            they were, also when ``loss`` raises.
        loss: gives the scalar to differentiate, in the network's parameters.

    Raises:
        SettingError: for an operator whose formula gives an odd number of FLOPs.
        Whatever ``loss`` raises.
    """
    counter = FlopCounterMode(display=False)
    # it would follow modules by comparing them and by hooks on gradients, which not all networks take
    tracker: Any = SimpleNamespace(parents={"Global"}, __enter__=lambda: None, __exit__=lambda *_: None)
    counter.mod_tracker = tracker
    with as_found(model, copied_tensor, training=True), torch.enable_grad(), counter:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        torch.autograd.grad(loss(), parameters, allow_unused=True)
    by_operator = counter.get_flop_counts().get("Global", {})
    return sum(macs_of(str(operator), flops) for operator, flops in by_operator.items())
