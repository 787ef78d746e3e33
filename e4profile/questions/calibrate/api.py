"""``e4profile.calibrate``: the command ``calibrate`` in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e4profile.questions.ask import ask

if TYPE_CHECKING:
    from e4profile.questions.ask import File
    from e4profile.questions.result import Result


def calibrate(
    *,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    max_run_time_s: float = 60.0,
    quick: bool = False,
    out: File | None = None,
) -> Result:
    """Rates of this device by kind of operator, for ``time(predicted=True)``; it takes about a minute.

    They are written to ``out``, or to the user's cache folder, where they are found again.

    Returns:
        One row per kind of operator. ``notes`` say how far predictions are off.

    Raises:
        UnknownNameError: for an unknown device or dtype.
        SettingError: for a file that cannot be written.
    """
    given = locals()
    from e4profile.questions.calibrate.command import calibrate as command

    return ask(command, given)
