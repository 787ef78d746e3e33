"""How a name becomes a group: the literature's, ``C<n>`` and ``D<n>``, and those that somebody registered."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups.point import GRID_EXACT, Group
from e4profile.groups.protocol import FiniteGroup, checked

GroupLike: TypeAlias = "FiniteGroup | str"

ENTRY_POINTS = "e4profile.groups"
"""The group of a distribution's entry points; each names a group: ``c6 = "package.module:C6"``."""

_ALIASES = {"z2": "C1", "p1": "C1", "p2": "C2", "p4": "C4", "p8": "C8", "pm": "D1", "p2mm": "D2", "p4m": "D4"}
_registered: dict[str, FiniteGroup] = {}


def register_group(group: FiniteGroup, *names: str) -> FiniteGroup:
    """The group, which from now on is known by its name, and by others; in any case of letters.

    A distribution does without a call: it lists the group in an entry point of ``e4profile.groups``.

    Args:
        group: derived from ``FiniteGroup``.
        names: others.

    Raises:
        SettingError: for a group that is none, or a name that another group has.
    """
    checked(group)
    for name in (group.name, *names):
        key = name.lower()
        known = as_group(name) if _is_ours(key) else _registered.get(key)
        if known is not None and known != group and _written(known) != _written(group):
            raise SettingError(f"group name {name!r} already means {known!r}: choose another name")
        if not _is_ours(key):
            _registered[key] = group
    return group


def _is_ours(key: str) -> bool:
    """Whether it is the name of a group that is exact on the square grid, which cannot be taken."""
    return key in _ALIASES or key.upper() in {one.name for one in GRID_EXACT}


def _written(group: FiniteGroup) -> tuple[object, ...]:
    """Equal for what a file that is read twice registers twice."""
    return type(group).__qualname__, group.name, group._table


def as_group(group: GroupLike) -> FiniteGroup:
    """A group object from an object or a name: ``p4``, ``p4m``, ``z2``, ``C8``, ``D2``, or a registered one.

    Raises:
        UnknownNameError: for a name that is neither an alias nor ``C<n>`` or ``D<n>``, nor registered.
        SettingError: for an object that is no group, naming what it lacks.
    """
    if not isinstance(group, str):
        return checked(group)
    registered = _registered.get(group.lower()) or _of_distributions(group.lower())
    if registered is not None:
        return registered
    name = _ALIASES.get(group.lower(), group)
    match = re.fullmatch(r"([CcDd])([0-9]{1,4})", name)
    if not match or int(match[2]) == 0:
        known = [*_ALIASES, *(g.name for g in GRID_EXACT), "C8", "D8", *(one.name for one in _registered.values())]
        raise UnknownNameError("group", group, known)
    return Group(int(match[2]), match[1] in "Dd")


def alias_of(name: str) -> str:
    """The name that tables show of a group; as it is written where no group has it, as when it was registered once."""
    try:
        return as_group(name).alias
    except UnknownNameError:
        return name


def square_group(group: GroupLike, user: str) -> Group:
    """C_n or D_n, for a layer that takes no other.

    Raises:
        SettingError: for another group.
    """
    found = as_group(group)
    if type(found) is not Group:
        raise SettingError(
            f"{user} takes C_n and D_n of the square grid, not {found.name}; LiftingConv2d, GroupConv2d, "
            "PointwiseConv2d, norms and pools take any group"
        )
    return found


@lru_cache(maxsize=256)
def _of_distributions(key: str) -> FiniteGroup | None:
    """The group that an installed distribution gives this name to; only then its code is imported."""
    if _is_ours(key):
        return None
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        if point.name.lower() == key:
            try:
                found = point.load()
            except Exception as error:
                raise SettingError(f"group {point.name!r}: entry point {point.value!r}: {error}") from error
            return checked(found)
    return None
