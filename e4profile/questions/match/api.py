"""``e4profile.match``: the command ``match`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Arguments, File, Inputs, Names, Network, Values
    from e4profile.questions.result import Result


def match(
    model: Network,
    to: Network | int | None = None,
    *,
    params: str | int | None = None,
    macs: str | int | None = None,
    by: str | None = None,
    vary: Values = "width",
    set: Arguments | None = None,
    input: Inputs | None = None,
    to_arg: Arguments | None = None,
    at_most: bool = False,
    convention: str = "macs",
    batch_size: int | None = None,
    device: str = "cpu",
    calibration: File | None = None,
    max_run_time_s: float = 2.0,
    cards: Names | None = None,
) -> Result:
    """The width, or another argument, whose cost is nearest to another network's or to a number.

    Returns:
        Three rows: the next cheaper setting, the nearest and the next costlier. ``setting`` holds the arguments of
        the nearest, ``target`` what was to be come near to.

    Raises:
        UnknownNameError: for an unknown network, argument or quantity.
        SettingError: for no target or several, or an argument that cannot be varied.

    Example:
        >>> found = e4profile.match("e4net", to="p4-cnn")
        >>> found.setting, found.target
        ({'width': 36}, 77539)
    """
    given = locals()
    from e4profile.questions.match.command import match as command

    return ask(command, given)
