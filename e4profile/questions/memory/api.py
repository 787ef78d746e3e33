"""``e4profile.memory``: the command ``memory`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Arguments, Inputs, Loss, Names, Networks, Numbers
    from e4profile.questions.result import Result


def memory(
    models: Networks,
    input: Inputs | None = None,
    *,
    set: Arguments | None = None,
    execution: str | None = None,
    batch_size: Numbers | None = None,
    pass_: str = "step",
    dtype: str = "float32",
    optimiser: str = "sgd",
    loss: Loss = "auto",
    fits: str | None = None,
    device: str = "cpu",
    layers: bool = False,
    peaks: bool = False,
    cards: Names | None = None,
) -> Result:
    """Bytes of a training step, or of a forward pass, predicted without needing that memory.

    Returns:
        One row per network and batch size. With ``fits`` the largest batch in that much memory; with ``layers`` or
        ``peaks`` a row per layer and term. ``agrees`` says whether closed form and measured saved bytes do.

    Raises:
        UnknownNameError: for an unknown network, argument, dtype, optimiser or device.
        SettingError: for arguments that do not go together, or a module without an input.

    Example:
        >>> found = e4profile.memory("z2cnn", batch_size=[2, 32])
        >>> bool((found.saved_formula_bytes == found.saved_measured_bytes).all())
        True
        >>> e4profile.memory("z2cnn", pass_="forward", fits="50MB").batch_size.item() > 100
        True
    """
    given = locals()
    from e4profile.questions.memory.command import memory as command

    return ask(command, given)
