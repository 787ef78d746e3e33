"""Products that are summed: a contraction written out element by element.

``(unfolded * weights).sum(dim)`` multiplies and accumulates, but to the dispatcher it is an element-by-element
product and a sum, both free. The pair is found by following each product's memory to a sum. It is no contraction
where only one factor varies along the summed axes (a scaling, then a sum), nor where the product's elements are used
for something else too (a gated map that is also pooled). The sums of real and imaginary parts are followed to
the convolution that does the work of two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_PRODUCTS = ("mul", "mul_")
_SUMS = {
    # which argument is summed, and which one says along what: an axis, or the indices that its leading axes have
    "sum": (0, 1), "mean": (0, 1), "nansum": (0, 1), "cumsum": (0, 1),
    "index_add": (3, 1), "scatter_add": (3, 1), "scatter_reduce": (3, 1), "index_reduce": (3, 1),
    "index_put": (2, 1), "_index_put_impl": (2, 1), "_unsafe_index_put": (2, 1), "segment_reduce": (0, 5),
}  # fmt: skip
_COPIES = ("clone", "_to_copy", "contiguous", "_unsafe_view", "_reshape_copy", "copy")


class Role(NamedTuple):
    """What an operator does with a product."""

    forms: bool
    sums: tuple[int, int] | None
    copies: bool
    changes: bool
    looks: bool


def role_of(func: Any) -> Role:
    """The role of an operator overload.

    It ``changes`` what it is given where it writes into it, and only ``looks`` at the shape where it makes another.
    """
    name = func._overloadpacket._qualified_op_name.removeprefix("aten::")
    plain = name.removesuffix("_") if func._schema.is_mutable else name
    looks = name.endswith("_like") or name.startswith("new_")
    return Role(name in _PRODUCTS, _SUMS.get(plain), name in _COPIES, bool(func._schema.is_mutable), looks)


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
        if made and carried is None and not role.looks:
            self._consume(role, arguments)
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

    def _consume(self, role: Role, arguments: tuple[Any, ...]) -> None:
        summed = arguments[role.sums[0]] if role.sums and len(arguments) > role.sums[0] else None
        for tensor in _tensors(arguments):
            held = self._held.get(_memory(tensor))
            if held is None:
                continue
            if role.sums and tensor is summed and _accumulates(role.sums, arguments):
                held.product.contracted |= _contracts(summed, _along(role.sums, arguments), held.varying)
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


def _accumulates(sums: tuple[int, int], arguments: tuple[Any, ...]) -> bool:
    """Whether what may sum does: not where a value is put in place of another, or the largest is taken."""
    last = arguments[sums[0] + 1] if len(arguments) > sums[0] + 1 else None
    return last in ("sum", "mean") if isinstance(last, str) else sums[0] != 2 or last is True


def _along(sums: tuple[int, int], arguments: tuple[Any, ...]) -> Any:
    along = arguments[sums[1]] if len(arguments) > sums[1] else None
    if sums[0] == 2:
        return list(range(max(index.dim() for index in _tensors((along,)))))
    return 0 if sums[1] == 5 and along is None else along


def _contracts(summed: Tensor, dims: Any, varying: Sequence[_Axis] | None) -> bool:
    """Whether a sum runs along an axis of the product, however it is viewed, along which both factors vary.

    A step of stride s, taken n times, moves along those axes of the product whose own steps and extents overlap
    the memory between s and s * n.
    """
    given = range(summed.dim()) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    axes = [_Axis(summed.stride(d), summed.shape[d]) for d in given if summed.dim() and summed.shape[d] > 1]
    if varying is None:
        return bool(axes)
    return any(
        own.stride < axis.stride * axis.size and own.stride * own.size > axis.stride for axis in axes for own in varying
    )


class ComplexParts:
    """Follows real and imaginary parts to the convolutions that PyTorch makes of a complex one.

    It runs three real ones: of the real parts, of the imaginary parts, and of the sums of both, which does the work
    of two.
    """

    def __init__(self) -> None:
        self._what: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def products(self, name: str, arguments: tuple[Any, ...], out: Any) -> int:
        """How many of the four real products of a complex one an executed operator does the work of; else 1."""
        what = self._what
        if name == "aten::view_as_real":
            what[out] = "both"
        elif not what:
            return 1
        elif name == "aten::select" and what.get(arguments[0]) == "both":
            what[out] = "part"
        elif name == "aten::add" and all(what.get(part) == "part" for part in _tensors(arguments[:2])):
            what[out] = "sum"
        elif name in _FACTORS and all(what.get(factor) == "sum" for factor in arguments[_FACTORS[name]]):
            return 2
        return 1


_FACTORS = {"aten::convolution": slice(0, 2), "aten::convolution_backward": slice(1, 3)}
