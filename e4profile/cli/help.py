"""How a command and the list of commands show their help."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup

from e4profile.questions.entry import PANELS, SUMMARY_COLUMNS


class OneCommand(TyperCommand):
    """A command."""


class Group(TyperGroup):
    """Commands under the headings of ``PANELS``; an old name goes on working, and a line says how to ask today."""

    today: ClassVar[dict[str, str]] = {}
    """What is asked today, by old name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command of the first word, as ever."""
        found = super().resolve_command(ctx, args)
        if found[0] in self.today:
            sys.stderr.write(f"e4profile {found[0]}: today this is {self.today[found[0]]}\n")
        return found

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each under its heading."""
        shown = [(name, self.commands[name]) for name in self.list_commands(ctx) if not self.commands[name].hidden]
        for panel in (*PANELS, None):
            rows = [
                (f"{name:<12}", one.get_short_help_str(SUMMARY_COLUMNS))
                for name, one in shown
                if getattr(one, "rich_help_panel", None) == panel
            ]
            if rows:
                with formatter.section((panel or "commands").capitalize()):
                    formatter.write_dl(rows)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order in which they were added."""
        del ctx
        return list(self.commands)
