"""How a command and the list of commands show their help: plain text that is there at once, a line per option.

Options stand under headings, by what they are of; of an option with several long names the first is shown, the others
are older names for the same.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup

from e4profile.questions.entry import PANELS, SUMMARY_COLUMNS

HEADINGS = ("Options", "Network", "Measurement", "Output")
PAPER = "Paper"
"""The heading of options that many commands share, which their help only names."""

_OF = {
    **dict.fromkeys(("--set", "--arg", "--input", "--execution", "--cards"), "Network"),
    **dict.fromkeys(
        ("--device", "--dtype", "--batch-size", "--threads", "--pass", "--mode", "--loss", "--compile", "--cuda-graphs",
         "--min-run-time-s", "--max-run-time-s", "--optimiser", "--calibration"), "Measurement",
    ),
    **dict.fromkeys(("--format", "--units", "--html", "--out", "--plot", "--no-plots", "--join", "--mixed"), "Output"),
}  # fmt: skip
"""The heading of an option by its name, where the option itself says none (``rich_help_panel``)."""

_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
_WHOLE_LINES = {**_WHOLE, "initial_indent": "  ", "subsequent_indent": "  "}

_NAME_COLUMNS = 25
"""The most that a name with its value takes beside the text of an option."""


def _name(option: Any) -> str:
    """``-f, --format FORMAT``: the short name, the first long one, what its value is."""
    # of a flag that is on by itself the name that turns it off
    names = option.secondary_opts if option.secondary_opts and option.default is True else option.opts
    short = [name for name in names if not name.startswith("--")]
    long = [name for name in names if name.startswith("--")]
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join([*short, *long[:1]]) + value


def _text(option: Any) -> str:
    """What an option does, and its default where that is a value."""
    default = option.default
    # a number or a word; what is empty or off is no value
    shown = isinstance(default, (str, int, float)) and not isinstance(default, bool) and default
    unit = " s" if isinstance(default, float) and option.name.endswith("_s") else ""
    return f"{option.help or ''}{f' [{default:g}{unit}]' if unit else f' [{default}]' if shown else ''}"


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _joined(options: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Names and texts; options of one text share a line, the short names before the long ones."""
    by_text: dict[str, list[Any]] = {}
    for one in options:
        by_text.setdefault(_text(one), []).append(one)
    for text, same in by_text.items():
        if len(same) == 1:
            yield _name(same[0]), text
        else:
            names = sorted((one.opts[0] for one in same), key=lambda name: name.startswith("--"))
            yield f"{', '.join(names)} {same[0].metavar}", text


def _sections(params: Sequence[Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Headings with their rows; what follows the command by itself needs none."""
    arguments = [(_argument(one).strip("[]"), one.help) for one in params if one.param_type_name == "argument"]
    yield "", [(name, text) for name, text in arguments if text]
    options = [one for one in params if one.param_type_name == "option" and not one.hidden and one.name != "help"]
    for heading in HEADINGS:
        rows = list(_joined([one for one in options if heading == _heading(one)]))
        names = [one.opts[0] for one in options if _heading(one) == PAPER]
        if heading == HEADINGS[-1] and names:
            rows.append((", ".join(names), "e4profile help paper"))
        yield f"{heading}:", rows


def _heading(option: Any) -> str:
    # Typer adds some options by click's own class, which has no heading
    found = getattr(option, "rich_help_panel", None) or next(
        (_OF[name] for name in option.opts if name in _OF), HEADINGS[0]
    )
    return str(found)


def _lines(params: Sequence[Any], width: int) -> Iterator[str]:
    """Names on the left, texts on the right, no word divided; a name that is too long has its line alone."""
    sections = [(heading, rows) for heading, rows in _sections(params) if rows]
    names = [len(name) for _, rows in sections for name, _ in rows]
    left = max((one for one in names if one <= _NAME_COLUMNS), default=0)
    for heading, rows in sections:
        yield from [heading] if heading else []
        for name, text in rows:
            lines = textwrap.wrap(text, max(width - left - 4, 20), **_WHOLE)
            if len(name) > left:
                lines = [text] if len(name) + len(text) + 4 <= width else ["", *lines]
            for place, line in enumerate(lines or [""]):
                yield f"  {'' if place else name:<{left}}  {line}".rstrip()


class OneCommand(TyperCommand):
    """A command, whose help has a line per option."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the names of what follows the command."""
        arguments = [_argument(one) for one in self.get_params(ctx) if one.param_type_name == "argument"]
        formatter.write_usage(ctx.command_path, " ".join(["[OPTIONS]", *arguments]))

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the docstring, paragraph by paragraph, no word divided."""
        del ctx
        for text in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write("\n" + textwrap.fill(" ".join(text.split()), formatter.width, **_WHOLE_LINES) + "\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options under their headings."""
        formatter.write_paragraph()
        formatter.write("".join(f"{line}\n" for line in _lines(self.get_params(ctx), formatter.width)))


class Group(TyperGroup):
    """Commands under the headings of ``PANELS``; an old name goes on working, and a line says how to ask today."""

    today: ClassVar[dict[str, str]] = {}
    """What is asked today, by old name."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the docstring, as a command does."""
        OneCommand.format_help_text(self, ctx, formatter)  # type: ignore[arg-type]

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command of the first word, as ever."""
        found = super().resolve_command(ctx, args)
        if found[0] in self.today:
            sys.stderr.write(f"e4profile {found[0]} is now {self.today[found[0]]}\n")
        return found

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under their headings, then the commands."""
        OneCommand.format_options(self, ctx, formatter)  # type: ignore[arg-type]
        self.format_commands(ctx, formatter)

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
