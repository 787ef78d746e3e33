"""``e4profile report``: tables, figures and the page, made from the cards and the committed records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from e4profile.errors import SettingError
from e4profile.questions import job_options, options
from e4profile.questions.entry import Entry, OldName
from e4profile.questions.output import Progress, note
from e4profile.questions.report.plot import plot


def report(
    out: Annotated[Path, typer.Option("--out", help="Write the report here.", metavar="DIR")] = Path("reports"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 with a diff if it is stale.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="First time the networks of the tables; it resumes.")
    ] = False,
    device: options.Device = "cpu",
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Of --measure, images per pass.", metavar="N", min=1)
    ] = 8,
    max_run_time_s: Annotated[
        float, options.duration("--max-run-time-s", "Of --measure, sample a pass at most this long.")
    ] = 2.0,
    jobs: job_options.How = None,
    partition: job_options.Partition = None,
    gpus: job_options.Gpus = None,
    array_parallelism: job_options.ArrayParallelism = None,
    timeout_min: job_options.TimeoutMin = None,
    job_minutes: job_options.JobMinutes = 5.0,
) -> None:
    """Regenerate every published table (Markdown, CSV, LaTeX), every figure and the page index.html.

    Times come from records below the folder (benchmarks/, gpu/, measured/); only --measure takes any, forward passes
    and training steps of the tables' networks.
    """
    asked_jobs = job_options.jobs_asked(
        jobs, partition, gpus, array_parallelism, timeout_min, job_minutes, time=measure
    )
    failed: list[str] = []
    if measure:
        if check:
            raise SettingError("--check writes nothing: omit --measure")
        from e4profile.questions.report.files import check_folder
        from e4profile.questions.report.timed import table_networks, time_tables

        check_folder(out, to_write=True)
        failed = time_tables(table_networks(), out, device, batch_size, max_run_time_s, asked_jobs)
        note(*failed)
    progress = Progress("report", 1, quiet=True)
    with progress:
        from e4profile.questions.report.content import steps
        from e4profile.questions.report.files import check_folder, check_report, write_report

        check_folder(out, to_write=not check)
        progress.total += len(steps())
        progress.step("PyTorch")
        if not check:
            written = write_report(out, progress.step)
        else:
            stale = check_report(out, progress.step)
    if not check:
        note(f"wrote {len(written)} files to {out}")
        job_options.tell_failures(failed)
        return
    for text in stale.notes:
        note(text)
    if stale.differences:
        count = len(stale.differences)
        # which files first, then what changed in them
        pairs = list(zip(stale.names, stale.differences, strict=True))
        sys.stdout.write("".join(f"{name}: stale\n" if "\n" in text else f"{text}\n" for name, text in pairs))
        sys.stdout.write("".join(f"\n{text}\n" for _, text in pairs if "\n" in text))
        files = "1 file is" if count == 1 else f"{count} files are"
        note(f"{out}: {files} stale; run: e4profile report")
        sys.exit(1)
    note(f"{out} is current")


ENTRY = Entry(
    "keep",
    1,
    report,
    "Regenerate every published table, every figure, the page",
    before={"plot": OldName(plot, "the --plot of the command whose numbers it draws")},
)
