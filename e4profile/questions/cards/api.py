"""``e4profile.cards``: the command ``cards`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Names
    from e4profile.questions.result import Result


def cards(
    name: str | None = None, *, table: str | None = None, group: str | None = None, cards: Names | None = None
) -> Result:
    """The cards of published networks, or one with its arguments and published figures.

    Returns:
        One row per card; of one card a row per fact.

    Raises:
        UnknownNameError: for an unknown card, table or group.
        SettingError: for a name beside ``table`` or ``group``.

    Example:
        >>> {"p4-r18", "p4m-r18"} < {*e4profile.cards(table="4").model}
        True
    """
    given = locals()
    from e4profile.questions.cards.command import cards as command

    return ask(command, given)
