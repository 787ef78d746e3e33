"""``e4profile.reconcile``: the command ``reconcile`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Arguments, Inputs, Names, Networks, Values
    from e4profile.questions.result import Result


def reconcile(
    models: Networks,
    input: Inputs | None = None,
    *,
    params: str | int | None = None,
    flops: str | int | None = None,
    macs: str | int | None = None,
    published: bool = False,
    rows_of: str | None = None,
    table: str | None = None,
    set: Arguments | None = None,
    changes: int = 2,
    vary: Values | None = None,
    convention: Names | None = None,
    limit: int = 10,
    cards: Names | None = None,
) -> Result:
    """Architectures and counting rules that give all published figures at their printed precision, simplest first.

    A figure is given as it is printed, ``"18.8K"``: its digits say how precise it is.

    Returns:
        One row per explanation, or per nearest miss where there is none. ``matches`` is how many there are, and
        ``notes`` say how much was searched and what chance alone would find.

    Raises:
        UnknownNameError: for an unknown network, argument, card or convention.
        SettingError: for no figures, or figures beside published rows.

    Example:
        >>> found = e4profile.reconcile("e4net", params="18.8K", changes=1)
        >>> found.matches > 0, int(found.differences.min())
        (True, 2)
    """
    given = locals()
    from e4profile.questions.reconcile.command import reconcile as command

    return ask(command, given)
