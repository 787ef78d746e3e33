"""Groups: what any of them answers, C_n and D_n on the square grid, and how a name becomes one.

* ``protocol``: what a layer and the equivariance witness ask of a group; what a user-defined one is derived from
* ``point``: the rotations and mirrors of the square grid
* ``irreps``: real irreps, of any table of products
* ``names``: names, ours and registered ones
"""

from e4profile.groups.irreps import Irrep
from e4profile.groups.names import GroupLike, alias_of, as_group, register_group, square_group
from e4profile.groups.point import GRID_EXACT, Group
from e4profile.groups.protocol import FiniteGroup, check_kernel

__all__ = [
    "GRID_EXACT",
    "FiniteGroup",
    "Group",
    "GroupLike",
    "Irrep",
    "alias_of",
    "as_group",
    "check_kernel",
    "register_group",
    "square_group",
]
