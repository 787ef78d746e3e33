"""How a question appears on the command line: under which heading, with which summary, and what it was called before.

A question's ``command.py`` ends with its ``ENTRY``; the program finds the folders, so no list names the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Command = Callable[..., Any]

PANELS = ("count", "measure", "choose", "published", "keep")
"""The headings under which the program lists its commands, in this order."""

SUMMARY_COLUMNS = 60
"""What the list of commands has room for beside a name, at 80 columns."""


class OldName(NamedTuple):
    """A name that a command had: what runs under it, and how to ask today."""

    run: Command
    today: str


@dataclass(frozen=True)
class Entry:
    """A command in the list of the program.

    Attributes:
        panel: one of ``PANELS``.
        place: its place in the panel, ties by name.
        run: the function, whose parameters are its options; its name is the command's.
        summary: what the list says of it, in at most ``SUMMARY_COLUMNS`` characters.
        example: what follows the options in its help.
        below: commands of its own, by name; without one of them ``run`` runs.
        before: old names, which go on working without being listed.
    """

    panel: str
    place: int
    run: Command
    summary: str
    example: str | None = None
    below: Mapping[str, Command] = field(default_factory=dict)
    before: Mapping[str, OldName] = field(default_factory=dict)
