"""The filters of the irrep basis from a weight, and back, without a graph: ``irreps.irrep_filters`` in a training step.

The weight is turned once, so that each tap of an element is one run of all pairs of fields; the butterflies then add
such runs, and write them where the products read them.
"""

from __future__ import annotations

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
    """``irreps.irrep_filters`` of a group convolution, contiguous.

    Args:
        weight: (c_out, c_in, A, k, k).
        bank_index: see there.
        window: see there; not of a lifting convolution.
    """
    c_out, c_in = weight.shape[:2]
    taps = weight.reshape(c_out * c_in, -1).t().contiguous()
    made = [weight.new_empty(shape) for shape in _shapes(c_out, c_in, window)]
    _run("to", [taps, *made], bank_index, window, c_in)
    (reading,) = window.readings
    for block, one, scale in zip(window.basis.blocks, made, reading.scales, strict=True):
        if block.rows < block.dimension:
            # of complex type: the second row of (p, q) is (-q, p)
            first, second = one.unbind(1)
            torch.neg(first[..., 1, :], out=second[..., 0, :])
            second[..., 1, :] = first[..., 0, :]
        one.mul_(scale)
    return [one.flatten(0, 2).flatten(1)[:, :, None, None] for one in made]


def gradient(of_filters: Sequence[Tensor], weight: Tensor, bank_index: Tensor | None, window: Window) -> Tensor:
    """The gradient of the weight by those of ``filters``, which are used up."""
    c_out, c_in = weight.shape[:2]
    made = [one.view(shape) for one, shape in zip(of_filters, _shapes(c_out, c_in, window), strict=True)]
    (reading,) = window.readings
    for block, one, scale in zip(window.basis.blocks, made, reading.scales, strict=True):
        if block.rows < block.dimension:
            first, second = one.unbind(1)
            first[..., 0, :] += second[..., 1, :]
            first[..., 1, :] -= second[..., 0, :]
        one.mul_(scale)
    taps = weight.new_empty((weight.shape[2] * window.kernel**2, c_out * c_in))
    _run("from", [taps, *made], bank_index, window, c_in)
    return taps.t().contiguous().view(weight.shape)


def _shapes(c_out: int, c_in: int, window: Window) -> list[tuple[int, ...]]:
    """By block: (sections, d, c_out of a section, taps, d, c_in)."""
    sections, taps = window.sections, window.kernel**2
    return [(sections, one.dimension, c_out // sections, taps, one.dimension, c_in) for one in window.basis.blocks]


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
    (reading,) = window.readings
    size, pairs = (sections, c_out // sections, c_in), c_out * c_in
    dense = (pairs // sections, c_in, 1)
    spare = [Place(_SCRATCH, n * pairs, size, dense) for n in range(basis.order + 4)]
    plan = list[Planned]()
    for tap in range(taps):
        read = [Place(_TAPS, rows[u * taps + tap] * pairs, size, dense) for u in range(basis.order)]
        by_slot = {
            slot: Place(
                _BLOCKS + place,
                ((row * (c_out // sections) * taps + tap) * block.dimension + column) * c_in,
                size,
                (
                    block.dimension * (c_out // sections) * taps * block.dimension * c_in,
                    taps * block.dimension * c_in,
                    1,
                ),
            )
            for place, block in enumerate(basis.blocks)
            for row, slots in enumerate(block.slots)
            for column, slot in enumerate(slots)
        }
        made = [by_slot[slot] for slot in range(basis.order)]
        if way == "to":
            plan += transforming(read, reading.stages, made, spare)
        else:
            plan += transforming(made, reading.stages[::-1], read, spare)
    return Plan(plan)
