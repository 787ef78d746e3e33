"""Building a network for its shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MOST = 2**26
"""Elements: of all tensors together, and of any result."""


class TooLargeError(RuntimeError):
    """A network that is better built on the meta device."""


class Unfilled(TorchFunctionMode):
    """Inside, weights keep whatever their memory holds, which is not touched.

    A closed form reads no tensor, and a network without filled weights can be given values later: it is built once.

    Raises:
        TooLargeError: inside, before a tensor is made that takes the elements of all beyond 2**26.
    """

    def __init__(self) -> None:
        super().__init__()
        self._elements = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The tensor itself for what initialises one."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        self._check(max(_asked_for(args), _broadcast(args)))
        made = func(*args, **kwargs)
        if isinstance(made, Tensor):
            self._elements += made.numel()
            self._check(self._elements)
        return made

    def _check(self, elements: int) -> None:
        if elements > _MOST:
            raise TooLargeError(f"more than {_MOST} elements")


def _asked_for(arguments: Sequence[Any]) -> int:
    """The product of the sizes among the arguments."""
    sizes = (size for one in arguments for size in (one if isinstance(one, (tuple, list)) else (one,)))
    return math.prod(size for size in sizes if isinstance(size, int) and size > 1)


def _broadcast(arguments: Sequence[Any]) -> int:
    """The elements of the tensors among the arguments, side by side; 0 where they are not."""
    shapes = [one.shape for one in arguments if isinstance(one, Tensor)]
    try:
        return math.prod(torch.broadcast_shapes(*shapes)) if len(shapes) > 1 else 0
    except RuntimeError:
        return 0
