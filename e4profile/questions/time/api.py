"""``e4profile.time``: the command ``time`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import Arguments, File, Inputs, Loss, Names, Network, Networks, Numbers
    from e4profile.questions.result import Result


def time(
    models: Networks,
    input: Inputs | None = None,
    *,
    set: Arguments | None = None,
    execution: str | None = None,
    device: str = "cpu",
    batch_size: Numbers | None = None,
    pass_: Names = "forward",
    mode: str | None = None,
    dtype: str = "float32",
    loss: Loss = "auto",
    compile: bool = False,
    cuda_graphs: bool = False,
    threads: int | None = None,
    min_run_time_s: float | None = None,
    max_run_time_s: float = 10.0,
    against: Network | None = None,
    fits: str | None = None,
    breakdown: bool = False,
    roofline: bool = False,
    reference: bool = False,
    refresh: bool = False,
    predicted: bool = False,
    calibration: File | None = None,
    out: File | None = None,
    join: File | None = None,
    mixed: bool = False,
    cards: Names | None = None,
) -> Result:
    """Seconds of a forward pass, a backward pass or a training step: median and quartiles of raw samples.

    Returns:
        One row per network, batch size and pass. With ``against`` the ratio of both networks' times and a verdict;
        with ``fits`` the largest batch within a time; with ``breakdown`` the shares of named terms; with ``roofline``
        the layers under the device's roof, which ``plot`` draws; with ``predicted`` what a calibration predicts.

    Raises:
        UnknownNameError: for an unknown network, argument, pass, dtype or device.
        SettingError: for arguments that do not go together, or a module without an input.
        MeasurementError: where nothing could be measured.

    Example:
        >>> found = e4profile.time("e4net", set={"width": 2}, max_run_time_s=0.05)
        >>> list(found.network), bool((found.median_s > 0).all())
        (['e4net width=2'], True)
    """
    given = locals()
    from e4profile.questions.time.command import time as command

    return ask(command, given)
