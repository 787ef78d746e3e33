"""``e4profile report``: tables, figures and the page, made from the cards and the committed records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from e4profile.questions.entry import Entry, OldName
from e4profile.questions.output import Progress, note
from e4profile.questions.report.plot import plot


def report(
    out: Annotated[Path, typer.Option("--out", help="The folder of reports.", metavar="DIR")] = Path("reports"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 with a diff if it is stale.")] = False,
) -> None:
    """Regenerate every published table (Markdown, CSV, LaTeX), every figure and the page index.html.

    Times come from records below the folder (benchmarks/, gpu/); nothing is measured anew.
    """
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
