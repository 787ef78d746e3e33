"""Options that send work to other machines as an array of jobs, and what a command says while it waits for them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.errors import SettingError, one_of, positive
from e4profile.questions.options import duration
from e4profile.questions.output import Progress, note, on_interrupt

if TYPE_CHECKING:
    from e4profile.records.jobs.executors import Jobs
    from e4profile.records.jobs.known import Known
    from e4profile.records.jobs.setting import TimeSetting

_HOW = "As jobs: slurm, local, print (e4profile help jobs)."
How = Annotated[str | None, typer.Option("--jobs", help=_HOW, metavar="WHERE")]
HowOfTime = Annotated[str | None, typer.Option("--jobs", help=_HOW, metavar="WHERE", hidden=True)]
"""The same where the help has no line left; e4profile help jobs names the command."""
Partition = Annotated[str | None, typer.Option("--partition", help="Of Slurm.", metavar="NAME", hidden=True)]
Gpus = Annotated[
    int | None, typer.Option("--gpus", help="Of each job; with --device cuda one.", metavar="N", hidden=True)
]
ArrayParallelism = Annotated[
    int | None,
    typer.Option("--array-parallelism", help="Jobs that run at once; 256, with local 1.", metavar="N", hidden=True),
]
TimeoutMin = Annotated[
    float | None, duration("--timeout-min", "Of each job; else what its settings need.", "min", hidden=True)
]
JobMinutes = Annotated[float, duration("--job-minutes", "A job lasts at least this long; 5 min.", "min", hidden=True)]
EXPLAINED = ("--partition", "--gpus", "--array-parallelism", "--timeout-min", "--job-minutes")
"""What ``e4profile help jobs`` lists: beside everything else that a sweep can do, they would fill its help."""


def jobs_asked(
    how: str | None, partition: str | None, gpus: int | None, array_parallelism: int | None, timeout_min: float | None,
    job_minutes: float, *, time: bool,
) -> Jobs | None:  # fmt: skip
    """How work becomes jobs; None where none were asked for.

    Raises:
        UnknownNameError: for another place than those that are known.
        SettingError: for values without ``--jobs``, or that no job can have.
    """
    from e4profile.records.jobs.executors import EXECUTORS, Jobs

    minutes = None if timeout_min is None else math.ceil(timeout_min)
    counts = {"--gpus": gpus, "--array-parallelism": array_parallelism, "--timeout-min": minutes}
    given = {option: value for option, value in counts.items() if value is not None}
    if how is None:
        if given or partition is not None:
            raise SettingError(f"{', '.join([*given, *(['--partition'] if partition else [])])}: give --jobs too")
        return None
    one_of("--jobs", how, EXECUTORS)
    positive(**given)
    if not 0 <= job_minutes <= 60 * 24:
        raise SettingError(f"--job-minutes (={job_minutes:g}) must be from 0 to a day")
    if not time:
        raise SettingError("--jobs is for what is timed: add --time, to report --measure")
    return Jobs(how, partition, gpus, array_parallelism, minutes, job_minutes)


def time_by_jobs(work: Sequence[tuple[str, TimeSetting]], known: Known, jobs: Jobs) -> dict[str, str]:
    """Time or count settings in an array of jobs and wait for it; by key the reason why a setting has no record.

    With ``print`` the script is written to stdout and the program ends, where anything is left to time.
    """
    from e4profile.records.jobs.array import TimedByJobs

    running = TimedByJobs(work, known, jobs)
    with Progress("jobs", len(running.work)) as progress:
        for key in running.work:
            if key not in running.pending:
                progress.step(running.work[key].described)
        if progress.done:
            progress.say(
                f"{progress.done} of {len(running.work)} {running.what} were read back from {known.store.path}"
            )
        running.submit(progress.say)
        if running.script:
            sys.stdout.write(running.script)
            note(*running.known_failures())
            note("give the script to sbatch; when its jobs have ended, the same command shows the table")
            sys.exit(0)
        with on_interrupt(running.interrupted):
            for key in running.wait(progress.say):
                progress.step(running.work[key].described)
    note(*running.reference_notes())
    return running.failed


def tell_failures(failed: Sequence[str]) -> None:
    """Say that timings are missing; exit code 1 where any is."""
    if failed:
        note(f"{len(failed)} timing{'s' if len(failed) > 1 else ''} failed; the same command sends them again")
        sys.exit(1)
