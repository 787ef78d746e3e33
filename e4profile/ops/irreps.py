"""A group convolution executed in the irrep basis: the same function, one small product per irrep.

For each of the k * k offsets z, element b's map is read at b z (*gathered*). The filter bank's entry from b to a is
then w'(a^-1 b), a convolution over the group, which the real irreps rho turn into one product of d x d blocks each:

    out(a) = sum_z sum_b w'_z(a^-1 b) v_z(b),     v^(rho) = sum_b v(b) rho(b),     out^ = sum_z v^_z w^_z

A lifting convolution reads each orbit of taps as a field on the group, of which an irrep has fewer columns the more
elements fix a tap (``ops.irrep_basis``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from e4profile.ops.choice import irrep_kernels_for
from e4profile.ops.filter_bank import stand_alone
from e4profile.ops.irrep_basis import Pair, Window, transformed


def irrep_filters(weight: Tensor, bank_index: Tensor | None, window: Window) -> list[Tensor]:
    """The filters of the products, block by block: (d * c_out, columns * c_in, 1, 1); differentiable.

    Args:
        weight: (c_out, c_in, A, k, k), or (c_out, c_in, k, k) of a lifting convolution; c_in of one section.
        bank_index: of ``Group.filter_bank_index`` as a tensor (A, c_in, A, k * k) of any shape; None for a weight that
            is gathered already, the tap z of its element u being the one at u z, and for a lifting convolution.
        window: on a group that is exact on the grid.
    """
    basis, group, (c_out, c_in) = window.basis, window.group, weight.shape[:2]
    parts: list[list[Tensor]] = [[] for _ in basis.blocks]
    for reading in window.readings:
        if window.lifts:
            taps = weight.flatten(2)
            gathered = [taps[:, :, [one[place][1] for one in reading.sets]] for place in range(len(reading.sets[0]))]
        elif bank_index is None:
            gathered = list(weight.flatten(3).unbind(2))
        else:
            # w'(u), read at u z for the offset z, is what the filter bank has from element 1 to u^-1
            index = bank_index.view(group.order, c_in, group.order, -1)[:, 0, 0].flatten()
            by_inverse = weight.flatten(2).index_select(2, index).view(c_out, c_in, group.order, -1).unbind(2)
            gathered = [by_inverse[group.inverse(u)] for u in group.elements]
        slots = transformed(gathered, reading.stages)
        for part, block, columns, scale in zip(parts, basis.blocks, reading.columns, reading.scales, strict=True):
            if not columns:
                continue
            # w^ is the transpose of the coefficients; by complex type, of the whole 2 x 2 matrix of the row
            entries = [[slots[column[row]] for column in columns] for row in range(block.rows)]
            if block.rows < block.dimension:
                ((p, q),) = entries
                entries.append([-q, p])
            stacked = torch.stack([torch.stack(row) for row in entries]).permute(0, 2, 4, 1, 3) * scale
            by_section = stacked.reshape(block.dimension, window.sections, c_out // window.sections, -1).transpose(0, 1)
            part.append(by_section.reshape(block.dimension * c_out, -1))
    shapes = filter_shapes(c_out, c_in, window)
    # an irrep that no orbit of taps has anything of has no filters
    none = weight.new_empty(0)
    joined = (part[0] if len(part) == 1 else torch.cat(part, 1) if part else none for part in parts)
    return [one.view(shape) for one, shape in zip(joined, shapes, strict=True)]


def filter_shapes(c_out: int, c_in: int, window: Window) -> list[tuple[int, ...]]:
    """The shapes of ``irrep_filters``."""
    blocks = zip(window.basis.blocks, window.widths, strict=True)
    return [(block.dimension * c_out, width * c_in, 1, 1) for block, width in blocks]


def pays(window: Window, c_in: int, c_out: int, positions: int) -> bool:
    """Whether the irrep basis is faster than the filter bank, by sizes alone (``benchmarks/group_convolution.py``).

    What it saves are products, which grow with c_in * c_out. What it costs are the additions of the transforms, which
    grow with c_in + c_out and move more memory each, and the transform of the weight, whatever the positions.

    Args:
        window: the convolution.
        c_in: input fields.
        c_out: output fields.
        positions: where the convolution runs, in all images.
    """
    saved = (window.bank_products - window.products) * c_in * c_out // window.sections
    additions = window.additions * c_in + window.basis.additions * c_out
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
    basis, sections = window.basis, window.sections
    maps = F.pad(window.split_input(features), [window.padding] * 4)
    fields, _, *sizes = maps.shape[1:]
    read: list[list[list[Tensor]]] = [[[] for _ in range(block.rows)] for block in basis.blocks]
    for reading in window.readings:
        gathered = [
            torch.stack(
                [maps[(slice(None), slice(None), element, *window.shift(tap, *sizes))] for element, tap in one], 1
            )
            for one in zip(*reading.sets, strict=True)
        ]
        slots = transformed(gathered, reading.stages)
        for rows, columns in zip(read, reading.columns, strict=True):
            if columns:
                for place, found in enumerate(rows):
                    found.append(torch.stack([slots[one[place]] for one in columns], 2).flatten(1, 2))
    products: dict[int, Tensor] = {}
    for block, weights, rows in zip(basis.blocks, filters, read, strict=True):
        for row, found in zip(block.slots, rows, strict=True):
            if found:
                by_section = torch.cat(found, 1).unflatten(2, (sections, fields // sections)).transpose(1, 2)
                made = F.conv2d(by_section.flatten(1, 3), weights, groups=sections)
                by_entry = made.unflatten(1, (sections, block.dimension, -1)).unbind(2)
                products |= {slot: one.flatten(1, 2) for slot, one in zip(row, by_entry, strict=True)}
    if bias is not None:
        # what every element has the same of is the trivial irrep's
        products[0] = products[0] + bias.to(products[0].dtype)[:, None, None]
    none = torch.zeros_like(products[0])
    elements = transformed([products.get(slot, none) for slot in window.group.elements], basis.stages[::-1])
    return window.joined(torch.stack(elements, 2))


def convolution(features: Tensor, weight: Tensor, window: Window) -> Tensor:
    """The group convolution with a weight that is gathered already (see ``irrep_filters``), in the way that fits.

    Args:
        features: (B, c_in * A, h, w).
        weight: (c_out, c_in, A, k, k).
        window: group, kernel, stride and padding.

    Returns:
        (B, c_out * A, h_out, w_out).
    """
    if stand_alone(features, weight):
        if torch.is_grad_enabled() and (features.requires_grad or weight.requires_grad):
            return convolve(features, weight, None, None, window)
        return forward(features, irrep_filters(weight, None, window), None, window)
    return chain(features, irrep_filters(weight, None, window), None, window)


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
        return forward(features, irrep_filters(weight, index, window), bias, window)

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
    basis, maps = window.basis, _padded(window.split_input(features), window.padding)
    batch, rows, columns = len(maps), window.size_out(maps.shape[1]), window.size_out(maps.shape[2])
    c_out = len(filters[0])
    out = features.new_empty((batch, c_out, basis.order, rows, columns))
    for images in _blocks_of_images(maps, window):
        products = list[Tensor](basis.order * [out])
        for place, coefficients in enumerate(_coefficients(maps[images], window)):
            block = basis.blocks[place]
            shape = (block.rows, len(out[images]), rows, columns, window.sections, block.dimension, -1)
            if window.widths[place]:
                read = _as_channels(coefficients, window.sections)
                made = F.conv2d(read, filters[place], bias if place == 0 else None, groups=window.sections)
                made = made.permute(0, 2, 3, 1).reshape(shape)
            else:
                made = out.new_zeros((*shape[:-1], c_out // window.sections))
            for i, row in enumerate(block.slots):
                for j, slot in enumerate(row):
                    products[slot] = made[i, ..., j, :].flatten(-2)
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
    maps = _padded(window.split_input(features), window.padding)
    filters = irrep_filters(weight, index, window)
    plain = Window(window.group, 1, 1, 0, window.cosets)
    of_output = _padded(plain.split(gradient), 0)
    of_maps = torch.zeros_like(maps) if wanted[0] else None
    of_filters = [torch.zeros_like(one) for one in filters]
    for images in _blocks_of_images(maps, window):
        pieces = []
        by_block = zip(_coefficients(maps[images], window), _coefficients(of_output[images], plain), strict=True)
        for place, (coefficients, of_products) in enumerate(by_block):
            if not window.widths[place]:
                pieces.append(coefficients)
                continue
            of_read, of_filter, _ = torch.ops.aten.convolution_backward(
                *(_as_channels(one, window.sections) for one in (of_products, coefficients)), filters[place], None,
                [1, 1], [0, 0], [1, 1], False, [0, 0], window.sections, [*wanted, False],
            )  # fmt: skip
            if wanted[1]:
                of_filters[place] += of_filter
            if wanted[0]:
                *shape, width, _ = coefficients.shape
                by_section = of_read.permute(0, 2, 3, 1).reshape(*shape, window.sections, width, -1)
                pieces.append(by_section.transpose(-3, -2).flatten(-2))
        if of_maps is not None:
            _scatter(pieces, of_maps[images], window)
    of_features = of_weight = None
    if of_maps is not None:
        p = window.padding
        inner = of_maps[:, p : of_maps.shape[1] - p, p : of_maps.shape[2] - p]
        of_features = window.joined_input(inner.permute(0, 4, 3, 1, 2)).contiguous()
    if wanted[1]:
        with torch.enable_grad():
            leaf = weight.detach().requires_grad_()
            made = zip(irrep_filters(leaf, index, window), of_filters, strict=True)
            outputs, given = zip(*(pair for pair in made if pair[0].numel()), strict=True)
            (of_weight,) = torch.autograd.grad(outputs, leaf, given)
    return of_features, of_weight


def _differentiable_gradients(  # noqa: PLR0917
    gradient: Tensor, features: Tensor, weight: Tensor, index: Tensor | None, window: Window, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    # aliases end the walk: the features' own history may lead to the same weight, or the weight's to the features
    given = features.view_as(features), weight.view_as(weight)
    output = chain(given[0], irrep_filters(given[1], index, window), None, window)
    asked = [one for one, want in zip(given, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(output, asked, gradient, create_graph=True) if asked else ())
    return tuple(next(found) if want else None for want in wanted)


_IMAGES = 16
_STEP = 1 << 17
_BLOCK_BYTES = 32 << 20
"""Of coefficients that are made and multiplied before the next images are."""


def _blocks_of_images(maps: Tensor, window: Window) -> Iterator[slice]:
    batch, rows, columns, _, fields = maps.shape
    positions = window.size_out(rows) * window.size_out(columns)
    read = sum(len(sources) for reading in window.readings for sources in reading.sets)
    image_bytes = positions * read * fields * maps.element_size()
    # as many images in each block as in the others
    blocks = max(1, -(-batch * image_bytes // _BLOCK_BYTES))
    size = max(1, -(-batch // blocks))
    for first in range(0, batch, size):
        yield slice(first, min(batch, first + size))


def _padded(fields: Tensor, padding: int) -> Tensor:
    """(B, c, A, h, w) as padded maps, fields innermost: (B, h + 2 p, w + 2 p, A, c)."""
    batch, count, order, rows, columns = fields.shape
    maps = fields.new_zeros((batch, rows + 2 * padding, columns + 2 * padding, order, count))
    maps[:, padding : padding + rows, padding : padding + columns] = fields.permute(0, 3, 4, 2, 1)
    return maps


def _coefficients(maps: Tensor, window: Window) -> list[Tensor]:
    """Block by block, what is multiplied by the filters: (rows of the block, B, h_out, w_out, columns, c)."""
    basis, (batch, *sizes, _, fields) = window.basis, maps.shape
    out = (batch, *map(window.size_out, sizes))
    blocks = zip(basis.blocks, window.widths, strict=True)
    made = [maps.new_empty((block.rows, *out, width, fields)) for block, width in blocks]
    sets = list(_sets(made, window))
    step = max(1, _STEP // max(1, math.prod(out[1:]) * fields))
    for first in range(0, batch, step):
        images = slice(first, min(batch, first + step))
        spare = list(maps.new_empty((basis.order + 2, images.stop - first, *out[1:], fields)))
        for sources, stages, into in sets:
            read = [maps[(images, *window.shift(tap, *sizes), element)] for element, tap in sources]
            _run_into(read, stages, [one[images] for one in into], spare)
    return made


def _scatter(made: Sequence[Tensor], into: Tensor, window: Window) -> None:
    """Add the transpose of ``_coefficients`` to padded maps (B, h + 2 p, w + 2 p, A, c)."""
    _, *out, _, fields = made[0].shape
    sizes, order = into.shape[1:3], window.group.order
    spare = list(into.new_empty((order + 2, *out, fields)))
    elements = list(into.new_empty((order, *out, fields)))
    for sources, stages, by_slot in _sets(made, window):
        _run_into(by_slot, stages[::-1], elements[: len(by_slot)], spare)
        for (element, tap), one in zip(sources, elements, strict=False):
            into[(slice(None), *window.shift(tap, *sizes), element)] += one


def _sets(
    made: Sequence[Tensor], window: Window
) -> Iterator[tuple[Sequence[Pair], Sequence[Sequence[Pair]], list[Tensor]]]:
    """What each set of maps reads, its butterflies, and views by slot (B, h_out, w_out, c) of its coefficients."""
    column = [0 for _ in made]
    for reading in window.readings:
        for sources in reading.sets:
            by_slot = [made[0] for _ in sources]
            for place, columns in enumerate(reading.columns):
                for slots in columns:
                    for row, slot in enumerate(slots):
                        by_slot[slot] = made[place][row, ..., column[place], :]
                    column[place] += 1
            yield sources, reading.stages, by_slot


def _as_channels(made: Tensor, sections: int) -> Tensor:
    """(rows, B, h, w, columns, c) as images with columns * c channels, section by section, channels last.

    The positions are shared out to 16 images where they can be: from 16 on, PyTorch gives 1x1 convolutions on one
    thread to the faster library.
    """
    positions: Tensor = made.flatten(0, 3).unflatten(-1, (sections, -1)).transpose(1, 2).flatten(1)
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
    """``transformed`` into given tensors, with spare ones of the same shape in between."""
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
