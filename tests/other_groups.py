"""Groups that are not the package's, each of another kind: what is derived from the protocol in the tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from e4profile.groups import FiniteGroup, Group
from e4profile.groups.protocol import Offset


@dataclass(frozen=True)
class Hexagonal(FiniteGroup):
    """Rotations by 60 degrees, and mirrors, in axial coordinates: only a hexagon of a square array is the map."""

    mirrors: bool = False

    @property
    def name(self) -> str:
        return "hex-D6" if self.mirrors else "hex-C6"

    @property
    def order(self) -> int:
        return 12 if self.mirrors else 6

    def product(self, first: int, second: int) -> int:
        turned = first - second if first >= 6 else first + second
        return turned % 6 + 6 * ((first >= 6) != (second >= 6))

    def act_on_offset(self, element: int, offset: Offset) -> Offset:
        row, column = offset if element < 6 else offset[::-1]
        for _ in range(element % 6):
            row, column = row + column, -row
        return row, column


@dataclass(frozen=True)
class Shifts(FiniteGroup):
    """Shifts of a torus by quarters of its columns: offsets stay, positions move, and sizes must be multiples of 4."""

    name: str = "shifts"
    order: int = 4

    def product(self, first: int, second: int) -> int:
        return (first + second) % 4

    def act_on_offset(self, element: int, offset: Offset) -> Offset:
        return offset

    def act_on_position(self, element: int, position: Offset, size: Offset) -> Offset:
        if size[1] % 4:
            return position if size[1] == 1 else (-1, -1)
        return position[0], (position[1] + element * size[1] // 4) % size[1]


@dataclass(frozen=True)
class UpsideDown(FiniteGroup):
    """One reflection of one axis, of rows."""

    name: str = "upside-down"
    order: int = 2

    def product(self, first: int, second: int) -> int:
        return (first + second) % 2

    def act_on_offset(self, element: int, offset: Offset) -> Offset:
        return (-offset[0], offset[1]) if element else offset


@dataclass(frozen=True)
class Again(FiniteGroup):
    """One of the package's groups by nothing but its products and its action on offsets."""

    of: Group

    @property
    def name(self) -> str:
        return f"again-{self.of}"

    @property
    def order(self) -> int:
        return self.of.order

    def product(self, first: int, second: int) -> int:
        return self.of.product(first, second)

    def act_on_offset(self, element: int, offset: Offset) -> Offset:
        return self.of.act_on_offset(element, offset)


@dataclass(frozen=True)
class Permutations(FiniteGroup):
    """What some permutations generate; it acts on nothing but the channels."""

    generators: tuple[tuple[int, ...], ...]

    @cached_property
    def members(self) -> list[tuple[int, ...]]:
        identity = tuple(range(len(self.generators[0])))
        found, new = {identity}, {identity}
        while new:
            new = {tuple(one[i] for i in other) for one in new for other in self.generators} - found
            found |= new
        return sorted(found)

    @property
    def name(self) -> str:
        return f"permutations of {len(self.generators[0])}"

    @property
    def order(self) -> int:
        return len(self.members)

    @cached_property
    def product_table(self) -> tuple[tuple[int, ...], ...]:
        members = self.members
        where = {one: i for i, one in enumerate(members)}
        products = ([tuple(one[i] for i in other) for other in members] for one in members)
        return tuple(tuple(where[one] for one in row) for row in products)

    def product(self, first: int, second: int) -> int:
        return self.product_table[first][second]

    def act_on_offset(self, element: int, offset: Offset) -> Offset:
        return offset


C6, D6 = Hexagonal(), Hexagonal(mirrors=True)
QUATERNIONS = Permutations(((1, 2, 3, 0, 5, 6, 7, 4), (4, 7, 6, 5, 2, 1, 0, 3)))
"""The eight of them, by how i and j multiply: the smallest group with an irrep of quaternionic type."""

OTHERS = (C6, D6, Shifts(), UpsideDown(), Again(Group(4, True)))
