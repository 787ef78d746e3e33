"""``e4profile help``: what several commands share, said once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

NETWORKS = """\
A network is named in the same way wherever a command takes one:

  e4net                        a card, by name: e4profile cards lists them
  path/to/card.toml            a card, by its file; --cards DIR finds a folder
  path/to/net.py:build         code of yours: an nn.Module, its class, or a
  package.module:build         callable that returns one

Naming a file or a package of yours imports it, which runs its code. What a
card names as its builder runs when its network is built.

Arguments. --set width=24,act=gelu gives arguments to every network that is
named. "e4net(width=8)" and "net.py:Net(width=8, act=gelu)" give arguments to
one network, and "Ours=net.py:Net(width=8)" names its row too. Values are
numbers, True, False, None, lists (1,1,1 behind --set, else [1, 1, 1]) and
text.

Inputs. A card knows its input. Code of yours gets --input, with the batch:

  --input 2x3x32x32            a positional tensor of float32
  --input mask=1x1x32x32:bool  by name, of another type
  --input steps:=4             a plain value

--batch-size sets the leading size of every input tensor.

--execution says how group convolutions run: bank (filter banks, as
published), irreps (the same function with fewer MACs) or auto (by sizes).
Without it the network decides.

Commas divide lists: networks (which may also follow one another), inputs,
arguments (a comma before KEY= begins the next), the folders of --cards. An
option of a list may be repeated, too.
"""

_COSTS = """\
Costs that sweep can limit (--max, --min), sort by (--sort) and set against
one another (--front):

{costs}

Without --time, time is predicted. An error (--front error,macs, --max
error=5, --sort error) is that of networks as published, beside one cost:
macs, params, memory or time. --table NAME takes every card of a table; where
it prints several errors, name one in place of error: --table 4 --front
cifar10,macs. --error NAME=PERCENT is an error as you know it.

Units: counts as 25k, 1.2M or 3G (powers of 1000); sizes as 50MB (1000**2) or
2GiB (1024**3); times as 30ms, 0.5s or 2min. A size or a time needs its unit,
unless the option's name says it (--max-run-time-s 2).
"""


def _costs() -> str:
    from e4profile.questions.sweep.quantities import meanings

    return _COSTS.format(costs="\n".join(f"  {name:<14} {meaning}" for name, meaning in meanings().items()))


_JOBS = """\
sweep --time, time and report --measure take --jobs WHERE, and time in an array
of jobs: slurm, local (processes of this machine) or print (a script for
sbatch). The same command comes back to them, and sends again what failed.
reconcile --jobs WHERE --out DIR has them count the architectures of a space.

{options}
"""


def _jobs() -> str:
    from e4profile.cli.main import listed
    from e4profile.questions.job_options import EXPLAINED

    options = [one for one in listed()["sweep"].params if one.opts[0] in EXPLAINED]
    lines = [f"  {f'{one.opts[0]} {one.metavar}':<23} {one.help}" for one in options]
    return _JOBS.format(options="\n".join(lines))


_PAPER = """\
What commands with a table or a figure take for a paper. A table in LaTeX fits
one column of a two-column article, where its least important columns give way
first.

{options}
"""


def _paper() -> str:
    from e4profile.cli.help import PAPER
    from e4profile.cli.main import listed

    params = [one for command in listed().values() for one in command.params]
    found = {one.opts[0]: one for one in params if getattr(one, "rich_help_panel", None) == PAPER}
    lines = [f"  {f'{name} {one.metavar or str()}':<23} {one.help}" for name, one in found.items()]
    return _PAPER.format(options="\n".join(lines))


TOPICS = {"networks": lambda: NETWORKS, "costs": _costs, "jobs": _jobs, "paper": _paper}
"""What ``e4profile help`` explains, by name."""


def help_with(
    context: typer.Context,
    topic: Annotated[
        list[str] | None, typer.Argument(help=f"{', '.join(TOPICS)}, or a command.", metavar="TOPIC")
    ] = None,
) -> None:
    """Explain what several commands share, or show the help of a command."""
    from e4profile.errors import one_of

    program: Any = context.find_root()
    command, above = program.command, program
    name = " ".join(topic or [])
    if name in TOPICS:
        typer.echo(TOPICS[name](), nl=False)
        return
    known = {one for one, found in command.commands.items() if not found.hidden}
    for word in topic or []:
        one_of("topic or command", word, [*TOPICS, *known] if command is program.command else list(known))
        command = command.commands[word]
        above = command.make_context(word, [], parent=above, resilient_parsing=True)
        known = set(getattr(command, "commands", ()))
    typer.echo(command.get_help(above))
