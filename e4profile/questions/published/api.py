"""``e4profile.published``: the command ``published`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Names
    from e4profile.questions.result import Result


def published(
    names: Names | None = None, *, as_printed: bool = False, execution: str | None = None, cards: Names | None = None
) -> Result:
    """Published tables, rebuilt: published value, built value, convention and verdict for every cell.

    Returns:
        One row per cell, what a printed row carries along included; of several tables, or ``"all"``, with the table's
        name. ``tally`` counts the verdicts. ``to_latex`` has the tables as they are printed.
        With ``as_printed`` one row per printed row, in the paper's own layout and digits.

    Raises:
        UnknownNameError: for an unknown table or execution.

    Example:
        >>> found = e4profile.published("3")
        >>> sorted({*found[found.kind == "cost"].verdict})
        ['reproduced', 'reproduced (truncated)']
    """
    given = locals()
    from e4profile.questions.published.command import published as command

    return ask(command, given)
