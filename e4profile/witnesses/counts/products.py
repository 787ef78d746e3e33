"""Products that are summed: a contraction written out element by element.

``(unfolded * weights).sum(dim)`` multiplies and accumulates, but to the dispatcher it is an element-by-element
product and a sum, both free. The pair is found by following each product's memory to a sum. It is no contraction
where only one factor varies along the summed axes (a scaling, then a sum), nor where the product's elements are used
for something else too (a gated map that is also pooled).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

_PRODUCTS = ("mul", "mul_")
_SUMS = ("sum", "mean")
_COPIES = ("clone", "_to_copy", "contiguous", "_unsafe_view", "_reshape_copy", "copy")


class Role(NamedTuple):
    """What an operator does with a product."""

    forms: bool
    sums: bool
    copies: bool
    changes: bool


def role_of(func: Any) -> Role:
    """The role of an operator overload; ``changes`` where it writes into what it is given."""
    name = func._overloadpacket._qualified_op_name.removeprefix("aten::")
    return Role(name in _PRODUCTS, name in _SUMS, name in _COPIES, bool(func._schema.is_mutable))


@dataclass
class _Product:
    """A product that is followed: where it was formed, its elements, and what consumed it."""

    path: str
    amount: int
    contracted: bool = False
    used: bool = False


class _Axis(NamedTuple):
    stride: int
    size: int


class _Held(NamedTuple):
    """A product in some memory, with the axes along which both factors vary; None where a copy moved them."""

    product: _Product
    varying: tuple[_Axis, ...] | None


class SummedProducts:
    """Follows products of two tensors through views and copies to a sum over at least one axis."""

    def __init__(self) -> None:
        self._products: list[_Product] = []
        self._held: dict[int | None, _Held] = {}

    @property
    def macs(self) -> dict[str, int]:
        """Elements of products that were only summed, by the path where the product was formed."""
        found: Counter[str] = Counter()
        for product in self._products:
            if product.contracted and not product.used:
                found[product.path] += product.amount
        return dict(found)

    def see(self, role: Role, arguments: tuple[Any, ...], out: Any, path: str, *, charged: bool) -> None:
        """Look at one executed operator; ``charged`` products are already MACs."""
        if not self._held and not role.forms:
            return
        first = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
        source = None if first is None else _memory(first)
        made = [tensor for tensor in _tensors((out,)) if _memory(tensor) != source or role.changes]
        carried = self._held.get(source) if role.copies else None
        if made and carried is None:
            self._consume(role, arguments, first)
        # memory is used again: a new tensor at an old address is no product, and an in-place change makes it none
        for tensor in made:
            self._held.pop(_memory(tensor), None)
        if not isinstance(out, Tensor):
            return
        if carried is not None and first is not None:
            same = out.shape == first.shape and out.stride() == first.stride()
            self._held[_memory(out)] = carried if same else carried._replace(varying=None)
        if role.forms and not charged and _memory(out) is not None and _is_product(arguments):
            product = _Product(path, out.numel())
            self._products.append(product)
            self._held[_memory(out)] = _Held(product, tuple(_varying(arguments[:2], out)))

    def _consume(self, role: Role, arguments: tuple[Any, ...], first: Tensor | None) -> None:
        for tensor in _tensors(arguments):
            held = self._held.get(_memory(tensor))
            if held is None:
                continue
            if role.sums and tensor is first:
                held.product.contracted |= _contracts(first, arguments, held.varying)
            else:
                held.product.used = True


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _memory(tensor: Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None  # sparse and other tensors without memory of their own are never followed


def _is_product(arguments: tuple[Any, ...]) -> bool:
    return all(isinstance(factor, Tensor) and factor.numel() > 1 for factor in arguments[:2])


def _varying(factors: Sequence[Tensor], out: Tensor) -> Iterator[_Axis]:
    """The axes of a product along which no factor is constant."""
    for back in range(1, out.dim() + 1):
        sizes = [factor.shape[-back] if factor.dim() >= back else 1 for factor in factors]
        if min(sizes) > 1 and all(factor.stride(-back) for factor in factors):
            yield _Axis(out.stride(-back), out.shape[-back])


def _contracts(summed: Tensor, arguments: tuple[Any, ...], varying: Sequence[_Axis] | None) -> bool:
    """Whether a sum runs along an axis of the product, however it is viewed, along which both factors vary.

    A step of stride s, taken n times, moves along those axes of the product whose own steps and extents overlap
    the memory between s and s * n.
    """
    dims = arguments[1] if len(arguments) > 1 else None
    given = range(summed.dim()) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    axes = [_Axis(summed.stride(d), summed.shape[d]) for d in given if summed.dim() and summed.shape[d] > 1]
    if varying is None:
        return bool(axes)
    return any(
        own.stride < axis.stride * axis.size and own.stride * own.size > axis.stride for axis in axes for own in varying
    )
