"""Leaving a model as it was found: mode, random numbers, and everything a counter might move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError


@contextmanager
def evaluation_mode(model: nn.Module, training: bool = False) -> Iterator[None]:
    """Put every module in one mode and give each its own mode back, also when the body raises.

    The flags are set directly: a module's own ``train()`` may do more than flip a flag.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, mode in modes:
            if mode != training:
                module.training = training
        yield
    finally:
        for module, mode in modes:
            if module.training != mode:
                module.training = mode


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Give the random number generators of every device back as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Give every module its attributes back: a forward may keep something of its run, even on the meta device."""
    tables = ("_parameters", "_buffers", "_modules")
    before = [
        (module, dict(vars(module)), {name: dict(vars(module)[name]) for name in tables if name in vars(module)})
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for module, attributes, inner in before:
            vars(module).clear()
            vars(module).update(attributes)
            for name, entries in inner.items():
                table = vars(module)[name]
                table.clear()
                table.update(entries)


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Give every buffer its values back."""
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in before:
                buffer.copy_(values)


@contextmanager
def tensors_replaced(model: nn.Module, stand_in: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put a stand-in in place of every parameter and buffer; shared tensors share their stand-in.

    ``torch.func.functional_call`` does not serve: it leaves its tensors behind in a module that a model holds
    twice.
    """
    slots = [slot for module in model.modules() for slot in (module._parameters, module._buffers)]
    kept = [(slot, dict(slot)) for slot in slots]
    stand_ins: dict[int, Tensor] = {}
    try:
        for slot, originals in kept:
            for name, tensor in originals.items():
                if tensor is not None:
                    if id(tensor) not in stand_ins:
                        stand_ins[id(tensor)] = stand_in(tensor)
                    slot[name] = stand_ins[id(tensor)]  # type: ignore[assignment]
        yield
    finally:
        for slot, originals in kept:
            slot.clear()
            slot.update(originals)  # type: ignore[arg-type]


@contextmanager
def meta_state(model: nn.Module) -> Iterator[None]:
    """Put a meta tensor of the same shape, strides and dtype in place of every parameter and buffer."""

    def on_meta(tensor: Tensor) -> Tensor:
        stand_in = tensor.detach() if tensor.is_meta else torch.empty_like(tensor, device="meta", requires_grad=False)
        # a forward may ask whether it holds a parameter, or whether that one is trained
        return nn.Parameter(stand_in, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else stand_in

    with tensors_replaced(model, on_meta):
        yield


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters and buffers are; the CPU without any."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread: small tensors gain nothing from more, and waiting threads slow a busy machine down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def refuse_unrun(output: Any) -> None:
    """Refuse what a forward returned where the work itself has not been done.

    Raises:
        SettingError: for a generator, another iterator or a coroutine, also inside tuples, lists and dicts.
    """
    if isinstance(output, (list, tuple, Mapping)):
        for item in output.values() if isinstance(output, Mapping) else output:
            refuse_unrun(item)
    elif isinstance(output, (Iterator, AsyncIterator, Awaitable)):
        if isinstance(output, Coroutine):
            output.close()
        raise SettingError(f"forward returned a {type(output).__name__}, which has not run; return tensors")
