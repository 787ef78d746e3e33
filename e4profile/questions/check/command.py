"""``e4profile check``: closed form = what runs, per layer, and every published cell as recorded."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from e4profile.questions.entry import Entry
from e4profile.questions.options import (
    MODEL,
    MODEL_HELP,
    Arguments,
    Execution,
    Format,
    Inputs,
    Overrides,
    Units,
    networks,
    overrides,
)
from e4profile.questions.output import Progress, check_columns, emit, note


def check(
    model: Annotated[
        list[str] | None, typer.Argument(help=f"{MODEL_HELP[:-1]}; else every card.", metavar=MODEL, callback=networks)
    ] = None,
    settings: Overrides = None,
    inputs: Inputs = None,
    arguments: Arguments = None,
    execution: Execution = None,
    random_settings: Annotated[int, typer.Option("--random", help="Also check N random settings.", metavar="N")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of the random settings.", metavar="S")] = 0,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Prove that closed form and measured counts agree, layer by layer, with tolerance 0.

    A user-defined model is checked in the layers that have a closed form. With --execution, cells that were published
    for another execution are not compared. Exit code 1 when something does not hold, naming
    the layers and both numbers, or when nothing that was named is installed.
    """
    from e4profile.errors import not_negative
    from e4profile.networks.cards import all_cards

    not_negative(**{"--random": random_settings})
    names = model or []
    given, of_code = overrides(settings), overrides(arguments, "--arg")
    results = []
    with Progress("check", (len(names) or len(all_cards())) + random_settings + 1, quiet=True) as progress:
        from e4profile.questions.check.checks import SHOWN, check_table, run_checks

        check_columns(*SHOWN)
        progress.step("PyTorch")
        for result in run_checks(names, random_settings, seed, inputs, of_code, execution, given):
            results.append(result)
            progress.step(result.model)
    problems = [problem for result in results for problem in result.problems]
    emit(check_table(results), output_format, units, facts=lambda: {"disagreements": problems, "problems": problems})
    if not any(result.installed for result in results):
        sys.exit(1)
    if problems:
        if output_format in ("json", "csv"):
            note(*problems)
        sys.exit(1)


ENTRY = Entry("count", 2, check, "Prove that closed form and measured counts agree")
