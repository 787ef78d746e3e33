"""``e4profile.equivariance``: the command ``equivariance`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.groups import FiniteGroup
    from e4profile.questions.ask import Arguments, Inputs, Names, Network, Values
    from e4profile.questions.result import Result


def equivariance(
    model: Network,
    input: Inputs | None = None,
    *,
    set: Arguments | None = None,
    group: FiniteGroup | str | None = None,
    dtype: str = "float64",
    train_steps: int = 1,
    field_in: Values | None = None,
    field_out: Values | None = None,
    cards: Names | None = None,
    **arguments: Any,
) -> Result:
    """Relative equivariance errors at initialisation, with randomised parameters, and after some training steps.

    ``group`` is by default the network's own, as far as it is exact on the grid. A field is ``trivial`` (images) or
    ``regular``, or it has its axes written, such as ``"B h w (c A)"``; a dict says it of inputs or outputs by name.
    ``arguments`` are short for ``set``.

    Returns:
        One row per output or layer and group element. ``verdict`` is ``equivariant``, ``equivariant at initialisation
        only``, ``equivariant, but not with random parameters``, ``equivariant until trained``, ``not equivariant``,
        or ``not comparable: `` with the reason and the remedy. Besides there are ``broken``, the innermost layers that
        break, and ``findings``, sentences.

    Raises:
        UnknownNameError: for an unknown network, argument or group.
        SettingError: for a network without a group of its own, or a group that is not exact on the grid.

    Example:
        >>> found = e4profile.equivariance("e4net", width=4, slices=1, squeeze_affine="field")
        >>> found.verdict, found.broken
        ('equivariant', [])
    """
    given = locals()
    from e4profile.questions.equivariance.command import equivariance as command

    del given["arguments"]
    if "input_shape" in arguments:  # what it was called before
        given["input"] = arguments.pop("input_shape")
    return ask(command, {**given, "set": {**(set or {}), **arguments}})


check_equivariance = equivariance
"""Its name before."""
