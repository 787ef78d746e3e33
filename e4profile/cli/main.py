"""The program: finds the commands, turns errors into one line and an exit code.

Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, NoReturn, get_type_hints

import typer

import e4profile.questions
from e4profile.cli.deferred import defer_what_torch_may_not_need
from e4profile.errors import E4ProfileError
from e4profile.questions.options import Cards

app = typer.Typer(
    name="e4profile",
    help="What a group-equivariant network costs, and the proof: closed forms, counters and published figures.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_USAGE_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        sys.stdout.write(f"e4profile {version('e4profile')} (torch {torch.__version__}, {device})\n")
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


_NO_CARDS = ("compare",)
"""Commands that read no card."""


def _with_cards(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for folders in which it finds cards too."""

    @wraps(command)
    def called(cards: list[Path] | None = None, **given: Any) -> None:
        from e4profile.networks.found_cards import looking_in

        with looking_in(cards or ()):
            command(**given)

    hints = get_type_hints(command, include_extras=True)
    own = [one.replace(annotation=hints[one.name]) for one in signature(command).parameters.values()]
    added = Parameter("cards", Parameter.KEYWORD_ONLY, default=None, annotation=Cards)
    called.__signature__ = Signature([*own, added])  # type: ignore[attr-defined]
    called.__annotations__ = {**hints, "cards": Cards}
    return called


# a question is one folder: finding the folders means that no list needs an entry for a new one
for _room in iter_modules(e4profile.questions.__path__, "e4profile.questions."):
    if _room.ispkg:
        _command = import_module(f"{_room.name}.command")
        _name = _room.name.rpartition(".")[2]
        _asked = getattr(_command, _name)
        app.command(_name, epilog=getattr(_command, "EXAMPLE", None))(
            _asked if _name in _NO_CARDS else _with_cards(_asked)
        )

SUMMARY_COLUMNS = 60
"""What the list of commands has room for beside a name, at 80 columns."""

_SUMMARIES = {
    "budget": "MACs, steps and memory of whole trainings",
    "calibrate": "Measure the rates that times are predicted from",
    "compare": "Compare two files of results, and name what differs",
    "guard": "Check the networks of [tool.e4profile] against their budgets",
    "match": "Find the width whose cost is nearest to another network's",
    "memory": "Predict the bytes of a training step, part by part",
    "pareto": "Set test errors against measured cost and name the front",
    "reconcile": "Search for what gives all published figures as printed",
    "report": "Regenerate every published table, every figure, the page",
    "roofline": "Arithmetic intensity, bound and time of every layer",
    "sweep": "Sweep E4 over r, s, k, width, group; the G-CNN as baseline",
    "table": "Rebuild a published table, with a verdict for every cell",
    "time": "Time forward, backward or the whole training step",
}
"""The summary of a command whose docstring's first clause does not say it."""


def short_summary(name: str, docstring: str) -> str:
    """What the list of commands says of one: the first clause of its docstring."""
    return _SUMMARIES.get(name) or re.split(r"[:;,]\s|\.(?:\s|$)", docstring, maxsplit=1)[0].strip()


for _info in app.registered_commands:
    _info.short_help = short_summary(_info.name or "", (_info.callback.__doc__ or "") if _info.callback else "")


_INTERRUPTED = 130


_LONG_WORD = re.compile(r"[\w.]{200,}")


def _fail(message: str, details: str = "") -> NoReturn:
    line = _LONG_WORD.sub(lambda word: f"{word[0][:40]}... of {len(word[0]):,} characters", " ".join(message.split()))
    sys.stderr.write(f"e4profile: {line}\n{details}")
    sys.exit(2)


def _check_streams() -> None:
    """Refuse a closed stdout, do without a closed stderr, and show what an encoding lacks as escapes."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it stands in for the stream
    if sys.stdout is None:
        _fail("stdout is closed: there is nowhere to write the result")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _leave_stdout() -> None:
    """Point stdout elsewhere, so that closing it cannot raise again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the program with the process's arguments."""
    _check_streams()
    defer_what_torch_may_not_need()
    try:
        code = app(standalone_mode=False, prog_name="e4profile")
    except E4ProfileError as error:
        _fail(str(error), error.details)
    except _USAGE_ERROR as error:
        _fail(f"{error.format_message()} (see e4profile --help)")
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
