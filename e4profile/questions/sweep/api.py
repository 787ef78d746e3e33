"""``e4profile.sweep``: the command ``sweep`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Arguments, File, Inputs, Names, Networks, Numbers, Values
    from e4profile.questions.result import Result

_OF_THE_GRID = frozenset({"networks", "group", "reduction", "slices", "kernel", "width", "counter", "execution", "out",
                          "time", "batch_size", "device", "max_run_time_s", "cards"})  # fmt: skip
"""What the paper's grid takes; anything else is of networks and the arguments that vary."""


def sweep(
    networks: Networks | None = None,
    *,
    vary: Values | None = None,
    max: Values | None = None,
    min: Values | None = None,
    front: Names | None = None,
    error: Values | None = None,
    table: str | None = None,
    sort: str | None = None,
    top: int | None = None,
    set: Arguments | None = None,
    input: Inputs | None = None,
    execution: str | None = None,
    counter: Names | None = None,
    convention: str = "macs",
    memory: bool = False,
    group: Names | None = None,
    reduction: Numbers | None = None,
    slices: Numbers | None = None,
    kernel: Numbers | None = None,
    width: Numbers | None = None,
    out: File | None = None,
    time: bool = False,
    calibration: File | None = None,
    verify: int = 0,
    batch_size: int | None = None,
    device: str = "cpu",
    max_run_time_s: float = 2.0,
    cards: Names | None = None,
    models: Names | None = None,
) -> Result:
    """Costs of every combination of arguments, of those that keep to limits, or of the front among them.

    With nothing but ``group``, ``reduction``, ``slices``, ``kernel`` and ``width`` it is the paper's grid of E4
    settings, with the G-CNN of the same topology as baseline: of ``e4net``, or of the cards that are named
    (``models`` is their name from before). With ``out``, a folder, the same call resumes; without it nothing is
    stored.

    Returns:
        One row per setting. ``skipped`` lists the combinations that cannot exist with their reasons.

    Raises:
        UnknownNameError: for an unknown network, argument, group or quantity.
        SettingError: for values that no network takes.

    Example:
        >>> found = e4profile.sweep("e4net", vary={"width": [8, 16, 24]}, max={"params": "20k"})
        >>> list(found.width)
        ['8', '16']
        >>> grid = e4profile.sweep(reduction=[1, 2], slices=1, kernel=3, width=4)
        >>> list(grid.model), bool(grid.agrees.all())
        (['e4net-gcnn', 'e4net', 'e4net'], True)
    """
    given = locals()
    from tempfile import TemporaryDirectory

    from e4profile.questions.sweep.command import sweep as command

    given["networks"] = given.pop("models") or networks
    unasked = {"verify": 0, "convention": "macs"}
    if any(
        given[name] is not None and given[name] is not False and given[name] != unasked.get(name)
        for name in given.keys() - _OF_THE_GRID
    ):
        return ask(command, given)
    of_grid = {name: given[name] for name in _OF_THE_GRID - {"networks"}}
    with TemporaryDirectory() as folder:
        return ask(command, {**of_grid, "model": given["networks"], "out": out or folder, "plots": False})
