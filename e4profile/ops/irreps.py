"""A group convolution executed in the irrep basis: the same function, one small product per irrep.

For each of the k * k offsets z, element b's map is read at b z (*gathered*). The filter bank's entry from b to a is
then w'(a^-1 b), a convolution over the group, which the real irreps rho turn into one product of d x d blocks each:

    out(a) = sum_z sum_b w'_z(a^-1 b) v_z(b),     v^(rho) = sum_b v(b) rho(b),     out^ = sum_z v^_z w^_z

A lifting convolution reads each orbit of taps as a field on the group, of which an irrep has fewer columns the more
elements fix a tap (``ops.irrep_basis``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from e4profile.ops import irrep_planes, irrep_weights
from e4profile.ops.choice import irrep_kernels_for
from e4profile.ops.irrep_basis import Window, transformed


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
    grow with c_in + c_out and move more memory each, the filters, which are turned once whatever the positions, and
    some hundreds of calls, whatever the sizes.

    Args:
        window: the convolution.
        c_in: input fields.
        c_out: output fields.
        positions: where the convolution runs, in all images.
    """
    saved = (window.bank_products - window.products) * c_in * c_out // window.sections
    additions = window.additions * c_in + window.basis.additions * c_out
    filters = sum(map(math.prod, filter_shapes(c_out, c_in, window))) // window.sections
    left = positions * (saved - _PRODUCTS_PER_ADDITION * additions) - _PRODUCTS_PER_FILTER * filters
    return left >= _FEWEST_SAVED


_PRODUCTS_PER_ADDITION = 40
_PRODUCTS_PER_FILTER = 12
_FEWEST_SAVED = 60_000_000
"""Products that take as long as the calls, about a millisecond on one core."""


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
        # a view could not be written to by what follows, as ReLU in place does
        return forward_of_weight(features, weight, bias, index, window).detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of features, weight and bias."""
        wanted = ctx.needs_input_grad
        # a caller who differentiates the gradient gets PyTorch's own chain, which can be
        found_by = _differentiable_gradients if torch.is_grad_enabled() else gradients
        of_bias = ctx.window.split(gradient).sum((0, 2, 3, 4)) if wanted[2] else None
        features, weight, index = ctx.saved_tensors
        found = found_by(gradient, features, weight, index, ctx.window, wanted[:2])
        return *found, of_bias, None, None


def forward(features: Tensor, filters: Sequence[Tensor], bias: Tensor | None, window: Window) -> Tensor:
    """``chain`` without a graph, block of images by block of images; on a GPU by Triton's kernels where they serve."""
    kernels = irrep_kernels_for(features)
    if kernels is not None and kernels.takes(features, len(filters[0]), window):
        made: Tensor = kernels.forward(features, filters, bias, window)
        return made
    return irrep_planes.forward(features, filters, bias, window)


def forward_of_weight(
    features: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor | None, window: Window
) -> Tensor:
    """``convolve`` without a graph."""
    return forward(features, _ready_filters(features, weight, index, window), bias, window)


def gradients(  # noqa: PLR0917
    gradient: Tensor, features: Tensor, weight: Tensor, index: Tensor | None, window: Window, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Those of features and weight without a graph, where they are wanted."""
    kernels = irrep_kernels_for(features)
    if kernels is not None and kernels.takes(features, len(weight), window):
        found: tuple[Tensor | None, Tensor | None] = kernels.gradients(
            gradient, features, weight, index, window, wanted
        )
        return found
    filters = _ready_filters(features, weight, index, window)
    of_features, of_filters = irrep_planes.gradients(gradient, features, filters, window, wanted)
    if of_filters is None:
        return of_features, None
    return of_features, irrep_weights.gradient(of_filters, weight, index, window)


def _ready_filters(features: Tensor, weight: Tensor, index: Tensor | None, window: Window) -> list[Tensor]:
    if irrep_kernels_for(features) is not None:
        return irrep_filters(weight, index, window)
    return irrep_weights.filters(weight, index, window)


def _differentiable_gradients(  # noqa: PLR0917
    gradient: Tensor, features: Tensor, weight: Tensor, index: Tensor | None, window: Window, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    # aliases end the walk: the features' own history may lead to the same weight, or the weight's to the features
    given = features.view_as(features), weight.view_as(weight)
    output = chain(given[0], irrep_filters(given[1], index, window), None, window)
    asked = [one for one, want in zip(given, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(output, asked, gradient, create_graph=True) if asked else ())
    return tuple(next(found) if want else None for want in wanted)
