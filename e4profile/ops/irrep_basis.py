"""How the irrep basis is had by sums and differences, and what a convolution reads in it; no tensor is made here.

On groups that are exact on the grid, irreps have the entries 0, 1 and -1: the transforms are sums and differences of
two maps (*butterflies*). Of an irrep of complex type one row is enough: the other repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

from torch import Tensor

from e4profile.groups import Group

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


@dataclass(frozen=True)
class Reading:
    """Sets of maps that the same butterflies take to the irrep basis.

    Attributes:
        sets: (element, tap) of each map of a set.
        stages: the butterflies.
        columns: by block, where they leave the entries of each of its columns, row by row.
        scales: by block, of its products on their way back by the transpose of the group's butterflies.
    """

    sets: tuple[tuple[Pair, ...], ...]
    stages: tuple[tuple[Pair, ...], ...]
    columns: tuple[tuple[tuple[int, ...], ...], ...]
    scales: tuple[float, ...]

    @property
    def additions(self) -> int:
        """Sums and differences of all sets."""
        return 2 * len(self.sets) * sum(map(len, self.stages))


def _on_fields(window: Window) -> tuple[Reading, ...]:
    """For each offset z, element b is read at b z."""
    sets = tuple(tuple(zip(window.group.elements, taps, strict=True)) for taps in window.taps)
    return (_whole(window.basis, sets),)


def _whole(basis: Basis, sets: tuple[tuple[Pair, ...], ...]) -> Reading:
    """Sets of A maps: a block has d columns."""
    columns = tuple(tuple(zip(*block.slots, strict=True)) for block in basis.blocks)
    return Reading(sets, basis.stages, columns, tuple(block.dimension / basis.order for block in basis.blocks))


def _on_images(window: Window) -> tuple[Reading, ...]:
    """Orbit by orbit: of an irrep, an orbit has only what the stabiliser of a tap leaves as it is.

    A tap that every element fixes has the trivial irrep. An orbit as large as the group is a regular field of it. One
    whose taps are fixed by a mirror is a regular field of the rotations.
    """
    group, basis = window.group, window.basis
    trivial = Reading((), (), (((0,),), *[()] * (len(basis.blocks) - 1)), (1.0,) * len(basis.blocks))
    found: dict[Reading, list[tuple[Pair, ...]]] = {}
    seen = set[int]()
    for orbit in window.taps:
        size = len(set(orbit))
        if size == group.order:
            kind: Reading | None = _whole(basis, ())
        elif size == 1:
            kind = trivial
        elif orbit[0] == orbit[group.rotations]:
            kind = _MIRRORED[group.name][0]
        else:
            kind = _MIRRORED[group.name][1] if orbit[0] == orbit[-1] else None
        if kind is not None and not seen.intersection(orbit):
            # rotations are the first elements
            found.setdefault(kind, []).append(tuple((0, tap) for tap in orbit[:size]))
            seen.update(orbit)
    return tuple(replace(kind, sets=tuple(sets)) for kind, sets in found.items())


def _lifting_additions(group: Group, kernel: int) -> int:
    """Those of all orbits of ``_on_images``, from how many taps there are of each kind."""
    middle = kernel % 2
    on_axes = middle * (kernel - 1) * (2 if group.rotations > 1 else 1) if group.mirrors else 0
    on_diagonals = 2 * (kernel - middle) if group.name == "D4" else 0
    others = kernel**2 - middle - on_axes - on_diagonals
    by_axis = {"D2": 2, "D4": 3}.get(group.name, 0)
    return others * basis_of(group).additions // group.order + (by_axis * on_axes + 4 * on_diagonals) // 2


_HALVES = (0.5, 0.5, 0.5, 0.5)
_MIRRORED = {
    "D2": (
        Reading((), _BASES["C2"].stages, (((0,),), ((1,),), (), ()), _HALVES),
        Reading((), _BASES["C2"].stages, (((0,),), (), (), ((1,),)), _HALVES),
    ),
    # of the two-dimensional irrep, the column of the vector that the mirror fixes: (0, 1) and (1, 1)
    "D4": (
        Reading((), _BASES["C4"].stages, (((0,),), ((3,),), (), (), ((1, 2),)), (0.25, 0.25, 0.25, 0.25, 0.5)),
        Reading(
            (), (*_BASES["C4"].stages, ((2, 1),)), (((0,),), (), (), ((3,),), ((2, 1),)), (0.25, 0.25, 0.25, 0.25, 0.25)
        ),
    ),
}
"""Orbits whose first tap the first mirror fixes, and the last."""


@dataclass(frozen=True)
class Window:
    """A group convolution, or a lifting convolution, apart from its tensors."""

    group: Group
    kernel: int
    stride: int
    padding: int
    cosets: tuple[tuple[int, ...], ...] = ()
    """Where fields are of a larger group: ``cosets[p][u]`` is u t_p there; a field is one of this group for each p."""
    lifts: bool = False
    """Whether it is from images."""
    sections: int = 1
    """Of a grouped convolution: each has its own share of the input fields, and of the output fields."""

    @property
    def basis(self) -> Basis:
        """Of the group."""
        return basis_of(self.group)

    def make(self) -> None:
        """Make what is kept, for a compiler warns of what is kept while it looks."""
        self.widths, self.numbers  # noqa: B018

    @cached_property
    def numbers(self) -> list[int]:
        """What the window is made of."""
        group = self.group
        places = [place for coset in self.cosets for place in coset]
        own = (group.rotations, group.mirrors, self.kernel, self.stride, self.padding, self.lifts, self.sections)
        return [*map(int, own), *places]

    @cached_property
    def taps(self) -> tuple[tuple[int, ...], ...]:
        """``[z][b]``: the tap at b z."""
        moved = (self.group.stencil_permutation(self.group.inverse(b), self.kernel) for b in self.group.elements)
        return tuple(zip(*moved, strict=True))

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """What the products read."""
        return _on_images(self) if self.lifts else _on_fields(self)

    @property
    def sets(self) -> Iterator[tuple[tuple[Pair, ...], tuple[tuple[Pair, ...], ...], list[tuple[int, int, int]]]]:
        """What each set of maps reads, its butterflies, and by slot the block, row and column of its coefficients."""
        first = [0 for _ in self.basis.blocks]
        for reading in self.readings:
            for sources in reading.sets:
                by_slot = {
                    slot: (place, row, first[place] + n)
                    for place, columns in enumerate(reading.columns)
                    for n, slots in enumerate(columns)
                    for row, slot in enumerate(slots)
                }
                first = [column + len(columns) for column, columns in zip(first, reading.columns, strict=True)]
                yield sources, reading.stages, [by_slot[slot] for slot in range(len(sources))]

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """By block, how many columns the products read."""
        places = range(len(self.basis.blocks))
        return tuple(sum(len(one.sets) * len(one.columns[place]) for one in self.readings) for place in places)

    @property
    def products(self) -> int:
        """Multiplications of one pair of fields at one position."""
        group = self.group
        return group.lifting_products(self.kernel) if self.lifts else self.kernel**2 * self.basis.products

    @property
    def bank_products(self) -> int:
        """The same by a filter bank."""
        return self.kernel**2 * self.group.order * (1 if self.lifts else self.group.order)

    @property
    def additions(self) -> int:
        """Sums and differences that transform the window of one input field at one position."""
        if self.lifts:
            return _lifting_additions(self.group, self.kernel)
        return self.kernel**2 * self.basis.additions

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

    def split_input(self, features: Tensor) -> Tensor:
        """The input as (B, c, A, h, w), an image as (B, c, 1, h, w)."""
        return features[:, :, None] if self.lifts else self.split(features)

    def joined_input(self, fields: Tensor) -> Tensor:
        """The inverse of ``split_input``."""
        return fields[:, :, 0] if self.lifts else self.joined(fields)

    def size_out(self, size: int) -> int:
        """How many windows fit along an axis of the padded map."""
        return (size - self.kernel) // self.stride + 1

    def shift(self, tap: int, rows: int, columns: int) -> tuple[slice, slice]:
        """What a tap reads of a padded map (rows, columns): every window's pixel there."""
        return self._along(tap // self.kernel, rows), self._along(tap % self.kernel, columns)

    def _along(self, first: int, size: int) -> slice:
        return slice(first, first + self.stride * (self.size_out(size) - 1) + 1, self.stride)


def transformed(maps: Sequence[Tensor], stages: Sequence[Sequence[Pair]]) -> list[Tensor]:
    """The coefficients by slot, of maps of one shape; differentiable.

    The stages in reverse are the transpose. That of all A maps is the inverse but for a factor A / d per irrep.
    """
    found = list(maps)
    for stage in stages:
        for i, j in stage:
            found[i], found[j] = found[i] + found[j], found[i] - found[j]
    return found
