"""``e4profile guard``: budgets and the exact committed baseline of a project's networks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from e4profile.questions.entry import Entry, OldName
from e4profile.questions.guard.diff import diff
from e4profile.questions.options import Format, Units
from e4profile.questions.output import Progress, emit, note


def guard(
    config: Annotated[
        Path | None,
        typer.Option("--config", help="pyproject.toml or e4profile.toml; else the nearest.", metavar="FILE"),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Accept the counts as they are now.")] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML that agrees with the exit code.", metavar="FILE")
    ] = None,
    annotations: Annotated[
        str | None, typer.Option("--annotations", help="github: one annotation per network.", metavar="WHERE")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write a pull-request comment: before, after, why.", metavar="FILE"),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", help="Append the counts with the commit; guard diff reads them.", metavar="FILE"),
    ] = None,
    time: Annotated[bool, typer.Option("--time", help="With --history: also time forward passes.")] = False,
    commit: Annotated[
        str | None, typer.Option("--commit", help="With --history: a name instead of git's commit.", metavar="NAME")
    ] = None,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Check the networks listed in [tool.e4profile] against their budgets and their committed baseline.

    Budgets (params_max, macs_max, saved_bytes_max, peak_bytes_max, forward_peak_bytes_max, equivariance_error_max,
    closed_form) are upper limits: an improvement passes. Baseline counts are exact: a count that moves either way is
    a deviation until --update accepts it. --history appends what was counted, whatever holds; e4profile guard diff
    --history says at which commit a count moved and where a time stepped. Files that the configuration names are run.

    Exit code 0 when all holds, 1 for a deviation, 2 for bad input or a network that cannot be measured (the others
    are checked all the same), 3 when only the baseline is missing; of several the first.
    """
    from e4profile.errors import one_of
    from e4profile.questions.guard.config import find_config, load_config
    from e4profile.questions.guard.report import (
        PLATFORMS,
        STATES,
        github_annotations,
        guard_table,
        junit_error,
        junit_text,
        markdown_comment,
        write_report,
    )
    from e4profile.questions.guard.run import Guard, update_command

    if annotations is not None:
        one_of("platform", annotations, PLATFORMS)
    _check_together(markdown, history, time=time, commit=commit)
    kept = None
    try:
        running = Guard(load_config(config or find_config(Path.cwd())), update, update_command(config))
        if history is not None:
            from e4profile.questions.guard.history import add_to_history, begin_history

            kept = begin_history(history, running.config.folder, commit)
        with Progress("guard", len(running.config.models)) as progress:
            for one in running.run():
                progress.step(one.name)
        result = running.result
        if kept is not None:
            note(*add_to_history(*kept, running, time=time))
        if markdown is not None:
            write_report(markdown, markdown_comment(result))
    except Exception as error:
        # whatever ends the run, an older report must not be taken for this one
        if junit is not None:
            write_report(junit, junit_error(f"{type(error).__name__}: {error}"))
        raise
    if junit is not None:
        write_report(junit, junit_text(result))
    for_programs = output_format in ("json", "csv")
    emit(
        lambda output_format, _: guard_table(result, for_programs=output_format in ("json", "csv")),
        output_format,
        units,
        facts=lambda: {"verdict": STATES[result.exit_code]},
    )
    # the platform reads both streams; data for a program must stay alone on stdout
    stream = sys.stdout if output_format == "table" else sys.stderr
    stream.writelines(f"{line}\n" for line in (github_annotations(result) if annotations == "github" else ()))
    if for_programs:
        note(*result.notes)
    for model in result.models:
        for check in (one for one in model.checks if one.status == "not measured"):
            said = f"e4profile: model {model.name!r}: {' '.join(check.message.split())}"
            note(f"{said}\n{model.details}".rstrip("\n"))
    if result.exit_code:
        sys.exit(result.exit_code)


def _check_together(markdown: Path | None, history: Path | None, *, time: bool, commit: str | None) -> None:
    from e4profile.errors import SettingError

    if markdown is not None and not markdown.parent.is_dir():
        raise SettingError(f"--markdown {markdown}: the folder {markdown.parent} does not exist")
    if history is None and (time or commit):
        raise SettingError("--time and --commit are for a history: give --history FILE")


EXAMPLE = """\b
[[tool.e4profile.models]]  # in pyproject.toml; [[models]] in e4profile.toml
name = "small"             # or a card's name, without build and input
build = "net.py:build"
input = "1x3x32x32"
args = { width = 16 }
params_max = 25_000        # also macs_max, peak_bytes_max = "50MB", ...
"""
"""A configuration, line by line as it is written (the mark keeps the lines apart)."""


ENTRY = Entry(
    "keep",
    2,
    guard,
    "Check the networks of [tool.e4profile] against their budgets",
    example=EXAMPLE,
    below={"diff": diff},
    before={"compare": OldName(diff, "e4profile guard diff")},
)
