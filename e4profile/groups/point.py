"""Point groups C_n and D_n on the square grid: two kinds of ``FiniteGroup``.

The only place that knows a rotation. Conventions:

* Element ``i`` of C_n is the counter-clockwise rotation by ``i * 360 / n`` degrees. D_n has ``2 n``
  elements; ``i < n`` are the rotations and ``n + i`` is the left-right mirror followed by rotation ``i``.
* Points are ``(x, y)`` with x to the right and y up; arrays are indexed ``[row, column]`` with row down.
* Every action is a left action: ``(g f)(p) = f(g^-1 p)``, so acting with h and then with g is acting
  with ``g h`` (He et al. 2021, eq. 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from e4profile.errors import SettingError, positive
from e4profile.groups.irreps import Irrep
from e4profile.groups.protocol import LARGEST_ORDER, FiniteGroup, Offset, check_kernel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Group(FiniteGroup):
    """The cyclic group C_n (``mirrors=False``) or the dihedral group D_n (``mirrors=True``)."""

    rotations: int
    mirrors: bool = False

    def __post_init__(self) -> None:
        positive(rotations=self.rotations)
        if self.order > LARGEST_ORDER:
            raise SettingError(f"group order (={self.order}) must be at most {LARGEST_ORDER}")

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
            found.append(Irrep(name, tuple(matrices), 1 if self.mirrors else 2))
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
        """``cosets_of`` the group's elements ``on_grid``."""
        return self.cosets_of(self.on_grid)

    def cosets_of(self, subgroup: Group) -> tuple[tuple[int, ...], ...]:
        """``[p][u]``: the element u t_p, with u of the subgroup and t_p the rotation by p steps, then with the mirror.

        A regular field is so one regular field of the subgroup for each p.

        Raises:
            SettingError: for a group that is no subgroup.
        """
        steps, rest = divmod(self.rotations, subgroup.rotations)
        if rest or subgroup.mirrors > self.mirrors:
            raise SettingError(f"{subgroup.name} is no subgroup of {self.name}")
        inside = [self._join(steps * rotation, mirror) for rotation, mirror in map(subgroup.split, subgroup.elements)]
        mirrors = (False, True) if self.mirrors and not subgroup.mirrors else (False,)
        others = [self._join(step, mirror) for mirror in mirrors for step in range(steps)]
        return tuple(tuple(self.product(element, one) for element in inside) for one in others)

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

    def act_on_offset(self, element: int, offset: Offset) -> Offset:
        """Where an element moves an offset (row, column); a row is -y."""
        a, b, c, d = self._grid_matrix(element)
        row, column = offset
        return d * row - c * column, a * column - b * row

    def element_name(self, element: int) -> str:
        """An element for people: ``90°``, ``mirror``, ``mirror, 90°``."""
        rotation, mirror = self.split(element)
        turned = f"{360 * rotation / self.rotations:g}°"
        if not mirror:
            return turned
        return f"mirror, {turned}" if rotation else "mirror"

    @cached_property
    def _is_a_group(self) -> bool:
        # what is derived from it may have defined something anew
        return type(self) is Group or super()._is_a_group

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

    def taps(self, kernel: int) -> Sequence[int]:
        """All taps of a k x k kernel, as flat indices."""
        check_kernel(kernel)
        return range(kernel**2)

    def keeps_windows(self, kernel: int) -> bool:
        """Whether a kernel is of any use: a square moves to itself, so that many kernels need no look at their taps."""
        try:
            check_kernel(kernel)
        except SettingError:
            return False
        return True

    @lru_cache(maxsize=256)  # noqa: B019
    def lifting_index(self, kernel: int) -> tuple[tuple[int, ...], ...]:
        """``[a][j]``: where tap j of the filter for element a stands in one k x k filter."""
        return tuple(self.stencil_permutation(a, kernel) for a in self.elements)

    @lru_cache(maxsize=256)  # noqa: B019
    def filter_bank_index(self, kernel: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """``[a][b][j]``: where tap j from input element b to output element a stands in an (A, k, k) filter."""
        return super().filter_bank_index(kernel)

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


GRID_EXACT = tuple(Group(n, m) for m in (False, True) for n in (1, 2, 4))
"""Every group that the grid-exact layers accept."""
