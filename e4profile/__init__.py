"""What a group-equivariant network costs, and the proof.

Every number has witnesses (closed form, counters, clock, allocator, published figure), and every disagreement
between them has a name.
"""

# not from typing: the program's first lines must be over before anybody can press Ctrl-C
TYPE_CHECKING = False

if TYPE_CHECKING:
    from e4profile.api import register_free, register_group, register_operator, run_setting
    from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
    from e4profile.questions.calibrate.api import calibrate
    from e4profile.questions.cards.api import cards
    from e4profile.questions.check.api import check
    from e4profile.questions.count.api import count
    from e4profile.questions.equivariance.api import check_equivariance, equivariance
    from e4profile.questions.formula.api import formula
    from e4profile.questions.guard.api import guard, guard_diff
    from e4profile.questions.match.api import match
    from e4profile.questions.memory.api import memory
    from e4profile.questions.published.api import published
    from e4profile.questions.reconcile.api import reconcile
    from e4profile.questions.result import Result
    from e4profile.questions.sweep.api import sweep
    from e4profile.questions.time.api import time
    from e4profile.questions.training.api import training

__all__ = [
    "E4ProfileError",
    "Result",
    "SettingError",
    "UnknownNameError",
    "calibrate",
    "cards",
    "check",
    "check_equivariance",
    "count",
    "equivariance",
    "formula",
    "guard",
    "guard_diff",
    "match",
    "memory",
    "published",
    "reconcile",
    "register_free",
    "register_group",
    "register_operator",
    "run_setting",
    "sweep",
    "time",
    "training",
]

_ELSEWHERE = {
    **dict.fromkeys(("E4ProfileError", "SettingError", "UnknownNameError"), "errors"),
    "Result": "questions.result",
    "check_equivariance": "questions.equivariance.api",
    "guard_diff": "questions.guard.api",
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
