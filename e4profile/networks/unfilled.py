"""Building a network for its shapes alone."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MOST_BYTES = 2**28


class TooLargeError(RuntimeError):
    """A network that is better built on the meta device."""


class Unfilled(TorchFunctionMode):
    """Inside, weights keep whatever their memory holds, which is not touched.

    A closed form reads no tensor, and building on the CPU without filling weights takes less than half the time of
    building on the meta device, whose index arithmetic runs in Python; as long as there are few indices.

    Raises:
        TooLargeError: inside, once the tensors that were made take more than 256 MiB.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The tensor itself for what initialises one."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        made = func(*args, **kwargs)
        if isinstance(made, torch.Tensor):
            self._bytes += made.nbytes
            if self._bytes > _MOST_BYTES:
                raise TooLargeError(f"more than {_MOST_BYTES} bytes")
        return made
