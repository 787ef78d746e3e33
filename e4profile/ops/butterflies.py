"""Sums and differences of maps in memory that is there, planned once and in as few calls as their places allow.

A transform to the irrep basis takes dozens of additions for each offset of a filter. Two pairs of maps are added in one
call wherever each side's two maps lie in one buffer, the second behind the first, as a view of both. Which places these
are follows from sizes alone, so that a plan is kept and only bound to tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from e4profile.ops.irrep_basis import Pair


class Place(NamedTuple):
    """Where a map lies: the number of a buffer, and a view of it."""

    buffer: int
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]

    def at(self, index: int) -> Place:
        """One entry of the first axis."""
        return Place(self.buffer, self.offset + index * self.strides[0], self.size[1:], self.strides[1:])

    def part(self, *ranges: range) -> Place:
        """Ranges of the first axes."""
        offset = self.offset + sum(one.start * stride for one, stride in zip(ranges, self.strides, strict=False))
        return Place(self.buffer, offset, (*map(len, ranges), *self.size[len(ranges) :]), self.strides)

    def of(self, buffers: Sequence[Tensor]) -> Tensor:
        """The view."""
        own = buffers[self.buffer]
        return own.as_strided(self.size, self.strides, own.storage_offset() + self.offset)


def dense(buffer: int, *size: int) -> Place:
    """The whole of a contiguous buffer."""
    strides = [1]
    for one in reversed(size[1:]):
        strides.append(strides[-1] * one)
    return Place(buffer, 0, size, tuple(reversed(strides)))


Planned: TypeAlias = tuple[Callable[..., Any] | None, Place, Place, Place]
Call: TypeAlias = tuple[Callable[..., Any] | None, Tensor, Tensor, Tensor]
"""An addition, its operands and where its result goes; None copies the first operand."""


class Plan:
    """Additions in turn; a view that several of them take is made once."""

    def __init__(self, planned: Sequence[Planned]) -> None:
        self.places = list(dict.fromkeys(place for _, *places in planned for place in places))
        number = {place: n for n, place in enumerate(self.places)}
        self.calls = [(add, number[a], number[b], number[into]) for add, a, b, into in planned]

    def bound(self, buffers: Sequence[Tensor]) -> list[Call]:
        """The calls on these buffers."""
        views = [place.of(buffers) for place in self.places]
        return [(add, views[a], views[b], views[into]) for add, a, b, into in self.calls]


def run(calls: Iterable[Call]) -> None:
    """Run calls in turn."""
    for add, a, b, into in calls:
        if add is None:
            into.copy_(a)
        else:
            add(a, b, out=into)


def transforming(
    sources: Sequence[Place], stages: Sequence[Sequence[Pair]], targets: Sequence[Place], spare: Sequence[Place]
) -> list[Planned]:
    """The calls that write ``irrep_basis.transformed`` of the sources into the targets.

    Args:
        sources: maps of one size, which are only read.
        stages: butterflies.
        targets: one for each source, apart from the sources.
        spare: at least four more than sources, of one buffer.
    """
    last = {slot: n for n, stage in enumerate(stages) for pair in stage for slot in pair}
    found, free, plan = list(sources), sorted(spare), list[Planned]()
    for n, stage in enumerate(stages):
        for first in range(0, len(stage), 2):
            pairs = sorted(stage[first : first + 2], key=lambda pair: found[pair[0]])
            operands = [(found[i], found[j]) for i, j in pairs]
            for side, add in enumerate((torch.add, torch.sub)):
                into = [targets[pair[side]] if last[pair[side]] == n else free.pop(0) for pair in pairs]
                plan += together(add, [(*each, one) for each, one in zip(operands, into, strict=True)])
                for pair, one in zip(pairs, into, strict=True):
                    found[pair[side]] = one
            read = [one for each in operands for one in each]
            free = sorted([*free, *(one for one in read if n and one not in sources)])
    return plan + [(None, sources[slot], sources[slot], one) for slot, one in enumerate(targets) if slot not in last]


def together(add: Callable[..., Any], operands: Sequence[tuple[Place, Place, Place]]) -> list[Planned]:
    """One call for two triples of operands and result where they can be viewed together, else one for each."""
    for order in (operands, operands[::-1]) if len(operands) == 2 else ():
        a, b, into = (_both(*pair) for pair in zip(*order, strict=True))
        if a and b and into:
            return [(add, *_merged(a, b, into))]
    return [(add, *_merged(*each)) for each in operands]


def _merged(a: Place, b: Place, into: Place) -> tuple[Place, Place, Place]:
    """The same with as few axes as all three allow, which is what an addition would find out each time."""
    size, strides = list[int](), list[list[int]]()
    for length, *steps in zip(a.size, a.strides, b.strides, into.strides, strict=True):
        if length == 1:
            continue
        if size and strides[-1] == [step * length for step in steps]:
            size[-1], strides[-1] = size[-1] * length, steps
        else:
            size.append(length)
            strides.append(steps)
    by_place = zip(*strides, strict=True) if strides else ((), (), ())
    one, other, result = (
        Place(place.buffer, place.offset, tuple(size), tuple(steps))
        for place, steps in zip((a, b, into), by_place, strict=True)
    )
    return one, other, result


def _both(one: Place, other: Place) -> Place | None:
    """Both as one view (2, ...), where buffers and strides allow it."""
    apart = other.offset - one.offset
    if apart <= 0 or one.buffer != other.buffer or one.strides != other.strides:
        return None
    return Place(one.buffer, one.offset, (2, *one.size), (apart, *one.strides))
