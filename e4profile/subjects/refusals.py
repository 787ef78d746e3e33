"""What cannot be counted: a module that cannot be followed, and an output whose work has not been done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from e4profile.errors import SettingError


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


def check_module(name: str, model: nn.Module) -> None:
    """Refuse what is a module by its class alone, or cannot be followed module by module.

    Raises:
        SettingError: for a module whose ``__init__`` did not call ``super().__init__()``, one that contains itself,
            and a ``ScriptModule``; naming it.
    """
    _check_inside(name, model, "", {}, set())


def _check_inside(name: str, module: Any, path: str, outer: dict[int, str], done: set[int]) -> None:
    what = f"{name}: {f'{path} ({type(module).__name__})' if path else type(module).__name__}"
    if isinstance(module, torch.jit.ScriptModule):
        raise SettingError(f"{what} is a ScriptModule, which is not supported: give the module before torch.jit")
    # read past the class's own attributes, which may be anybody's code
    inside = vars(module).get("_modules")
    if inside is None:
        raise SettingError(f"{what} is not set up: its __init__ must call super().__init__()")
    if id(module) in done:
        return
    outer = {**outer, id(module): path or "the network itself"}
    for part, child in inside.items():
        if child is None:
            continue
        below = f"{path}.{part}" if path else part
        if id(child) in outer:
            raise SettingError(f"{name}: {below} is {outer[id(child)]} again: a module must not contain itself")
        _check_inside(name, child, below, outer, done)
    done.add(id(module))
