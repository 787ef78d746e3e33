"""Point groups C_n and D_n: elements, products, and their actions on grids, stencils and regular fields.

The only place that knows a rotation. Conventions:

* Element ``i`` of C_n is the counter-clockwise rotation by ``i * 360 / n`` degrees. D_n has ``2 n``
  elements; ``i < n`` are the rotations and ``n + i`` is the left-right mirror followed by rotation ``i``.
* Points are ``(x, y)`` with x to the right and y up; arrays are indexed ``[row, column]`` with row down.
* Every action is a left action: ``(g f)(p) = f(g^-1 p)``, so acting with h and then with g is acting
  with ``g h`` (He et al. 2021, eq. 3).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeAlias

from e4profile.errors import SettingError, UnknownNameError, positive

if TYPE_CHECKING:
    from torch import Tensor

_ALIASES = {"z2": "C1", "p1": "C1", "p2": "C2", "p4": "C4", "p8": "C8", "pm": "D1", "p2mm": "D2", "p4m": "D4"}
_LARGEST_ORDER = 256
_LARGEST_KERNEL = 255


@dataclass(frozen=True)
class Irrep:
    """A real irreducible representation.

    Attributes:
        name: ``A`` and ``B`` for one dimension, ``E`` for two, as chemists write them.
        matrices: d x d and orthogonal, by element; of rotations by right angles exact integers.
        is_complex: whether rotations commute with it (complex type), so that one row says the whole matrix.
    """

    name: str
    matrices: tuple[tuple[tuple[float, ...], ...], ...]
    is_complex: bool = False

    @property
    def dimension(self) -> int:
        """The d of its d x d matrices."""
        return len(self.matrices[0])

    @property
    def multiplicity(self) -> int:
        """How often it is in the regular representation: d, or 1 by complex type."""
        return 1 if self.is_complex else self.dimension

    @property
    def products(self) -> int:
        """Multiplications of one coefficient matrix by another: d^3, or d^2 by complex type."""
        return self.multiplicity * self.dimension**2

    @property
    def fewest_products(self) -> int:
        """The same at the price of additions: 3 of a complex product (Gauss), 7 of 2 x 2 matrices (Strassen 1969)."""
        return {1: 1, 4: 3, 8: 7}[self.products]


@dataclass(frozen=True)
class Group:
    """The cyclic group C_n (``mirrors=False``) or the dihedral group D_n (``mirrors=True``)."""

    rotations: int
    mirrors: bool = False

    def __post_init__(self) -> None:
        positive(rotations=self.rotations)
        if self.order > _LARGEST_ORDER:
            raise SettingError(f"group order (={self.order}) must be at most {_LARGEST_ORDER}")

    @property
    def order(self) -> int:
        """The number of elements, the paper's |A|."""
        return self.rotations * (2 if self.mirrors else 1)

    @property
    def name(self) -> str:
        """``C<n>`` or ``D<n>``."""
        return f"{'D' if self.mirrors else 'C'}{self.rotations}"

    @property
    def alias(self) -> str:
        """The wallpaper-group name where the literature uses one (``p4`` for C4), else the name."""
        return {"C1": "z2", "C4": "p4", "D4": "p4m"}.get(self.name, self.name)

    @property
    def elements(self) -> range:
        """Element indices, identity first."""
        return range(self.order)

    @property
    def exact_on_grid(self) -> bool:
        """Whether every element maps the square grid onto itself."""
        return 4 % self.rotations == 0

    def split(self, element: int) -> tuple[int, bool]:
        """The rotation index and the mirror flag of an element.

        Raises:
            SettingError: when the element is not in the group.
        """
        if not 0 <= element < self.order:
            raise SettingError(f"element (={element}) must be in 0..{self.order - 1} for {self.name}")
        return element % self.rotations, element >= self.rotations

    def _join(self, rotation: int, mirror: bool) -> int:
        return rotation % self.rotations + (self.rotations if mirror else 0)

    def product(self, first: int, second: int) -> int:
        """The element ``first * second``: second acts before first."""
        r1, m1 = self.split(first)
        r2, m2 = self.split(second)
        return self._join(r1 - r2 if m1 else r1 + r2, m1 != m2)

    def inverse(self, element: int) -> int:
        """The element that undoes ``element``."""
        rotation, mirror = self.split(element)
        return element if mirror else self._join(-rotation, False)

    @cached_property
    def product_table(self) -> tuple[tuple[int, ...], ...]:
        """``product_table[g][h]`` is ``g * h``."""
        return tuple(tuple(self.product(g, h) for h in self.elements) for g in self.elements)

    def matrix(self, element: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """The 2x2 orthogonal matrix of an element; quarter turns are exact integers."""
        rotation, mirror = self.split(element)
        quarters, remainder = divmod(4 * rotation, self.rotations)
        if remainder == 0:
            cos, sin = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[quarters]
        else:
            angle = 2 * math.pi * rotation / self.rotations
            cos, sin = math.cos(angle), math.sin(angle)
        sign = -1.0 if mirror else 1.0
        return ((sign * cos, -sin), (sign * sin, cos))

    @cached_property
    def irreps(self) -> tuple[Irrep, ...]:
        """All real irreps, the trivial one first; the sum of d times multiplicity is the order."""
        n, mirrors = self.rotations, (False, True) if self.mirrors else (False,)
        elements = [self.split(element) for element in self.elements]
        found = []
        for turned in (1, -1) if n % 2 == 0 else (1,):
            for mirrored in (1, -1)[: len(mirrors)]:
                name = ("A" if turned == 1 else "B") + (("1" if mirrored == 1 else "2") if self.mirrors else "")
                signs = (float(turned**rotation * mirrored**mirror) for rotation, mirror in elements)
                found.append(Irrep(name, tuple(((sign,),) for sign in signs)))
        for frequency in range(1, (n + 1) // 2):
            name = "E" if n <= 4 else f"E{frequency}"
            # rotation i turns by frequency * i; the mirror stays
            matrices = (self.matrix(self._join(frequency * rotation, mirror)) for rotation, mirror in elements)
            found.append(Irrep(name, tuple(matrices), is_complex=not self.mirrors))
        return tuple(found)

    @property
    def irrep_products(self) -> int:
        """Multiplications that convolve two regular fields over the group in the irrep basis, in place of order^2."""
        return sum(irrep.products for irrep in self.irreps)

    def lifting_products(self, kernel: int) -> int:
        """Multiplications that lift one channel's k x k taps to a regular field in the irrep basis, on the grid.

        An orbit of taps has of an irrep d rows and as many columns as dimensions that a tap's stabiliser leaves. These
        are as many multiplications as taps, and of the irrep of quarter turns half as many again, but for the middle.
        """
        return kernel**2 * 3 // 2 if self.rotations % 4 == 0 else kernel**2

    @cached_property
    def on_grid(self) -> Group:
        """The largest subgroup with the same mirrors that maps the square grid onto itself."""
        return Group(math.gcd(self.rotations, 4), self.mirrors)

    @cached_property
    def cosets_on_grid(self) -> tuple[tuple[int, ...], ...]:
        """``[p][u]``: the element u t_p, with u of ``on_grid`` and t_p the rotation by p steps.

        A regular field is so one regular field of ``on_grid`` for each p.
        """
        steps = self.rotations // self.on_grid.rotations
        inside = [
            self._join(steps * rotation, mirror) for rotation, mirror in map(self.on_grid.split, self.on_grid.elements)
        ]
        return tuple(tuple(self.product(element, step) for element in inside) for step in range(steps))

    def _grid_matrix(self, element: int) -> tuple[int, int, int, int]:
        self.require_exact_on_grid("an action on the pixel grid")
        (a, b), (c, d) = self.matrix(element)
        return int(a), int(b), int(c), int(d)

    def require_exact_on_grid(self, user: str) -> None:
        """Refuse a group that moves grid points off the grid.

        Args:
            user: what needs the exactness, for the message.

        Raises:
            SettingError: for rotations that are not multiples of 90 degrees.
        """
        if not self.exact_on_grid:
            raise SettingError(
                f"{user} needs a group that maps the square grid onto itself (C1, C2, C4, D1, D2, D4); "
                f"{self.name} rotates by {360 / self.rotations:g} degrees"
            )

    @property
    def reversed_axes(self) -> tuple[bool, bool]:
        """Whether some element reverses or exchanges the (rows, columns) of the grid."""
        matrices = [self._grid_matrix(element) for element in self.elements]
        rows = any(d != 1 for _, _, _, d in matrices)
        columns = any(a != 1 for a, _, _, _ in matrices)
        return rows, columns

    @lru_cache(maxsize=1024)  # noqa: B019  (groups are small, immutable and compared by value)
    def stencil_permutation(self, element: int, kernel: int) -> tuple[int, ...]:
        """The action on a k x k stencil as an index permutation.

        ``acted.flat[j] = stencil.flat[permutation[j]]``.

        Raises:
            SettingError: when the group is not exact on the grid, or the kernel beyond any use (the
                permutation is a list of k * k numbers).
        """
        check_kernel(kernel)
        a, b, c, d = self._grid_matrix(self.inverse(element))
        permutation = []
        for row in range(kernel):
            for column in range(kernel):
                # doubled coordinates keep even kernels on integers
                x, y = 2 * column - (kernel - 1), (kernel - 1) - 2 * row
                source_x, source_y = a * x + b * y, c * x + d * y
                source_column, source_row = (source_x + kernel - 1) // 2, (kernel - 1 - source_y) // 2
                permutation.append(source_row * kernel + source_column)
        return tuple(permutation)

    @lru_cache(maxsize=256)  # noqa: B019
    def lifting_index(self, kernel: int) -> tuple[tuple[int, ...], ...]:
        """``[a][j]``: where tap j of the filter for element a stands in one k x k filter."""
        return tuple(self.stencil_permutation(a, kernel) for a in self.elements)

    @lru_cache(maxsize=256)  # noqa: B019
    def filter_bank_index(self, kernel: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """``[a][b][j]``: where tap j from input element b to output element a stands in an (A, k, k) filter.

        The group convolution's filter is W(a^-1 b) acted on by a (He et al. 2021, eq. 5).
        """
        taps = kernel * kernel
        return tuple(
            tuple(
                tuple(self.product(self.inverse(a), b) * taps + j for j in self.stencil_permutation(a, kernel))
                for b in self.elements
            )
            for a in self.elements
        )

    def regular_permutation(self, element: int) -> tuple[int, ...]:
        """The action on the group axis of a regular field: ``acted[h] = field[permutation[h]]``."""
        inverse = self.inverse(element)
        return tuple(self.product(inverse, h) for h in self.elements)

    def act_on_grid(self, images: Tensor, element: int) -> Tensor:
        """Move the pixels of ``images`` (..., h, w); quarter turns swap h and w.

        Raises:
            SettingError: when the group is not exact on the grid.
        """
        a, b, _, d = self._grid_matrix(element)
        if a == 0:
            # a quarter turn, possibly mirrored: (x, y) -> (b y, c x)
            _, _, c, _ = self._grid_matrix(element)
            turned = images.transpose(-2, -1)
            # transposing sends (x, y) to (-y, -x) because rows point down
            axes = ([-1] if b == 1 else []) + ([-2] if c == 1 else [])
            return turned.flip(axes) if axes else turned
        axes = ([-1] if a == -1 else []) + ([-2] if d == -1 else [])
        return images.flip(axes) if axes else images

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


def check_kernel(kernel: int) -> None:
    """Refuse a kernel on which no group acts: one without taps, or beyond any use.

    Raises:
        SettingError: naming it.
    """
    positive(kernel=kernel)
    if kernel > _LARGEST_KERNEL:
        raise SettingError(f"kernel (={kernel}) must be at most {_LARGEST_KERNEL}")


GroupLike: TypeAlias = "Group | str"

GRID_EXACT = tuple(Group(n, m) for m in (False, True) for n in (1, 2, 4))
"""Every group that the grid-exact layers accept."""


def as_group(group: GroupLike) -> Group:
    """A group object from an object or a name: ``p4``, ``p4m``, ``z2``, ``C8``, ``D2``, ...

    Raises:
        UnknownNameError: for a name that is neither an alias nor ``C<n>`` or ``D<n>``.
    """
    if isinstance(group, Group):
        return group
    name = _ALIASES.get(str(group).lower(), str(group))
    match = re.fullmatch(r"([CcDd])([0-9]{1,4})", name)
    if not match or int(match[2]) == 0:
        known = [*_ALIASES, *(g.name for g in GRID_EXACT), "C8", "D8"]
        raise UnknownNameError("group", str(group), known)
    return Group(int(match[2]), match[1] in "Dd")
