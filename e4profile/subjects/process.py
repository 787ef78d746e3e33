"""What code can set in the process for everybody, or load into it: how it is read, and given back."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from e4profile.subjects.contents import is_its_own


def as_now() -> list[Callable[[], object]]:
    """Steps that give the process back as it is now: its settings, and files that are not loaded yet."""
    return [functools.partial(apply, settings()), functools.partial(_forget_others, {*sys.modules})]


def _forget_others(known: Collection[str]) -> None:
    """Let files that were loaded since, and keep tensors, be loaded anew by whoever asks: these may have no values."""
    for name in [name for name in sys.modules if name not in known]:
        if is_its_own(name) and _keeps_tensors([*vars(sys.modules[name]).values()]):
            del sys.modules[name]
            parent, _, own = name.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(own, None)


def _keeps_tensors(values: Collection[Any]) -> bool:
    for value in values:
        inside = [*value.values()] if isinstance(value, Mapping) else value
        held = isinstance(inside, (list, tuple, set)) and any(isinstance(one, torch.Tensor) for one in inside)
        if held or isinstance(value, torch.Tensor):
            return True
    return False


def settings() -> dict[str, Any]:
    """Every setting by name, as it is now."""
    return {
        "default_dtype": torch.get_default_dtype(),
        "default_device": torch.get_default_device() if hasattr(torch, "get_default_device") else None,
        "grad_mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "folder": _working_directory(),
    }


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed while we are in it
        return None


def apply(values: dict[str, Any]) -> None:
    """Set what differs from these values."""
    now = settings()
    setters: dict[str, Any] = {
        "default_dtype": torch.set_default_dtype,
        "default_device": torch.set_default_device,
        "grad_mode": torch.set_grad_enabled,
        "threads": torch.set_num_threads,
        "deterministic": torch.use_deterministic_algorithms,
        "matmul_precision": torch.set_float32_matmul_precision,
        "folder": lambda folder: None if folder is None else os.chdir(folder),
    }
    for name, value in values.items():
        if value != now[name]:
            setters[name](value)
