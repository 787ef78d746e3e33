"""What a group-equivariant network costs, and the proof.

Every number has witnesses (closed form, counters, clock, allocator, published figure), and every disagreement
between them has a name.
"""

# not from typing: the program's first lines must be over before anybody can press Ctrl-C
TYPE_CHECKING = False

if TYPE_CHECKING:
    from e4profile.api import (
        check,
        check_equivariance,
        count,
        register_free,
        register_group,
        register_operator,
        run_setting,
        sweep,
    )
    from e4profile.errors import E4ProfileError, SettingError, UnknownNameError

__all__ = [
    "E4ProfileError",
    "SettingError",
    "UnknownNameError",
    "check",
    "check_equivariance",
    "count",
    "register_free",
    "register_group",
    "register_operator",
    "run_setting",
    "sweep",
]

_ERRORS = ("E4ProfileError", "SettingError", "UnknownNameError")


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module("e4profile.errors" if name in _ERRORS else "e4profile.api"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
