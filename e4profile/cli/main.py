"""The program: finds the commands, turns errors into one line and an exit code.

Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache, wraps
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, NoReturn, get_type_hints

import typer

import e4profile.questions
from e4profile.cli.deferred import defer_what_torch_may_not_need
from e4profile.cli.help import Group, OneCommand
from e4profile.cli.paper import for_paper, paper_parameters
from e4profile.cli.streams import prepare_streams
from e4profile.cli.topics import help_with
from e4profile.errors import E4ProfileError, SettingError
from e4profile.questions.entry import PANELS, Command, Entry
from e4profile.questions.options import Cards

app = typer.Typer(
    name="e4profile",
    cls=Group,
    help="What a group-equivariant network costs, and the proof: closed forms, counters and published figures.",
    epilog="e4profile COMMAND --help shows a command; e4profile help networks, how to name a network.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_USAGE_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _show_version(asked: bool) -> None:
    if asked:
        import torch

        from e4profile.witnesses.environment import own_version

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        sys.stdout.write(f"e4profile {own_version()} (torch {torch.__version__}, {device})\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show versions and device.")
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def _shown_as(command: Command, *added: Parameter, call: Command) -> Command:
    """A function that takes what the command takes, and more; it gets all of it by name."""

    @wraps(command)
    def called(**given: Any) -> None:
        call(**given)

    hints = get_type_hints(command, include_extras=True)
    own = [one.replace(annotation=hints[one.name]) for one in signature(command).parameters.values()]
    called.__signature__ = Signature([*own, *added])  # type: ignore[attr-defined]
    called.__annotations__ = {**hints, **{one.name: one.annotation for one in added}}
    return called


def _with_paper(command: Command) -> Command:
    """The command with the options for a paper, where it has tables or figures."""
    return _shown_as(command, *paper_parameters(command), call=for_paper(command))


def _with_shared(command: Command) -> Command:
    """The command with these and an option for folders in which it finds cards too."""
    on_paper = _with_paper(command)

    def call(cards: list[Path] | None = None, **given: Any) -> None:
        from e4profile.networks.found_cards import looking_in

        with looking_in(cards or ()):
            on_paper(**given)

    added = Parameter("cards", Parameter.KEYWORD_ONLY, default=None, annotation=Cards)
    return _shown_as(on_paper, added, call=call)


def _unless_below(command: Command, name: str) -> Command:
    """The command, which leaves the work to one of its own commands where one is named."""

    def call(context: typer.Context, **given: Any) -> None:
        if context.invoked_subcommand is None:
            command(**given)
            return
        defaults = {one.name: one.default for one in signature(command).parameters.values()}
        if any(value != defaults[key] for key, value in given.items()):
            below = f"{name} {context.invoked_subcommand}"
            raise SettingError(f"{below} takes no option of {name}: put every option after {below}")

    added = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    return _shown_as(command, added, call=call)


def _add(name: str, entry: Entry) -> None:
    """Add a command, the commands below it, and its old names."""
    shown = {"epilog": entry.example, "short_help": entry.summary, "rich_help_panel": entry.panel}
    if entry.below:
        group = typer.Typer(cls=Group, rich_markup_mode=None)
        group.callback(invoke_without_command=True)(_unless_below(_with_shared(entry.run), name))
        for below, command in entry.below.items():
            group.command(below, cls=OneCommand)(_with_paper(command))
        app.add_typer(group, name=name, help=entry.run.__doc__, **shown)  # type: ignore[arg-type]
    else:
        app.command(name, cls=OneCommand, **shown)(_with_shared(entry.run))  # type: ignore[arg-type]
    for old, (command, today) in entry.before.items():
        asked = (_with_paper if command in entry.below.values() else _with_shared)(command)
        app.command(old, cls=OneCommand, hidden=True)(asked)
        Group.today[old] = today


app.command("help", cls=OneCommand, hidden=True)(help_with)

# a question is one folder: finding the folders means that no list needs an entry for a new one
_ROOMS = [one.name for one in iter_modules(e4profile.questions.__path__) if one.ispkg]
_ENTRIES: dict[str, Entry] = {room: import_module(f"e4profile.questions.{room}.command").ENTRY for room in _ROOMS}
for _name, _entry in sorted(_ENTRIES.items(), key=lambda item: (list(PANELS).index(item[1].panel), item[1].place)):
    _add(_name, _entry)


@cache
def _command() -> Any:
    """All commands with their options, made once for a process."""
    from typer.main import get_command

    return get_command(app)


def listed() -> dict[str, Any]:
    """The commands that the program lists, by name, those below another behind its name: ``guard diff``."""
    found: dict[str, Any] = {}
    for name, one in _command().commands.items():
        if not one.hidden:
            found |= {
                name: one,
                **{f"{name} {below}": command for below, command in getattr(one, "commands", {}).items()},
            }
    return found


_INTERRUPTED = 130


_LONG_WORD = re.compile(r"[\w.]{200,}")


def _fail(message: str, details: str = "") -> NoReturn:
    line = _LONG_WORD.sub(lambda word: f"{word[0][:40]}... of {len(word[0]):,} characters", " ".join(message.split()))
    sys.stderr.write(f"e4profile: {line}\n{details}")
    sys.exit(2)


def _leave_stdout() -> None:
    """Point stdout elsewhere, so that closing it cannot raise again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the program with the process's arguments."""
    if not prepare_streams():
        _fail("stdout is closed: there is nowhere to write the result")
    defer_what_torch_may_not_need()
    try:
        code = _command()(standalone_mode=False, prog_name="e4profile")
    except E4ProfileError as error:
        _fail(str(error), error.details)
    except _USAGE_ERROR as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "e4profile")
        _fail(f"{error.format_message()} (see {where} --help)")
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        # the reader of a pipe closed it
        _leave_stdout()
        sys.exit(1)
    except OSError as error:
        _leave_stdout()
        _fail(f"cannot read or write {error.filename or 'the output'}: {error.strerror or error}")
    # typer itself may have turned Ctrl-C into this exit code
    if code == _INTERRUPTED:
        # what was saved, and where, is the command's to say
        sys.stderr.write("\ne4profile: interrupted\n")
    sys.exit(code if isinstance(code, int) else 0)
