"""What a group answers to layers, counters and the equivariance witness; a user-defined group is derived from it.

Elements are numbers, the identity first. Offsets and positions are (row, column), rows pointing down. Every action is
a left action: ``(g f)(p) = f(g^-1 p)``, so acting with h and then with g is acting with ``g h`` (He et al. 2021,
eq. 3).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Any, TypeAlias

from e4profile.errors import SettingError, positive
from e4profile.groups.irreps import Irrep, irreps_of_table

if TYPE_CHECKING:
    from torch import Tensor

Offset: TypeAlias = "tuple[int, int]"
Table: TypeAlias = "tuple[tuple[int, ...], ...]"

LARGEST_ORDER = 256
_LARGEST_KERNEL = 255


class NoSuchMap(SettingError):
    """A size of maps on which a group does not act."""


class FiniteGroup:
    """A finite group that acts on a grid of integer coordinates: on offsets, on maps and on fields.

    A user-defined group defines ``name``, ``order``, ``product`` or ``product_table``, and ``act_on_offset``, and
    ``act_on_position`` where maps move otherwise than offsets do. Equal groups must be equal objects: a frozen
    dataclass is a good one.
    """

    if TYPE_CHECKING:

        @property
        def name(self) -> str:
            """The name, in tables and messages."""
            raise NotImplementedError

        @property
        def order(self) -> int:
            """The number of elements, the paper's |A|."""
            raise NotImplementedError

    def product(self, first: int, second: int) -> int:
        """The element ``first * second``: second acts before first."""
        return self._table[first][second]

    def act_on_offset(self, element: int, offset: Offset) -> Offset:
        """Where an element moves an offset (row, column) from the centre; linear, in integers."""
        raise TypeError(
            f"{type(self).__name__} must define act_on_offset(element, offset), for element {element} and offset "
            f"{offset} too"
        )

    def act_on_position(self, element: int, position: Offset, size: Offset) -> Offset:
        """Where an element moves a position (row, column) of a map of ``size`` (rows, columns).

        By default as ``act_on_offset`` moves it about the map's centre. A position outside of the map leaves the map:
        it and all that an element moves there are no part of the map, which is how a hexagon lies in a square array.
        """
        (a, b), (c, d) = self.offset_matrix(element)
        # doubled, so that the centre of a map of even size is an integer too
        row, column = (2 * one - whole + 1 for one, whole in zip(position, size, strict=True))
        moved = a * row + b * column, c * row + d * column
        if any((one + whole - 1) % 2 for one, whole in zip(moved, size, strict=True)):
            return -1, -1
        found = [(one + whole - 1) // 2 for one, whole in zip(moved, size, strict=True)]
        return found[0], found[1]

    def element_name(self, element: int) -> str:
        """An element for people."""
        return f"element {element}" if element else "identity"

    @property
    def alias(self) -> str:
        """The name that tables show: the literature's where there is one."""
        return self.name

    @property
    def elements(self) -> range:
        """Element indices, identity first."""
        return range(self.order)

    @cached_property
    def product_table(self) -> Table:
        """``product_table[g][h]`` is ``g * h``."""
        return tuple(tuple(self.product(g, h) for h in self.elements) for g in self.elements)

    @cached_property
    def _table(self) -> Table:
        # whatever whole numbers and sequences somebody wrote
        return tuple(tuple(index(product) for product in row) for row in self.product_table)

    def inverse(self, element: int) -> int:
        """The element that undoes ``element``."""
        return self._table[element].index(0)

    @property
    def irreps(self) -> tuple[Irrep, ...]:
        """All real irreps, the trivial one first; the sum of d times multiplicity is the order."""
        return irreps_of_table(self._table)

    def offset_matrix(self, element: int) -> tuple[Offset, Offset]:
        """The integer matrix by which an element moves offsets (row, column)."""
        return self._matrices[element]

    @cached_property
    def _matrices(self) -> tuple[tuple[Offset, Offset], ...]:
        columns = [(_moved(self, g, (1, 0)), _moved(self, g, (0, 1))) for g in self.elements]
        return tuple(((a, b), (c, d)) for (a, c), (b, d) in columns)

    @property
    def reversed_axes(self) -> tuple[bool, bool]:
        """Whether some element reverses or exchanges the (rows, columns) of the grid."""
        matrices = [self.offset_matrix(element) for element in self.elements]
        return any(rows != (1, 0) for rows, _ in matrices), any(columns != (0, 1) for _, columns in matrices)

    def require_exact_on_grid(self, user: str) -> None:
        """Refuse a group that moves grid points off the grid; integer offsets never do.

        Args:
            user: what needs the exactness, for the message.
        """

    @cached_property
    def _kept(self) -> dict[Any, Any]:
        return {}

    def taps(self, kernel: int) -> Sequence[int]:
        """The taps of a k x k kernel that every element moves to a tap, as flat indices; others are always 0.

        Raises:
            SettingError: where there is none, or for a kernel beyond any use.
        """
        return self._stencil(kernel)[0]

    def keeps_windows(self, kernel: int) -> bool:
        """Whether every element moves every tap of a k x k window to a tap, as square windows ask for."""
        try:
            return len(self.taps(kernel)) == kernel**2
        except SettingError:
            return False

    def _stencil(self, kernel: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """The taps, and by element where each place of the moved stencil comes from; a masked tap stays."""
        if kernel not in self._kept:
            check_kernel(kernel)
            # a kernel is a map that moves as offsets do
            sources = _sources(self, FiniteGroup.act_on_position, (kernel, kernel))
            if not sources[0]:
                raise SettingError(
                    f"kernel (={kernel}): {self.name} moves every tap out of the kernel; try {kernel + 1}"
                )
            self._kept[kernel] = sources
        found: tuple[tuple[int, ...], tuple[tuple[int, ...], ...]] = self._kept[kernel]
        return found

    def stencil_permutation(self, element: int, kernel: int) -> tuple[int, ...]:
        """The action on a k x k stencil as an index permutation; a tap that is not in ``taps`` stays.

        ``acted.flat[j] = stencil.flat[permutation[j]]``.

        Raises:
            SettingError: as ``taps``.
        """
        return self._stencil(kernel)[1][element]

    def lifting_index(self, kernel: int) -> Table:
        """``[a][j]``: where tap j of the filter for element a stands among the stored taps of one filter.

        A tap that is always 0 stands at the first, for want of a place.
        """
        places = {tap: place for place, tap in enumerate(self.taps(kernel))}
        return tuple(
            tuple(places.get(source, 0) for source in self.stencil_permutation(a, kernel)) for a in self.elements
        )

    def filter_bank_index(self, kernel: int) -> tuple[Table, ...]:
        """``[a][b][j]``: where tap j from input element b to output element a stands in a filter of A * taps.

        The group convolution's filter is W(a^-1 b) acted on by a (He et al. 2021, eq. 5).
        """
        taps, lifting = len(self.taps(kernel)), self.lifting_index(kernel)
        return tuple(
            tuple(tuple(self._table[self.inverse(a)][b] * taps + j for j in lifting[a]) for b in self.elements)
            for a in self.elements
        )

    def regular_permutation(self, element: int) -> tuple[int, ...]:
        """The action on the group axis of a regular field: ``acted[h] = field[permutation[h]]``."""
        return self._table[self.inverse(element)]

    def cosets(self, generators: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The left cosets g H of the subgroup H that some elements generate, H first.

        Raises:
            SettingError: for an element that is none.
        """
        for one in generators:
            if one not in self.elements:
                raise SettingError(f"element (={one}) must be in 0..{self.order - 1} for {self.name}")
        subgroup, grown = {0}, {0, *generators}
        while grown != subgroup:
            subgroup, grown = grown, {self._table[g][h] for g in grown for h in grown}
        found = {frozenset(self._table[g][h] for h in subgroup) for g in self.elements}
        return tuple(sorted(tuple(sorted(one)) for one in found))

    def quotient_permutation(self, element: int, generators: Sequence[int]) -> tuple[int, ...]:
        """The action on the axis of a quotient field, one channel per coset: ``acted[c] = field[permutation[c]]``."""
        cosets, back = FiniteGroup.cosets(self, generators), self._table[self.inverse(element)]
        where = {member: place for place, coset in enumerate(cosets) for member in coset}
        return tuple(where[back[coset[0]]] for coset in cosets)

    def positions(self, rows: int, columns: int) -> tuple[int, ...]:
        """The positions of a (rows, columns) array that are the map, as flat indices: every element moves them there.

        Raises:
            NoSuchMap: where there is none.
            SettingError: where the action on these maps is none, naming elements and position.
        """
        return self._map(rows, columns)[0]

    def map_permutation(self, element: int, rows: int, columns: int) -> tuple[int, ...]:
        """The exact action on maps: ``acted.flat[j] = maps.flat[permutation[j]]``; what is no part of the map stays.

        Raises:
            SettingError: as ``positions``.
        """
        return self._map(rows, columns)[1][element]

    def _map(self, rows: int, columns: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        if (rows, columns) not in self._kept:
            self._kept[rows, columns] = _sources(self, type(self).act_on_position, (rows, columns))
        found: tuple[tuple[int, ...], tuple[tuple[int, ...], ...]] = self._kept[rows, columns]
        if not found[0]:
            raise NoSuchMap(f"{self.name} moves every position of a {rows}x{columns} map out of it: try another size")
        return found

    def act_on_grid(self, images: Tensor, element: int) -> Tensor:
        """Move the pixels of ``images`` (..., h, w) by ``map_permutation``.

        Raises:
            SettingError: as ``positions``.
        """
        import torch

        # what was looked at, whatever a derived class may have written
        permutation = FiniteGroup.map_permutation(self, element, *images.shape[-2:])
        return images.flatten(-2).index_select(-1, torch.tensor(permutation, device=images.device)).view(images.shape)

    def act_on_field(self, features: Tensor, element: int) -> Tensor:
        """Act on regular fields (B, c * A, h, w), channel index = field * A + element.

        Raises:
            SettingError: when the group is not exact on the grid or A does not divide the channels.
        """
        channels = features.shape[1]
        if channels % self.order:
            raise SettingError(f"group order (={self.order}) must divide the channels (={channels})")
        fields = features.unflatten(1, (channels // self.order, self.order))
        moved = fields[:, :, list(self.regular_permutation(element))]
        return self.act_on_grid(moved, element).flatten(1, 2)

    def __str__(self) -> str:
        return self.name

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle takes along: what was given, not what follows from it."""
        follows = {
            name for kind in type(self).__mro__ for name, one in vars(kind).items() if type(one) is cached_property
        }
        return {name: value for name, value in vars(self).items() if name not in follows}

    def __deepcopy__(self, memo: dict[int, Any]) -> FiniteGroup:
        """Itself: a copy of a network is of the same group."""
        return self

    @cached_property
    def _is_a_group(self) -> bool:
        """True, where the axioms hold; they are looked at once.

        Raises:
            SettingError: naming the elements of which they do not.
        """
        _check_products(self)
        _check_offsets(self)
        return True


def check_kernel(kernel: int) -> None:
    """Refuse a kernel on which no group acts: one without taps, or beyond any use.

    Raises:
        SettingError: naming it.
    """
    positive(kernel=kernel)
    if kernel > _LARGEST_KERNEL:
        raise SettingError(f"kernel (={kernel}) must be at most {_LARGEST_KERNEL}")


def checked(group: object) -> FiniteGroup:
    """The group, whose products and action on offsets are those of a group.

    Raises:
        SettingError: in one line that names what is wrong.
    """
    if not isinstance(group, FiniteGroup):
        raise SettingError(
            f"group (={group!r}) must be a name or an instance of a class derived from e4profile.groups.FiniteGroup"
        )
    kind = type(group).__name__
    for part in ("name", "order"):
        if not hasattr(group, part):
            raise SettingError(f"{kind} must define {part}")
    if not _hashes(group):
        raise SettingError(f"{kind} must be hashable: make its dataclass frozen, of numbers and tuples")
    by_table = "product_table" in vars(group) or type(group).product_table is not FiniteGroup.product_table
    if type(group).product is FiniteGroup.product and not by_table:
        raise SettingError(f"{kind} must define product(first, second), or product_table")
    group._is_a_group  # noqa: B018  (it raises what is wrong)
    return group


def _check_products(group: FiniteGroup) -> None:
    name, order = group.name, group.order
    if type(order) is not int or not 0 < order <= LARGEST_ORDER:
        raise SettingError(f"{name}: order (={order!r}) must be a whole number from 1 to {LARGEST_ORDER}")
    if list(group.elements) != list(range(order)):
        raise SettingError(f"{name}: elements (={list(group.elements)}) must be 0..{order - 1}")
    try:
        table = [list(row) for row in group.product_table]
    except Exception as error:  # it is somebody's code, and its reason is shown
        raise _failed(group, "product_table", error) from error
    for g, row in enumerate(table):
        if len(row) != order or len(table) != order:
            raise SettingError(f"{name}: product_table[{g}] of {len(table)} has {len(row)} products, not {order}")
        for h, found in enumerate(row):
            if not hasattr(found, "__index__") or not 0 <= index(found) < order:
                raise SettingError(f"{name} is not closed: {g} * {h} is {found}, which is not in 0..{order - 1}")
            if found != _product(group, g, h):
                raise SettingError(f"{name}: product_table has {g} * {h} = {found}, product() {group.product(g, h)}")
    _check_axioms(group, name, group._table)


def _product(group: FiniteGroup, first: int, second: int) -> int:
    try:
        return group.product(first, second)
    except Exception as error:  # as above
        raise _failed(group, f"product({first}, {second})", error) from error


def _check_axioms(group: FiniteGroup, name: str, table: Table) -> None:
    import numpy as np

    products = np.array(table)
    for g, (row, column) in enumerate(zip(table, products.T.tolist(), strict=True)):
        if row[0] != g or column[0] != g:
            raise SettingError(f"{name}: element 0 is not the identity: {g} * 0 = {row[0]}, 0 * {g} = {column[0]}")
        if 0 not in row:
            raise SettingError(f"{name}: element {g} has no inverse: no {g} * h is 0")
    for a in range(len(table)):
        # [b, c]: (a b) c against a (b c)
        differ = np.argwhere(products[products[a]] != products[a][products])
        if len(differ):
            b, c = map(int, differ[0])
            left, right = table[table[a][b]][c], table[a][table[b][c]]
            raise SettingError(f"{name} is not associative: ({a} * {b}) * {c} = {left}, {a} * ({b} * {c}) = {right}")
    for g, row in enumerate(table):
        if group.inverse(g) != row.index(0):
            raise SettingError(f"{name}: inverse({g}) is {group.inverse(g)}, but {g} * {row.index(0)} is 0")


def _check_offsets(group: FiniteGroup) -> None:
    import numpy as np

    name, few = group.name, range(-2, 3)
    for g, row, column in itertools.product(group.elements, few, few):
        (a, b), (c, d) = group.offset_matrix(g)
        moved = _moved(group, g, (row, column))
        if moved != (a * row + b * column, c * row + d * column):
            raise SettingError(f"{name}: element {g} is not linear: it moves offset {row, column} to {moved}")
    matrices = np.array([group.offset_matrix(g) for g in group.elements])
    # h and then g, against their product
    differ = np.argwhere(matrices[:, None] @ matrices != matrices[np.array(group._table)])
    if len(differ):
        g, h, _, column = map(int, differ[0])
        once, offset = group._table[g][h], (1 - column, column)
        after = group.act_on_offset(g, group.act_on_offset(h, offset))
        raise SettingError(
            f"{name} does not act on offsets: {h} and then {g} move {offset} to {after}, their product {once} to "
            f"{group.act_on_offset(once, offset)}"
        )


def _moved(group: FiniteGroup, element: int, offset: Offset) -> Offset:
    """Where an element moves an offset, in whole numbers.

    Raises:
        SettingError: where it says something else, or fails.
    """
    try:
        found = group.act_on_offset(element, offset)
    except Exception as error:  # as above
        raise _failed(group, f"act_on_offset({element}, {offset})", error) from error
    try:
        row, column = map(index, found)
    except (TypeError, ValueError):
        raise SettingError(
            f"{group.name}: element {element} moves offset {offset} to {found!r}, which is no (row, column)"
        ) from None
    return row, column


def _failed(group: FiniteGroup, what: str, error: Exception) -> SettingError:
    """What a user-defined group raised, in one line."""
    if isinstance(error, SettingError):
        return error
    return SettingError(f"{group.name}: {what} raised {type(error).__name__}: {error}")


def _hashes(group: FiniteGroup) -> bool:
    try:
        hash(group)
    except TypeError:
        return False
    return True


def _sources(
    group: FiniteGroup, act_on_position: Any, size: Offset
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The flat positions that are the map, and by element where each place of a moved map comes from.

    Raises:
        SettingError: where two elements and their product disagree.
    """
    import numpy as np

    rows, columns = size
    places = np.arange(rows * columns)
    moved = np.full((group.order, rows * columns), -1)
    for g, place in itertools.product(group.elements, range(rows * columns)):
        try:
            row, column = map(index, act_on_position(group, g, divmod(place, columns), size))
        except Exception as error:  # it is somebody's code, and its reason is shown
            raise _failed(group, f"act_on_position({g}, {divmod(place, columns)}, {size})", error) from error
        if 0 <= row < rows and 0 <= column < columns:
            moved[g, place] = row * columns + column
    inside = (moved >= 0).all(0)
    moved = np.where(inside, moved, places)
    for g in group.elements:
        # [h, position]: h and then g, against their product
        differ = np.argwhere(moved[g][moved] != moved[list(group._table[g])])
        if len(differ):
            h, place = map(int, differ[0])
            once = group._table[g][h]
            after, other = (divmod(int(one), columns) for one in (moved[g][moved[h, place]], moved[once, place]))
            raise SettingError(
                f"{group.name} does not act on maps of {rows}x{columns}: {h} and then {g} move position "
                f"{divmod(place, columns)} to {after}, their product {once} to {other}"
            )
    if (moved[0] != places).any():
        place = int((moved[0] != places).argmax())
        raise SettingError(
            f"{group.name} does not act on maps of {rows}x{columns}: the identity moves {divmod(place, columns)}"
        )
    # what stands at p after acting with g stood at g^-1 p
    return tuple(places[inside].tolist()), tuple(tuple(moved[group.inverse(g)].tolist()) for g in group.elements)
