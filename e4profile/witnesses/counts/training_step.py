"""What PyTorch's own counter sees of one training step: the products of forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from e4profile.subjects.as_found import evaluation_mode, random_state_kept


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
        Whatever ``loss`` raises.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kept = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with (
            evaluation_mode(model, training=True),
            random_state_kept(),
            torch.enable_grad(),
            FlopCounterMode(display=False) as counter,
        ):
            torch.autograd.grad(loss(), parameters, allow_unused=True)
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
    flops: int = counter.get_total_flops()
    return flops // 2
