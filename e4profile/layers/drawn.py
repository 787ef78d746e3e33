"""Networks that are drawn: their modules with every size, and no tensor in them.

A constructor runs as it is, so that its checks and the topology's choices are those of a build; where it makes a
tensor it gets the tensor's sizes alone. A closed form reads nothing else. What wants values cannot be drawn, and has
to be built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from math import prod
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from e4profile.errors import is_many

_DRAWING: ContextVar[bool] = ContextVar("drawing", default=False)


def is_drawing() -> bool:
    """Whether networks are drawn here, so that tables that follow from arguments are not made."""
    return _DRAWING.get()


class Undrawable(BaseException):
    """Code that wants a tensor's values; no error, so that no code takes it for one."""


with torch.device("meta"):
    # a default device notes at its first use which functions make tensors: that must be torch's own
    _empty = torch.empty
    _empty(0)
_FACTORIES = {"empty": 0, "zeros": 0, "ones": 0, "rand": 0, "randn": 0, "full": 1}
"""What makes a tensor of given sizes, with the number of arguments behind the sizes."""
_KNOWN = (
    "dtype",
    "device",
    "is_meta",
    "requires_grad",
    "layout",
    "is_leaf",
    "is_sparse",
    "is_quantized",
    "grad",
    "grad_fn",
)
_ASKED = ("is_complex", "is_floating_point", "requires_grad_", "element_size", "is_contiguous")


class DrawnTensor(Tensor):
    """The sizes and the dtype of a tensor that is not there."""

    sizes: tuple[Any, ...]

    @staticmethod
    def of(sizes: tuple[Any, ...], dtype: torch.dtype | None = None) -> DrawnTensor:
        """A tensor of these sizes.

        Raises:
            RuntimeError: for sizes that no tensor of torch has.
        """
        if any(size < 0 for size in sizes):
            raise RuntimeError(f"Trying to create tensor with negative dimension: {sizes}")
        elements, most = prod(sizes), 2**63 // (dtype or torch.get_default_dtype()).itemsize
        if is_many(elements) and elements.at_most() < most:
            pass  # no setting comes near
        elif elements >= most:
            raise RuntimeError(f"Storage size calculation overflowed with sizes={sizes}")
        with torch._C.DisableTorchFunction():
            none = _empty(0, dtype=dtype, device="meta")
            drawn: DrawnTensor = Tensor._make_subclass(DrawnTensor, none)
        drawn.sizes = sizes
        return drawn

    @property
    def shape(self) -> Any:  # type: ignore[override]
        """Its sizes."""
        return self.sizes

    @property
    def ndim(self) -> int:  # type: ignore[override]
        """How many sizes it has."""
        return len(self.sizes)

    def size(self, dim: int | None = None) -> Any:
        """Its sizes, or one of them."""
        return self.sizes if dim is None else self.sizes[dim]

    def dim(self) -> int:
        """How many sizes it has."""
        return len(self.sizes)

    def numel(self) -> Any:
        """Its elements."""
        return prod(self.sizes)

    def __len__(self) -> int:
        return int(self.sizes[0])

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"a drawn tensor of sizes {self.sizes}"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The tensor itself for what fills it; what is known without values.

        Raises:
            Undrawable: for anything else.
        """
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = func.__self__.__name__
            if name == "data":
                return args[0]
        if name in _KNOWN or name in _ASKED:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if name.endswith("_like"):
            return DrawnTensor.of(args[0].sizes, kwargs.get("dtype") or args[0].dtype)
        # filling it in place, as ``weight.zero_()`` does; taking it off the graph
        if name == "detach" or (name.endswith("_") and not name.endswith("__")):
            return args[0]
        raise Undrawable(f"{name} of a tensor's values")


def _drawn_instead(make: Callable[..., Tensor], behind: int) -> Callable[..., Tensor]:
    """What stands for a function of torch meanwhile; torch's own would want plain numbers before anything is asked."""

    @wraps(make)
    def made(*args: Any, **kwargs: Any) -> Tensor:
        if not is_drawing():
            return make(*args, **kwargs)
        sizes = kwargs.get("size", args[: len(args) - behind if "fill_value" not in kwargs else None])
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            (sizes,) = sizes
        return DrawnTensor.of(tuple(sizes), kwargs.get("dtype"))

    return made


_DRAWN = {name: _drawn_instead(getattr(torch, name), behind) for name, behind in _FACTORIES.items()}
_LOCK = RLock()
_OPEN: list[dict[str, Any]] = []


@contextmanager
def drawing() -> Iterator[None]:
    """Draw the networks that are made inside, by this thread, instead of building them."""
    with _LOCK:
        # innermost last: what is found here is what is given back
        _OPEN.append({name: getattr(torch, name) for name in _DRAWN})
        for name, made in _DRAWN.items():
            setattr(torch, name, made)
    token = _DRAWING.set(True)
    try:
        yield
    finally:
        _DRAWING.reset(token)
        with _LOCK:
            for name, own in _OPEN.pop().items():
                setattr(torch, name, own)
