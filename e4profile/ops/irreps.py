"""A group convolution executed in the irrep basis: the same function, one small product per irrep.

For each of the k * k offsets z, element b's map is read at b z (*gathered*). The filter bank's entry from b to a is
then w'(a^-1 b), a convolution over the group, which the real irreps rho turn into one product of d x d blocks each:

    out(a) = sum_z sum_b w'_z(a^-1 b) v_z(b),     v^(rho) = sum_b v(b) rho(b),     out^ = sum_z v^_z w^_z

A lifting convolution reads each orbit of taps as a field on the group, of which an irrep has fewer columns the more
elements fix a tap (``ops.irrep_basis``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

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


_FEWEST_POSITIONS = 512
_PRODUCTS_PER_ADDITION = 80


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
    batch, rows, columns = maps.shape[1], *map(window.size_out, maps.shape[2:4])
    c_out, wide = len(filters[0]), _is_wide(maps, window)
    out = features.new_empty((batch, c_out, basis.order, rows, columns))
    for images in _blocks_of_images(maps, window):
        count = len(out[images])
        products = list[Tensor](basis.order * [out])
        for place, coefficients in enumerate(_coefficients(maps[:, images], window, innermost=wide)):
            block = basis.blocks[place]
            shape = (block.rows, count, rows, columns, window.sections, block.dimension, -1)
            if window.widths[place]:
                operands = _operands(coefficients, filters[place], wide)
                made = F.conv2d(*operands, bias if place == 0 else None, groups=window.sections)
                made = made.permute(0, 2, 3, 1).reshape(shape)
            else:
                made = out.new_zeros((*shape[:-1], c_out // window.sections))
            for i, row in enumerate(block.slots):
                for j, slot in enumerate(row):
                    products[slot] = made[i, ..., j, :].flatten(-2)
        elements = out.new_empty((basis.order, count, rows, columns, c_out))
        _run_into(products, basis.stages[::-1], elements.unbind())
        out[images].copy_(elements.permute(1, 4, 0, 2, 3))
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
    of_maps, wide = torch.zeros_like(maps) if wanted[0] else None, _is_wide(maps, window)
    of_filters = [torch.zeros_like(one) for one in filters]
    for images in _blocks_of_images(maps, window):
        pieces = []
        made = _coefficients(maps[:, images], window, innermost=wide)
        by_block = zip(made, _coefficients(of_output[:, images], plain, innermost=True), strict=True)
        for place, (coefficients, of_products) in enumerate(by_block):
            if not window.widths[place]:
                pieces.append(coefficients)
                continue
            read, weights = _operands(coefficients, filters[place], wide)
            of_read, of_filter, _ = torch.ops.aten.convolution_backward(
                # a single small image runs in torch's own convolution, which refuses other weights
                _by_position(of_products) if wide else _as_outputs(of_products, window.sections),
                read, weights.contiguous(), None,
                [1, 1], [0, 0], [1, 1], False, [0, 0], window.sections, [*wanted, False],
            )  # fmt: skip
            if wanted[1]:
                of_filters[place] += of_filter.transpose(1, 2).reshape(filters[place].shape)
            if wanted[0]:
                read = of_read.permute(0, 2, 3, 1)
                by_column = read.reshape(coefficients.movedim(2, 4).shape).movedim(4, 2) if wide else read
                pieces.append(by_column.reshape(coefficients.shape))
        if of_maps is not None:
            _scatter(pieces, of_maps[:, images], window)
    of_features = of_weight = None
    if of_maps is not None:
        p = window.padding
        inner = of_maps[:, :, p : of_maps.shape[2] - p, p : of_maps.shape[3] - p]
        of_features = window.joined_input(inner.permute(1, 4, 0, 2, 3)).contiguous()
    if wanted[1]:
        with torch.enable_grad():
            leaf = weight.detach().requires_grad_()
            pairs = zip(irrep_filters(leaf, index, window), of_filters, strict=True)
            outputs, given = zip(*(pair for pair in pairs if pair[0].numel()), strict=True)
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
_WIDE = 128
_STEP = 1 << 17
_BLOCK_BYTES = 32 << 20
"""Of coefficients that are made and multiplied before the next images are."""


def _blocks_of_images(maps: Tensor, window: Window) -> Iterator[slice]:
    _, batch, rows, columns, fields = maps.shape
    positions = window.size_out(rows) * window.size_out(columns)
    read = sum(len(sources) for reading in window.readings for sources in reading.sets)
    image_bytes = positions * read * fields * maps.element_size()
    # as many images in each block as in the others
    blocks = max(1, -(-batch * image_bytes // _BLOCK_BYTES))
    size = max(1, -(-batch // blocks))
    for first in range(0, batch, size):
        yield slice(first, min(batch, first + size))


def _padded(fields: Tensor, padding: int) -> Tensor:
    """(B, c, A, h, w) as padded maps, fields innermost: (A, B, h + 2 p, w + 2 p, c)."""
    batch, count, order, rows, columns = fields.shape
    maps = fields.new_zeros((order, batch, rows + 2 * padding, columns + 2 * padding, count))
    maps[:, :, padding : padding + rows, padding : padding + columns] = fields.permute(2, 0, 3, 4, 1)
    return maps


def _coefficients(maps: Tensor, window: Window, *, innermost: bool = False) -> list[Tensor]:
    """Block by block, what is multiplied by the filters: (rows of the block, B, columns, h_out, w_out, c).

    In memory a column's positions lie together, so that sums and differences run over long rows; ``innermost``, the
    columns of a position do, as a convolution gives them.
    """
    basis, (_, batch, *sizes, fields) = window.basis, maps.shape
    rows, columns = map(window.size_out, sizes)
    made = []
    for block, width in zip(basis.blocks, window.widths, strict=True):
        if innermost:
            made.append(maps.new_empty((block.rows, batch, rows, columns, width, fields)).movedim(4, 2))
        else:
            made.append(maps.new_empty((block.rows, batch, width, rows, columns, fields)))
    sets = _shown(_sets(made, window), maps)
    step = max(1, _STEP // max(1, rows * columns * fields))
    for first in range(0, batch, step):
        images = slice(first, min(batch, first + step))
        spare = list(maps.new_empty((basis.order + 2, images.stop - first, rows, columns, fields)))
        for sources, stages, into in sets:
            read = [maps[(element, images, *window.shift(tap, *sizes))] for element, tap in sources]
            _run_into(read, stages, [one[images] for one in into], spare)
    return made


def _scatter(made: Sequence[Tensor], into: Tensor, window: Window) -> None:
    """Add the transpose of ``_coefficients`` to padded maps (A, B, h + 2 p, w + 2 p, c)."""
    _, batch, _, rows, columns, fields = made[0].shape
    sizes, order = into.shape[2:4], window.group.order
    sets = _shown(_sets(made, window), into)
    step = max(1, _STEP // max(1, rows * columns * fields))
    for first in range(0, batch, step):
        images = slice(first, min(batch, first + step))
        shape = (images.stop - first, rows, columns, fields)
        spare, elements = (list(into.new_empty((count, *shape))) for count in (order + 2, order))
        for sources, stages, by_slot in sets:
            _run_into([one[images] for one in by_slot], stages[::-1], elements[: len(by_slot)], spare)
            for (element, tap), one in zip(sources, elements, strict=False):
                into[(element, images, *window.shift(tap, *sizes))] += one


_Set = tuple[Sequence[Pair], Sequence[Sequence[Pair]], list[Tensor]]


def _shown(sets: Iterator[_Set], maps: Tensor) -> list[_Set]:
    """The sets whose sums show: none of fake tensors, whose memory is what is asked of them.

    The sums go into tensors that are there, and there are thousands in a network.
    """
    return [] if isinstance(maps, FakeTensor) else list(sets)


def _sets(made: Sequence[Tensor], window: Window) -> Iterator[_Set]:
    """What each set of maps reads, its butterflies, and views by slot (B, h_out, w_out, c) of its coefficients."""
    column = [0 for _ in made]
    for reading in window.readings:
        for sources in reading.sets:
            by_slot = [made[0] for _ in sources]
            for place, columns in enumerate(reading.columns):
                for slots in columns:
                    for row, slot in enumerate(slots):
                        by_slot[slot] = made[place][row, :, column[place]]
                    column[place] += 1
            yield sources, reading.stages, by_slot


def _is_wide(maps: Tensor, window: Window) -> bool:
    """Whether a position's fields are a row that is long enough to add, so that the cheaper 1x1 convolution pays."""
    return window.sections == 1 and maps.shape[-1] >= _WIDE


def _operands(made: Tensor, filters: Tensor, wide: bool) -> tuple[Tensor, Tensor]:
    """Coefficients (rows, B, columns, h, w, c) as images, channels last, and filters as kernels.

    Images have c channels and columns x positions, which a kernel (channels out, c, columns, 1) reads at once; of wide
    ones the columns are channels, too, and the kernels 1x1.
    """
    if wide:
        return _by_position(made), filters
    kernels = filters.view(len(filters), made.shape[2], -1, 1).transpose(1, 2)
    # the convolutions of float64 make the gradient of a kernel only in PyTorch's own layout
    kernels = kernels.contiguous() if kernels.dtype == torch.float64 else kernels
    return made.flatten(0, 1).flatten(2, 3).permute(0, 3, 1, 2), kernels


def _by_position(made: Tensor) -> Tensor:
    """(rows, B, columns, h, w, c) as images of columns * c channels, channels last.

    The positions are shared out to 16 images where they can be: from 16 on, PyTorch gives 1x1 convolutions on one
    thread to the faster library.
    """
    positions = made.movedim(2, 4).flatten(0, 3).flatten(1)
    count = len(positions)
    images = (
        positions.view(_IMAGES, count // _IMAGES, 1, -1) if count and count % _IMAGES == 0 else positions[None, :, None]
    )
    return images.permute(0, 3, 1, 2)


def _as_outputs(made: Tensor, sections: int) -> Tensor:
    """(rows, B, columns, h, w, c) as images of columns * c channels, section by section, 1 x positions."""
    by_section = made.flatten(0, 1).flatten(2, 3).unflatten(-1, (sections, -1)).permute(0, 3, 1, 4, 2)
    outputs: Tensor = by_section.flatten(1, 3)[:, :, None]
    return outputs


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
    if isinstance(into[0], FakeTensor):  # sums into what is there do not show
        return
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
