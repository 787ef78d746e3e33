"""A group convolution executed in the irrep basis: the same function, one small product per irrep.

For each of the k * k offsets z, element b's map is read at b z (*gathered*). The filter bank's entry from b to a is
then w'(a^-1 b), a convolution over the group, which the real irreps rho turn into one product of d x d blocks each:

    out(a) = sum_z sum_b w'_z(a^-1 b) v_z(b),     v^(rho) = sum_b v(b) rho(b),     out^ = sum_z v^_z w^_z

On groups that are exact on the grid, irreps have the entries 0, 1 and -1: the transforms are sums and differences of
two maps (*butterflies*). Of an irrep of complex type one row is enough: the other repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from e4profile.groups import Group
from e4profile.ops.choice import irrep_kernels_for

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """One irrep's coefficients: ``slots[i][j]`` is where the butterflies leave the entry (i, j)."""

    slots: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> int:
        """Rows that are computed: d, or 1 of an irrep of complex type."""
        return len(self.slots)

    @property
    def dimension(self) -> int:
        """The irrep's d."""
        return len(self.slots[0])

    @property
    def products(self) -> int:
        """Multiplications of one pair of fields at one offset and position: d**3, or d**2 of complex type."""
        return self.rows * self.dimension**2


@dataclass(frozen=True)
class Basis:
    """The transform of one regular field.

    Attributes:
        order: the number of elements, A.
        stages: butterflies: the pair (i, j) replaces the maps i and j by their sum and their difference.
        blocks: where the irreps' coefficients are then.
    """

    order: int
    stages: tuple[tuple[Pair, ...], ...]
    blocks: tuple[Block, ...]

    @property
    def products(self) -> int:
        """Multiplications of one pair of fields at one offset and position, in place of A**2."""
        return sum(block.products for block in self.blocks)

    @property
    def additions(self) -> int:
        """Sums and differences that transform one field at one position; the way back takes as many."""
        return 2 * sum(map(len, self.stages))


def _basis(order: int, stages: tuple[tuple[Pair, ...], ...], *blocks: tuple[tuple[int, ...], ...]) -> Basis:
    return Basis(order, stages, tuple(map(Block, blocks)))


_TWO = _basis(2, (((0, 1),),), ((0,),), ((1,),))
_BASES = {
    "C1": _basis(1, (), ((0,),)),
    "C2": _TWO,
    "D1": _TWO,
    "C4": _basis(4, (((0, 2), (3, 1)), ((0, 3),)), ((0,),), ((3,),), ((2, 1),)),
    "D2": _basis(4, (((0, 1), (2, 3)), ((0, 2), (1, 3))), ((0,),), ((1,),), ((2,),), ((3,),)),
    "D4": _basis(
        8,
        (((0, 2), (3, 1), (4, 6), (7, 5)), ((0, 3), (4, 7)), ((0, 4), (3, 7), (2, 6), (5, 1))),
        ((0,),), ((3,),), ((4,),), ((7,),), ((6, 5), (1, 2)),
    ),
}  # fmt: skip


def basis_of(group: Group) -> Basis:
    """The transform of a group's regular fields.

    Raises:
        SettingError: for a group that is not exact on the grid.
    """
    group.require_exact_on_grid("an execution in the irrep basis")
    return _BASES[group.name]


def to_irreps(maps: Sequence[Tensor], basis: Basis) -> list[Tensor]:
    """The coefficients by slot, of A maps of one shape; differentiable."""
    return _run(maps, basis.stages)


def from_irreps(slots: Sequence[Tensor], basis: Basis) -> list[Tensor]:
    """The transpose of ``to_irreps``, which is its inverse but for a factor A / d per irrep; differentiable."""
    return _run(slots, basis.stages[::-1])


def _run(maps: Sequence[Tensor], stages: Sequence[Sequence[Pair]]) -> list[Tensor]:
    found = list(maps)
    for stage in stages:
        for i, j in stage:
            found[i], found[j] = found[i] + found[j], found[i] - found[j]
    return found


@dataclass(frozen=True)
class Window:
    """A group convolution apart from its tensors."""

    group: Group
    kernel: int
    stride: int
    padding: int
    cosets: tuple[tuple[int, ...], ...] = ()
    """Where fields are of a larger group: ``cosets[p][u]`` is u t_p there; a field is one of this group for each p."""

    @property
    def basis(self) -> Basis:
        """Of the group."""
        return basis_of(self.group)

    @cached_property
    def taps(self) -> tuple[tuple[int, ...], ...]:
        """``[z][b]``: the tap at b z."""
        moved = (self.group.stencil_permutation(self.group.inverse(b), self.kernel) for b in self.group.elements)
        return tuple(zip(*moved, strict=True))

    def split(self, features: Tensor) -> Tensor:
        """(B, c * A, h, w) as regular fields of the group: (B, c, A, h, w), c counting every coset."""
        if not self.cosets:
            own: Tensor = features.unflatten(1, (-1, self.group.order))
            return own
        places = [place for coset in self.cosets for place in coset]
        fields: Tensor = features.unflatten(1, (-1, len(places)))[:, :, places]
        regrouped: Tensor = fields.unflatten(2, (len(self.cosets), -1)).flatten(1, 2)
        return regrouped

    def joined(self, fields: Tensor) -> Tensor:
        """The inverse of ``split``."""
        if self.cosets:
            places = [place for coset in self.cosets for place in coset]
            inverse = sorted(range(len(places)), key=places.__getitem__)
            fields = fields.unflatten(1, (-1, len(self.cosets))).flatten(2, 3)[:, :, inverse]
        return fields.flatten(1, 2)

    def size_out(self, size: int) -> int:
        """How many windows fit along an axis of the padded map."""
        return (size - self.kernel) // self.stride + 1

    def shifts(self, rows: int, columns: int) -> Iterator[list[tuple[slice, slice]]]:
        """For each offset z, what element b reads of a padded map (rows, columns): every window's pixel at b z."""
        for taps in self.taps:
            yield [(self._along(tap // self.kernel, rows), self._along(tap % self.kernel, columns)) for tap in taps]

    def _along(self, first: int, size: int) -> slice:
        return slice(first, first + self.stride * (self.size_out(size) - 1) + 1, self.stride)


def irrep_filters(weight: Tensor, bank_index: Tensor | None, group: Group) -> list[Tensor]:
    """The filters of the products, block by block: (d * c_out, k * k * d * c_in, 1, 1); differentiable.

    Args:
        weight: (c_out, c_in, A, k, k).
        bank_index: of ``Group.filter_bank_index`` as a tensor (A, c_in, A, k * k) of any shape; None for a weight that
            is gathered already, the tap z of its element u being the one at u z.
        group: exact on the grid.
    """
    basis, (c_out, c_in, order) = basis_of(group), weight.shape[:3]
    gathered = weight.flatten(3).unbind(2)
    if bank_index is not None:
        # w'(u), read at u z for the offset z, is what the filter bank has from element 1 to u^-1
        index = bank_index.view(order, c_in, order, -1)[:, 0, 0].flatten()
        by_inverse = weight.flatten(2).index_select(2, index).view(c_out, c_in, order, -1).unbind(2)
        gathered = tuple(by_inverse[group.inverse(u)] for u in group.elements)
    slots = to_irreps(gathered, basis)
    found = []
    for block in basis.blocks:
        d = block.dimension
        # w^ is the transpose of the coefficients; by complex type, of the whole 2 x 2 matrix that the row belongs to
        entries = [[slots[slot] for slot in row] for row in block.slots]
        if block.rows < d:
            ((p, q),) = entries
            entries.append([-q, p])
        stacked = torch.stack([torch.stack(row) for row in entries]).permute(0, 2, 4, 1, 3)
        found.append((stacked * (d / basis.order)).reshape(d * c_out, -1, 1, 1))
    return found


def filter_shapes(c_out: int, c_in: int, kernel: int, group: Group) -> list[tuple[int, ...]]:
    """The shapes of ``irrep_filters``."""
    sizes = (block.dimension for block in basis_of(group).blocks)
    return [(d * c_out, kernel**2 * d * c_in, 1, 1) for d in sizes]


def pays(group: Group, c_in: int, c_out: int, kernel: int, positions: int) -> bool:
    """Whether the irrep basis is faster than the filter bank, by sizes alone (``benchmarks/group_convolution.py``).

    What it saves are products, which grow with c_in * c_out. What it costs are the additions of the transforms, which
    grow with c_in + c_out and move more memory each, and the transform of the weight, whatever the positions.

    Args:
        group: of the fields.
        c_in: input fields.
        c_out: output fields.
        kernel: k.
        positions: where the convolution runs, in all images.
    """
    basis, taps = basis_of(group), kernel**2
    saved = (group.order**2 - basis.products) * taps * c_in * c_out
    additions = basis.additions * (taps * c_in + c_out)
    return positions >= _FEWEST_POSITIONS and saved >= _PRODUCTS_PER_ADDITION * additions > 0


_FEWEST_POSITIONS = 256
_PRODUCTS_PER_ADDITION = 160


def chain(features: Tensor, filters: Sequence[Tensor], bias: Tensor | None, window: Window) -> Tensor:
    """The group convolution by PyTorch's own operators, which tracers, compilers and ``torch.func`` see.

    Args:
        features: (B, c_in * A, h, w).
        filters: of ``irrep_filters``.
        bias: (c_out,) or None.
        window: group, kernel, stride and padding.

    Returns:
        (B, c_out * A, h_out, w_out).
    """
    basis = window.basis
    maps = F.pad(window.split(features), [window.padding] * 4)
    shifts = list(window.shifts(*maps.shape[-2:]))
    gathered = [
        torch.stack([maps[(slice(None), slice(None), b, *shift[b])] for shift in shifts], 1)
        for b in window.group.elements
    ]
    slots = to_irreps(gathered, basis)
    products = list(slots)
    for block, weights in zip(basis.blocks, filters, strict=True):
        for row in block.slots:
            read = torch.stack([slots[slot] for slot in row], 2).flatten(1, 3)
            made = F.conv2d(read, weights).unflatten(1, (block.dimension, -1))
            for slot, product in zip(row, made.unbind(1), strict=True):
                products[slot] = product
    if bias is not None:
        # what every element has the same of is the trivial irrep's
        products[0] = products[0] + bias.to(products[0].dtype)[:, None, None]
    return window.joined(torch.stack(from_irreps(products, basis), 2))


def convolve(
    features: Tensor, weight: Tensor, bias: Tensor | None, bank_index: Tensor | None, window: Window
) -> Tensor:
    """The group convolution, differentiably; only the input and the weight are kept for backward.

    Args:
        features: (B, c_in * A, h, w).
        weight: (c_out, c_in, A, k, k).
        bias: (c_out,) or None.
        bank_index: as in ``irrep_filters``.
        window: group, kernel, stride and padding.

    Returns:
        (B, c_out * A, h_out, w_out).
    """
    found: Tensor = _Convolution.apply(features, weight, bias, bank_index, window)  # type: ignore[no-untyped-call]
    return found


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  (autograd passes by position)
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor | None, window: Window
    ) -> Tensor:
        ctx.save_for_backward(features, weight, index)
        ctx.window = window
        return forward(features, irrep_filters(weight, index, window.group), bias, window)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of features, weight and bias."""
        wanted = ctx.needs_input_grad
        # a caller who differentiates the gradient gets PyTorch's own chain, which can be
        gradients = _differentiable_gradients if torch.is_grad_enabled() else _gradients
        of_bias = ctx.window.split(gradient).sum((0, 2, 3, 4)) if wanted[2] else None
        features, weight, index = ctx.saved_tensors
        found = gradients(gradient, features, weight, index, ctx.window, wanted[:2])
        return *found, of_bias, None, None


def forward(features: Tensor, filters: Sequence[Tensor], bias: Tensor | None, window: Window) -> Tensor:
    """``chain`` without a graph, block of images by block of images; on a GPU by Triton's kernels where they serve."""
    kernels = irrep_kernels_for(features)
    if kernels is not None and kernels.takes(features, len(filters[0]), window):
        made: Tensor = kernels.forward(features, filters, bias, window)
        return made
    basis, maps = window.basis, _padded(features, window)
    batch, rows, columns = len(maps), window.size_out(maps.shape[1]), window.size_out(maps.shape[2])
    c_out = len(filters[0])
    out = features.new_empty((batch, c_out, basis.order, rows, columns))
    for images in _blocks_of_images(maps, window):
        products = list[Tensor](basis.order * [out])
        for place, coefficients in enumerate(_coefficients(maps[images], window)):
            block = basis.blocks[place]
            made = F.conv2d(_as_channels(coefficients), filters[place], bias if place == 0 else None)
            made = made.permute(0, 2, 3, 1).reshape(block.rows, -1, rows, columns, block.dimension, c_out)
            for i, row in enumerate(block.slots):
                for j, slot in enumerate(row):
                    products[slot] = made[i, ..., j, :]
        elements = out.new_empty((len(products[0]), rows, columns, basis.order, c_out))
        _run_into(products, basis.stages[::-1], elements.unbind(3))
        out[images].copy_(elements.permute(0, 4, 3, 1, 2))
    return window.joined(out)


def _gradients(  # noqa: PLR0917
    gradient: Tensor, features: Tensor, weight: Tensor, index: Tensor | None, window: Window, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    kernels = irrep_kernels_for(features)
    if kernels is not None and kernels.takes(features, len(weight), window):
        found: tuple[Tensor | None, Tensor | None] = kernels.gradients(
            gradient, features, weight, index, window, wanted
        )
        return found
    maps = _padded(features, window)
    filters = irrep_filters(weight, index, window.group)
    plain = Window(window.group, 1, 1, 0, window.cosets)
    of_output = _padded(gradient, plain)
    of_maps = torch.zeros_like(maps) if wanted[0] else None
    of_filters = [torch.zeros_like(one) for one in filters]
    for images in _blocks_of_images(maps, window):
        pieces = []
        by_block = zip(_coefficients(maps[images], window), _coefficients(of_output[images], plain), strict=True)
        for place, (coefficients, of_products) in enumerate(by_block):
            of_read, of_filter, _ = torch.ops.aten.convolution_backward(
                _as_channels(of_products), _as_channels(coefficients), filters[place], None,
                [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [*wanted, False],
            )  # fmt: skip
            if wanted[1]:
                of_filters[place] += of_filter
            if wanted[0]:
                pieces.append(of_read.permute(0, 2, 3, 1).reshape(coefficients.shape))
        if of_maps is not None:
            _scatter(pieces, of_maps[images], window)
    of_features = of_weight = None
    if of_maps is not None:
        p = window.padding
        inner = of_maps[:, p : of_maps.shape[1] - p, p : of_maps.shape[2] - p]
        of_features = window.joined(inner.permute(0, 4, 3, 1, 2)).contiguous()
    if wanted[1]:
        with torch.enable_grad():
            leaf = weight.detach().requires_grad_()
            (of_weight,) = torch.autograd.grad(irrep_filters(leaf, index, window.group), leaf, of_filters)
    return of_features, of_weight


def _differentiable_gradients(  # noqa: PLR0917
    gradient: Tensor, features: Tensor, weight: Tensor, index: Tensor | None, window: Window, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    # aliases end the walk: the features' own history may lead to the same weight, or the weight's to the features
    given = features.view_as(features), weight.view_as(weight)
    output = chain(given[0], irrep_filters(given[1], index, window.group), None, window)
    asked = [one for one, want in zip(given, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(output, asked, gradient, create_graph=True) if asked else ())
    return tuple(next(found) if want else None for want in wanted)


_IMAGES = 16
_STEP = 1 << 17
_BLOCK_BYTES = 32 << 20
"""Of coefficients that are made and multiplied before the next images are."""


def _blocks_of_images(maps: Tensor, window: Window) -> Iterator[slice]:
    batch, rows, columns, order, fields = maps.shape
    positions = window.size_out(rows) * window.size_out(columns)
    image_bytes = positions * window.kernel**2 * order * fields * maps.element_size()
    # as many images in each block as in the others
    blocks = max(1, -(-batch * image_bytes // _BLOCK_BYTES))
    size = max(1, -(-batch // blocks))
    for first in range(0, batch, size):
        yield slice(first, min(batch, first + size))


def _padded(features: Tensor, window: Window) -> Tensor:
    """(B, c * A, h, w) as padded maps, fields innermost: (B, h + 2 p, w + 2 p, A, c)."""
    p, fields = window.padding, window.split(features)
    batch, count, order, rows, columns = fields.shape
    maps = features.new_zeros((batch, rows + 2 * p, columns + 2 * p, order, count))
    maps[:, p : p + rows, p : p + columns] = fields.permute(0, 3, 4, 2, 1)
    return maps


def _coefficients(maps: Tensor, window: Window) -> list[Tensor]:
    """Block by block, what is multiplied by the filters: (rows of the block, B, h_out, w_out, k * k, d, c)."""
    basis, (batch, *sizes, _, fields) = window.basis, maps.shape
    out = (batch, *map(window.size_out, sizes))
    made = [maps.new_empty((block.rows, *out, window.kernel**2, block.dimension, fields)) for block in basis.blocks]
    by_slot = _by_slot(made, basis)
    shifts = list(enumerate(window.shifts(*sizes)))
    step = max(1, _STEP // max(1, math.prod(out[1:]) * fields))
    for first in range(0, batch, step):
        images = slice(first, min(batch, first + step))
        spare = list(maps.new_empty((basis.order + 2, images.stop - first, *out[1:], fields)))
        for z, shift in shifts:
            read = [maps[images, along, across, b] for b, (along, across) in enumerate(shift)]
            _run_into(read, basis.stages, [one[images, ..., z, :] for one in by_slot], spare)
    return made


def _scatter(made: Sequence[Tensor], into: Tensor, window: Window) -> None:
    """Add the transpose of ``_coefficients`` to padded maps (B, h + 2 p, w + 2 p, A, c)."""
    basis = window.basis
    by_slot = _by_slot(made, basis)
    *out, _, fields = by_slot[0].shape
    spare = list(into.new_empty((basis.order + 2, *out, fields)))
    elements = list(into.new_empty((basis.order, *out, fields)))
    for z, shift in enumerate(window.shifts(*into.shape[1:3])):
        _run_into([one[..., z, :] for one in by_slot], basis.stages[::-1], elements, spare)
        for b, (along, across) in enumerate(shift):
            into[:, along, across, b] += elements[b]


def _by_slot(made: Sequence[Tensor], basis: Basis) -> list[Tensor]:
    """Views by slot (B, h_out, w_out, k * k, c) of what is kept block by block."""
    found = list[Tensor](basis.order * [made[0]])
    for block, one in zip(basis.blocks, made, strict=True):
        for i, row in enumerate(block.slots):
            for j, slot in enumerate(row):
                found[slot] = one[i, ..., j, :]
    return found


def _as_channels(made: Tensor) -> Tensor:
    """(rows, B, h, w, k * k, d, c) as images with k * k * d * c channels, channels last.

    The positions are shared out to 16 images where they can be: from 16 on, PyTorch gives 1x1 convolutions on one
    thread to the faster library.
    """
    positions = made.flatten(0, 3).flatten(1)
    count = len(positions)
    images = (
        positions.view(_IMAGES, count // _IMAGES, 1, -1) if count and count % _IMAGES == 0 else positions[None, :, None]
    )
    return images.permute(0, 3, 1, 2)


def _run_into(
    sources: Sequence[Tensor],
    stages: Sequence[Sequence[Pair]],
    into: Sequence[Tensor],
    spare: Sequence[Tensor] | None = None,
) -> None:
    """``_run`` into given tensors, with spare ones of the same shape in between."""
    last = {slot: n for n, stage in enumerate(stages) for pair in stage for slot in pair}
    found = list(sources)
    free = [torch.empty_like(into[0]) for _ in range(len(found) + 2)] if spare is None else list(spare)
    for n, stage in enumerate(stages):
        for i, j in stage:
            plus, minus = (into[slot] if last[slot] == n else free.pop() for slot in (i, j))
            torch.add(found[i], found[j], out=plus)
            torch.sub(found[i], found[j], out=minus)
            free += [found[slot] for slot in (i, j) if found[slot] is not sources[slot]]
            found[i], found[j] = plus, minus
    for slot, one in enumerate(into):
        if slot not in last:
            one.copy_(sources[slot])
