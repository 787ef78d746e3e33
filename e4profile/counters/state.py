"""Leaving a model as it was found: mode, random numbers, and everything a counter might move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluation_mode(model: nn.Module, training: bool = False) -> Iterator[None]:
    """Put every module in one mode and give each its own mode back, also when the body raises.

    The flags are set directly: a module's own ``train()`` may do more than flip a flag.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = training
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Give the random number generators of every device back as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield


def meta_state(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer as a meta tensor of the same shape, strides and dtype."""
    return {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread: small tensors gain nothing from more, and waiting threads slow a busy machine down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
