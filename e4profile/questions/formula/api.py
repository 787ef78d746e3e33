"""``e4profile.formula``: the command ``formula`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.layers import EquivariantLayer
    from e4profile.questions.ask import Arguments, Inputs, Names, Network
    from e4profile.questions.result import Result


def formula(
    layer: Network | type[EquivariantLayer] | None = None,
    input: Inputs | None = None,
    *,
    set: Arguments | None = None,
    of: Network | None = None,
    memory: bool = False,
    peak: bool = False,
    execution: str = "bank",
    cards: Names | None = None,
) -> Result:
    """The named cost terms of a layer: parameters, MACs, what backward keeps.

    ``layer`` is a name, a class or a layer in hand, or a network, all of whose layers with a closed form are shown with
    their values; without one the layers are listed. ``memory`` puts what backward keeps into LaTeX too, whose equations
    are those of ``--format latex``; the rows always have it.

    Returns:
        One row per term; with ``set`` or ``of`` a ``value`` too, exactly. ``printed`` says whether the paper's own
        formula has the term. With ``peak`` one row per storage of a training step.

    Raises:
        UnknownNameError: for an unknown layer, symbol, network or execution.
        SettingError: for a value that a symbol cannot have, or symbols that are left without one, or a network
            without any closed form.

    Example:
        >>> found = e4profile.formula("e4", of="e4net")
        >>> found[found.printed & (found.table == "params")][["term", "value"]].values.tolist()
        [['encoder', 1024], ['squeeze', 1024], ['generator', 800]]
        >>> of_all = e4profile.formula("e4net")
        >>> int(of_all[of_all.table == "macs"].value.sum())
        17640160
        >>> "align*" in e4profile.formula("e4").to_latex()
        True
    """
    given = locals()
    from e4profile.questions.formula.command import formula as command

    return ask(command, given)
