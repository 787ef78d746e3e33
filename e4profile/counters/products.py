"""Products that are summed: a contraction written out element by element.

``(unfolded * weights).sum(dim)`` multiplies and accumulates, but to the dispatcher it is an element-by-element
product and a sum, both free. The pair is found by following each product's memory to a sum.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor

_PRODUCTS = ("mul", "mul_")
_SUMS = ("sum", "mean")
_COPIES = ("clone", "_to_copy", "contiguous", "_unsafe_view", "_reshape_copy", "copy")


class SummedProducts:
    """Follows products of two tensors through views and copies to a sum over at least one axis.

    Attributes:
        macs: elements of products that were summed, by the path where the product was formed.
    """

    def __init__(self) -> None:
        self.macs: Counter[str] = Counter()
        self._open: dict[int | None, tuple[str, int]] = {}

    def see(self, func: Any, arguments: tuple[Any, ...], out: Any, path: str, *, charged: bool) -> None:
        """Look at one executed operator; ``charged`` products are already MACs."""
        name = func._overloadpacket._qualified_op_name.removeprefix("aten::")
        first = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
        source = None if first is None else _memory(first)
        if name in _SUMS and first is not None and out.numel() < first.numel():
            product = self._open.pop(source, None)
            if product is not None:
                self.macs[product[0]] += product[1]
        # memory is used again: a new tensor at an old address is no product, and an in-place change makes it none
        carried = self._open.get(source) if name in _COPIES else None
        for made in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(made, Tensor) and (_memory(made) != source or func._schema.is_mutable):
                self._open.pop(_memory(made), None)
        if not isinstance(out, Tensor):
            return
        if carried is not None:
            self._open[_memory(out)] = carried
        if name in _PRODUCTS and not charged and _memory(out) is not None and _is_product(arguments):
            self._open[_memory(out)] = (path, out.numel())


def _memory(tensor: Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None  # sparse and other tensors without memory of their own are never followed


def _is_product(arguments: tuple[Any, ...]) -> bool:
    return all(isinstance(factor, Tensor) and factor.numel() > 1 for factor in arguments[:2])
