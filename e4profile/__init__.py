"""What a group-equivariant network costs, and the proof.

Every number has witnesses (closed form, counters, clock, allocator, published figure), and every disagreement
between them has a name.
"""

from e4profile.api import check, check_equivariance, count, register_free, register_operator, sweep
from e4profile.errors import E4ProfileError, SettingError, UnknownNameError

__all__ = [
    "E4ProfileError",
    "SettingError",
    "UnknownNameError",
    "check",
    "check_equivariance",
    "count",
    "register_free",
    "register_operator",
    "sweep",
]
