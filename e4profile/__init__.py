"""What a group-equivariant network costs, and the proof.

Every number has witnesses (closed form, counters, clock, allocator, published figure), and every disagreement
between them has a name.
"""

# not from typing: the program's first lines must be over before anybody can press Ctrl-C
TYPE_CHECKING = False

if TYPE_CHECKING:
    from e4profile.api import register_free, register_group, register_operator, run_setting
    from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
    from e4profile.questions.check.api import check
    from e4profile.questions.count.api import count
    from e4profile.questions.equivariance.api import check_equivariance, equivariance
    from e4profile.questions.memory.api import memory
    from e4profile.questions.result import Result
    from e4profile.questions.sweep.api import sweep
    from e4profile.questions.time.api import time

__all__ = [
    "E4ProfileError",
    "Result",
    "SettingError",
    "UnknownNameError",
    "check",
    "check_equivariance",
    "count",
    "equivariance",
    "memory",
    "register_free",
    "register_group",
    "register_operator",
    "run_setting",
    "sweep",
    "time",
]

_ELSEWHERE = {
    **dict.fromkeys(("E4ProfileError", "SettingError", "UnknownNameError"), "errors"),
    "Result": "questions.result",
    "check_equivariance": "questions.equivariance.api",
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        found: object = getattr(import_module(f"e4profile.{_ELSEWHERE.get(name, 'api')}"), name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
