"""The library's front door: the commands as functions of the same names, and what is registered.

A function is found by name in its question's folder, ``questions/NAME/api.py``, so that no list names it. Heavy imports
happen inside the functions, so that ``import e4profile`` stays instant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e4profile.groups import FiniteGroup


def __getattr__(name: str) -> Any:
    """The function of a command."""
    from importlib import import_module

    room = f"e4profile.questions.{name}"
    try:
        return getattr(import_module(f"{room}.api"), name)
    except ModuleNotFoundError as error:
        if error.name not in (room, f"{room}.api"):
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def register_operator(name: str, formula: Callable[..., Mapping[str, int]]) -> None:
    """Say what an operator costs, in one line.

    ``e4profile.register_operator("mylib::op", lambda *args, out, **kw: {"convolution": out.numel() * 9})``

    Args:
        name: the operator's qualified name.
        formula: called with the operator's arguments and ``out=``; returns operations by kind.

    Raises:
        SettingError: for a name without a namespace. When the operator runs, UnknownNameError for a kind that no
            convention knows, SettingError for an amount that is not a whole number.
    """
    from e4profile.witnesses.counts import ledger

    ledger.register_operator(name, formula)


def register_free(name: str, family: str = "registered") -> None:
    """Say that an operator costs nothing, for example ``register_free("mylib::shuffle")``.

    Raises:
        SettingError: for a name without a namespace.
    """
    from e4profile.witnesses.counts import ledger

    ledger.register_free(name, family)


def register_group(group: FiniteGroup, *names: str) -> FiniteGroup:
    """The group, which from now on ``--group`` and ``group=`` know by its name, and by others.

    A distribution does without a call: ``c6 = "package.module:C6"`` in its entry points ``e4profile.groups``.

    Args:
        group: derived from ``e4profile.groups.FiniteGroup``.
        names: others.

    Raises:
        SettingError: for a group that is none, or a name that another group has.
    """
    from e4profile import groups

    return groups.register_group(group, *names)


def run_setting(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Time one setting here and return its record: JSON values in, JSON values out, for any program that maps settings.

    ``run_setting({"network": "e4net", "arguments": {"width": 8}, "pass": "step", "mode": "train", "device": "cuda"})``

    Args:
        setting: ``network`` (a card's name, a card file, ``package.module:build`` or ``path/to/file.py:build``, which
            runs that code), and where they are not the defaults: ``arguments``, ``inputs`` (as ``--input`` takes them),
            ``pass`` (forward, backward, step), ``mode`` (eval, train), ``device``, ``dtype``, ``batch_size``,
            ``threads``, ``loss``, ``compile``, ``graphs``, ``min_run_time_s``, ``max_run_time_s``.

    Returns:
        The record, as a line of ``times.jsonl`` holds it: the raw samples are ``counts.seconds``.

    Raises:
        SettingError: for a setting that cannot be.
        MeasurementError: when nothing could be measured.
        UserCodeError: for what a user-defined model raises.
    """
    from e4profile.records.jobs import setting as settings

    return settings.run_setting(setting)
