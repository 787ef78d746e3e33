"""How a command and the list of commands show their help."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from e4profile.questions.entry import PANELS, SUMMARY_COLUMNS


class OneCommand(TyperCommand):
    """A command."""


class Group(TyperGroup):
    """Commands under the headings of ``PANELS``; names that are not listed go on working."""

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
