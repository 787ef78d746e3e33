"""What in a run breaks equivariance: windows that do not sit symmetrically on a map, and numbers of less precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from e4profile.groups import FiniteGroup, Group
from e4profile.witnesses.walk import Walk, following


class Causes(TorchDispatchMode):
    """What happened while the body ran, whoever called it.

    Attributes:
        windows: by the path of the module in which they ran, why windows break exactness, and the sizes that do not.
        lower: the dtype of least precision below the one that was asked for; None where there is none.
    """

    def __init__(self, network: nn.Module, acting: FiniteGroup, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.windows: dict[str, str] = {}
        self.lower: torch.dtype | None = None
        self._network, self._reversed, self._dtype = network, acting.reversed_axes, dtype
        self._on_squares = type(acting) is Group
        self._walk: Walk | None = None

    def __enter__(self) -> Causes:
        self._following = following(self._network)
        self._walk = self._following.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._following.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and look at it."""
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(one, Tensor) and one.is_floating_point():
                self._note(one.dtype)
        call = self._walk.running if self._walk is not None else None
        path = "functional code" if call is None else f"{call.path or 'the network'} ({type(call.module).__name__})"
        reason = None if path in self.windows else self._reason(func, args, kwargs or {})
        if reason is not None:
            self.windows[path] = reason
        return found

    def _reason(self, func: Any, args: Any, kwargs: Any) -> str | None:
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        for axis, reverses in zip((-2, -1), self._reversed, strict=True):
            window = _window(given, axis) if reverses else None
            if window is None:
                continue
            size, kernel, stride, padding = window
            rest = (size + 2 * padding - kernel) % stride
            if rest:
                exact = " or ".join(str(one) for one in (size - rest, size - rest + stride) if one >= kernel)
                found = (
                    f"stride {stride} on a map of {size}: windows of {kernel} with padding {padding} do not sit "
                    "symmetrically"
                )
                # other groups may ask for more than that
                return f"{found}; a map of {exact} is exact" if self._on_squares else found
        return None

    def _note(self, dtype: torch.dtype) -> None:
        precision = torch.finfo(dtype).eps
        if precision > torch.finfo(self.lower or self._dtype).eps:
            self.lower = dtype


def _window(given: Mapping[str, Any], axis: int) -> tuple[int, int, int, int] | None:
    """Size, kernel, stride and padding along an axis of the grid; None for an operator without strided windows."""

    def along(name: str, default: int) -> int:
        value = given.get(name, ())
        return int(value if isinstance(value, int) else value[max(axis, -len(value))] if len(value) else default)

    features = given.get("input", given.get("self"))
    if not isinstance(features, Tensor) or features.dim() < 4:
        return None
    size = features.shape[axis]
    if isinstance(given.get("step"), int):
        own = given.get("dim", 0) in (axis, features.dim() + axis)
        return (size, 1, given["step"], 0) if own and given["step"] > 1 else None
    if "stride" not in given or given.get("transposed") or not ("kernel_size" in given or "weight" in given):
        return None
    kernel = given["weight"].shape[axis] if "weight" in given else along("kernel_size", 1)
    return size, (kernel - 1) * along("dilation", 1) + 1, along("stride", kernel), along("padding", 0)
