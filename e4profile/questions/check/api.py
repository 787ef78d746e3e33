"""``e4profile.check``: the command ``check`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Arguments, Inputs, Names, Networks
    from e4profile.questions.result import Result


def check(
    model: Networks | None = None,
    input: Inputs | None = None,
    *,
    set: Arguments | None = None,
    execution: str | None = None,
    random: int = 0,
    seed: int = 0,
    cards: Names | None = None,
    **arguments: Any,
) -> Result:
    """Whether closed form and measured counts agree, layer by layer, with tolerance 0; every card by default.

    ``arguments`` are short for ``set``.

    Returns:
        One row per network. ``disagreements`` lists every one, ``notes`` also what was not covered.

    Raises:
        UnknownNameError: for an unknown network or argument.
        SettingError: for arguments that the network refuses, or a module without an input.

    Example:
        >>> found = e4profile.check("e4net", random=2)
        >>> bool(found.agrees.all()), found.disagreements
        (True, [])
    """
    given = locals()
    from e4profile.questions.check.command import check as command

    del given["arguments"]
    # what these were called before
    for name, today in (("names", "model"), ("inputs", "input")):
        if name in arguments:
            given[today] = arguments.pop(name)
    return ask(command, {**given, "set": {**(set or {}), **arguments}})
