"""The filters of the irrep basis from a weight, and back, without a graph: ``irreps.irrep_filters`` in a training step.

The weight is turned once, so that each tap of an element is one run of all pairs of fields; the butterflies then add
such runs, and write them where the products read them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from e4profile.ops.butterflies import Place, Plan, Planned, run, transforming
from e4profile.ops.irrep_basis import Window

_TAPS, _SCRATCH, _BLOCKS = 0, 1, 2
"""The buffers of a plan: the weight by tap, sums in between, and from the third on the blocks' filters."""


def filters(weight: Tensor, bank_index: Tensor | None, window: Window) -> list[Tensor]:
    """``irreps.irrep_filters``, contiguous.

    Args:
        weight: (c_out, c_in, A, k, k), or (c_out, c_in, k, k) of a lifting convolution.
        bank_index: see there.
        window: see there.
    """
    c_out, c_in = weight.shape[:2]
    taps = weight.reshape(c_out * c_in, -1).t().contiguous()
    made = [weight.new_empty(shape) for shape in _shapes(c_out, c_in, window)]
    _run("to", [taps, *made], bank_index, window, c_in)
    for block, one in zip(window.basis.blocks, made, strict=True):
        if block.rows < block.dimension:
            # of complex type: the second row of (p, q) is (-q, p)
            first, second = one.unbind(1)
            torch.neg(first[..., 1::2, :], out=second[..., ::2, :])
            second[..., 1::2, :] = first[..., ::2, :]
    _scale(made, window)
    return [one.flatten(0, 2).flatten(1)[:, :, None, None] for one in made]


def gradient(of_filters: Sequence[Tensor], weight: Tensor, bank_index: Tensor | None, window: Window) -> Tensor:
    """The gradient of the weight by those of ``filters``, which are used up."""
    c_out, c_in = weight.shape[:2]
    made = [one.view(shape) for one, shape in zip(of_filters, _shapes(c_out, c_in, window), strict=True)]
    for block, one in zip(window.basis.blocks, made, strict=True):
        if block.rows < block.dimension:
            first, second = one.unbind(1)
            first[..., ::2, :] += second[..., 1::2, :]
            first[..., 1::2, :] -= second[..., ::2, :]
    _scale(made, window)
    taps = weight.new_empty((math.prod(weight.shape[2:]), c_out * c_in))
    _run("from", [taps, *made], bank_index, window, c_in)
    return taps.t().contiguous().view(weight.shape)


def _shapes(c_out: int, c_in: int, window: Window) -> list[tuple[int, ...]]:
    """By block: (sections, d, c_out of a section, columns, c_in)."""
    sections, blocks = window.sections, zip(window.basis.blocks, window.widths, strict=True)
    return [(sections, one.dimension, c_out // sections, width, c_in) for one, width in blocks]


def _scale(made: Sequence[Tensor], window: Window) -> None:
    first = [0 for _ in made]
    for reading in window.readings:
        for place, (columns, scale) in enumerate(zip(reading.columns, reading.scales, strict=True)):
            width = len(reading.sets) * len(columns)
            made[place].narrow(3, first[place], width).mul_(scale)
            first[place] += width


def _run(way: str, buffers: Sequence[Tensor], index: Tensor | None, window: Window, c_in: int) -> None:
    taps, *made = buffers
    spare = taps.new_empty((window.basis.order + 4, taps.shape[1]))
    if isinstance(taps, FakeTensor):  # sums into what is there do not show
        return
    c_out = taps.shape[1] // c_in
    run(_plan(way, window, c_out, c_in, _rows(index, window)).bound([taps, spare, *made]))


def _rows(index: Tensor | None, window: Window) -> tuple[int, ...]:
    """Which row of the taps has what element u reads at u z, in the order of u and z."""
    order, taps = window.basis.order, window.kernel**2
    if index is None or index.is_meta:
        return tuple(range(order * taps))
    # w'(u), read at u z for the offset z, is what the filter bank has from element 1 to u^-1
    first = index.view(order, -1, order, taps)[:, 0, 0].tolist()
    return tuple(place for u in window.group.elements for place in first[window.group.inverse(u)])


@lru_cache(maxsize=64)
def _plan(way: str, window: Window, c_out: int, c_in: int, rows: tuple[int, ...]) -> Plan:
    basis, sections, taps = window.basis, window.sections, window.kernel**2
    each, pairs, order = c_out // sections, c_out * c_in, basis.order
    size, dense = (sections, each, c_in), (pairs // sections, c_in, 1)
    spare = [Place(_SCRATCH, n * pairs, size, dense) for n in range(order + 4)]

    def coefficients(block: int, row: int, column: int) -> Place:
        run = window.widths[block] * c_in
        strides = (basis.blocks[block].dimension * each * run, run, 1)
        return Place(_BLOCKS + block, row * each * run + column * c_in, size, strides)

    plan = list[Planned]()
    for tap, (sources, stages, slots) in enumerate(window.sets):
        own = [one for _, one in sources] if window.lifts else [rows[u * taps + tap] for u in range(order)]
        read = [Place(_TAPS, row * pairs, size, dense) for row in own]
        made = [coefficients(*slot) for slot in slots]
        if way == "to":
            plan += transforming(read, stages, made, spare)
        else:
            plan += transforming(made, stages[::-1], read, spare)
    return Plan(plan)
