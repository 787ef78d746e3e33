"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from e4profile.errors import SettingError

Format = Annotated[
    str, typer.Option("--format", "-f", help="table, json, csv, markdown or latex.", metavar="FORMAT")
]
Units = Annotated[
    str,
    typer.Option("--units", help="auto, exact (every digit) or si (4 digits and a prefix).", metavar="UNITS"),
]
Convention = Annotated[
    str,
    typer.Option(
        "--convention", help="What counts as what: macs, flops, printed, fvcore, ...", metavar="NAME"
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override an argument of the card, e.g. --set width=24. Repeatable.",
        metavar="KEY=VALUE",
    ),
]


def whole_numbers(option: str, text: str | None) -> list[int] | None:
    """``1,2,4`` as numbers; None stays None.

    Raises:
        SettingError: naming option and value.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SettingError(f"{option}: {text!r} is not a list of whole numbers such as 1,2,4") from None


def names(values: list[str] | None) -> list[str]:
    """Repeated or comma-separated names, in order."""
    return [name for value in values or [] for name in value.split(",") if name]


def overrides(pairs: list[str] | None) -> dict[str, Any]:
    """``key=value`` pairs; a value is read as TOML and otherwise taken as text.

    Raises:
        SettingError: for a pair without ``=``.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise SettingError(f"--set: {pair!r} must be KEY=VALUE, for example width=24")
        try:
            found[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = text
    return found


def check_format(output_format: str) -> str:
    """The format itself, refused before any work is done when it does not exist."""
    from e4profile.errors import UnknownNameError
    from e4profile.render.tables import FORMATS

    if output_format not in FORMATS:
        raise UnknownNameError("format", output_format, FORMATS)
    return output_format
