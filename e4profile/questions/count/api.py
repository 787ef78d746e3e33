"""``e4profile.count``: the command ``count`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Arguments, Inputs, Names, Networks
    from e4profile.questions.result import Result


def count(
    models: Networks,
    input: Inputs | None = None,
    *,
    set: Arguments | None = None,
    execution: str | None = None,
    counter: Names | None = None,
    with_: Names | None = None,
    batch_size: int | None = None,
    convention: str = "macs",
    depth: int | None = None,
    top: int | None = None,
    cards: Names | None = None,
    **arguments: Any,
) -> Result:
    """Parameters and operations of every layer, with every counter's view and the reasons where they differ.

    ``arguments`` are short for ``set``: ``count("e4net", width=24)``.

    Returns:
        One row per layer, with a column per counter; of several networks, or with ``with_``, one row each.
        ``totals`` are by counter, and ``gaps`` say why a counter differs from what runs. Besides there are
        ``coverage``, how much of what runs has a closed form; ``sizes``, where the closed form's sizes come from
        (``topology``, ``recorded`` from the run, or ``none``); ``unknown`` operators; ``summed_products`` that are
        not charged; and ``failures``, why a counter gave no figure. Of several networks each is by network.

    Raises:
        UnknownNameError: for an unknown network, argument, counter or convention.
        SettingError: for arguments that the network refuses, or a module without an input.

    Example:
        >>> found = e4profile.count("e4net", width=8)
        >>> found.totals["dispatch"]
        {'params': 6430, 'macs': 6110576}
        >>> found[found.fvcore < found.dispatch].layer.unique().tolist()
        ['E4Conv2d']
        >>> found.gaps["fvcore"]
        {'aggregation unseen': -1058400, 'norm operations charged': 346528, 'unexplained': 0}
    """
    given = locals()
    from e4profile.questions.count.command import count as command

    del given["arguments"]
    # what these were called before
    for name, today in (("input_shape", "input"), ("counters", "counter")):
        if name in arguments:
            given[today] = arguments.pop(name)
    return ask(command, {**given, "set": {**(set or {}), **arguments}})
