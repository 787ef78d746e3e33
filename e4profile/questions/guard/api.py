"""``e4profile.guard``: the command ``guard`` in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import File, Names
    from e4profile.questions.result import Result


def guard(
    config: File | Mapping[str, Any] | None = None,
    *,
    update: bool = False,
    history: File | None = None,
    time: bool = False,
    commit: str | None = None,
    cards: Names | None = None,
) -> Result:
    """Networks against their budgets and their committed baseline.

    ``config`` is a file, by default the nearest ``e4profile.toml`` or ``pyproject.toml``, or a dict of what such a
    file holds: relative paths start in the working directory then, and there is a baseline only where it names one.

    Returns:
        One row per check. ``verdict`` of the whole is ``everything holds``, ``deviations``, ``not everything is
        measured`` or ``no baseline``, and ``exit_code`` 0, 1, 2 or 3; the column ``verdict`` is of a check.

    Raises:
        SettingError: for a configuration or a baseline that cannot be used.

    Example:
        >>> found = e4profile.guard({"models": [{"name": "e4net", "params_max": "20k", "macs_max": 1_000_000}]})
        >>> dict(zip(found.check, found.verdict)), found.exit_code
        ({'params_max': 'pass', 'macs_max': 'deviation'}, 1)
    """
    given = locals()
    from e4profile.questions.guard.command import guard as command

    return ask(command, given)


def guard_diff(
    before: File | None = None,
    after: File | None = None,
    *,
    history: File | None = None,
    mixed: bool = False,
    all: bool = False,
) -> Result:
    """Two files of results: counts exactly, per model and layer; times as faster, slower or ambiguous.

    Returns:
        One row per count that is not equal, with ``all`` per count, and per timing. With ``history`` one row per
        count that moved and per time that stepped, and ``plot`` draws them.

    Raises:
        SettingError: for files that cannot be compared.
    """
    given = locals()
    from e4profile.questions.guard.diff import diff as command

    return ask(command, given)
