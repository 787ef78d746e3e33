"""Everything that the reports folder holds, written into an empty folder: tables, figures, versions, the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from e4profile.networks.published import tally
from e4profile.questions.figures import Figure, draw_all, figures
from e4profile.questions.published.rows import table_names
from e4profile.questions.report.closed_forms import closed_forms
from e4profile.questions.report.measured import measured_tables
from e4profile.questions.report.published import Published, build_published, verdict_table
from e4profile.questions.sweep.plans import make_plan
from e4profile.questions.sweep.sweeps import Sweep
from e4profile.questions.sweep.table import sweep_table
from e4profile.show.html.model import Page, PageTable, Section
from e4profile.show.html.page import render_page
from e4profile.show.tables import Table, render
from e4profile.witnesses.counts.registry import STOCK

SWEPT_GROUPS = ("p4", "p4m")
TABLES, DRAWINGS, VERSIONS, PAGE = "tables", "figures", "versions.json", "index.html"
WITNESSES = ("torch", *STOCK, "sympy", "jinja2", "matplotlib", "pillow")
"""The packages whose version may change what the folder holds."""

_TITLE = "e4profile: the exact cost of group-equivariant networks"
_LEAD = (
    "Every published cost of E4 networks and their relatives beside the value that building the network gives, and "
    "a verdict for each. Counts are exact integers on which the closed form and a count of what runs agree."
)
_NOTES = (
    "Generated from the cards and the committed records by e4profile report; nothing on this page is fetched.",
    "A MAC is one fused multiply-add. Counts are per image unless a table says otherwise.",
)


def steps() -> list[str]:
    """What ``make_report`` does, in order, for a reader who waits."""
    return [*(f"table {name}" for name in table_names()), *(f"sweep {g}" for g in SWEPT_GROUPS), "figures", "page"]


def make_report(folder: Path, records: Path, done: Callable[[str], None]) -> None:
    """Write the whole report.

    Args:
        folder: empty.
        records: the reports folder whose committed records give the timings.
        done: called with the name of each step of ``steps`` as it finishes.

    Raises:
        SettingError: for records that cannot be read.
    """
    (folder / TABLES).mkdir(parents=True)
    measured = measured_tables(records)
    published: list[Published] = []
    for name in table_names():
        published.append(build_published(name))
        _write_table(folder / TABLES, name, published[-1].readable, published[-1].exact)
        done(f"table {name}")
    sweeps = []
    for group in SWEPT_GROUPS:
        sweeps.append(PageTable(f"sweep-{group}", _swept(group)))
        _write_table(folder / TABLES, sweeps[-1].name, sweeps[-1].table, sweeps[-1].table)
        done(f"sweep {group}")
    figures = draw_all(folder / DRAWINGS, records)
    done("figures")
    (folder / VERSIONS).write_text(json.dumps(installed_versions(), indent=2) + "\n", encoding="utf-8")
    sections = tuple(_sections(published, sweeps, figures, measured))
    page = Page(_TITLE, _LEAD, _tally(published), sections, _NOTES)
    (folder / PAGE).write_text(render_page(page), encoding="utf-8")
    done("page")


def installed_versions() -> dict[str, str]:
    """The versions of the packages that take part."""
    return {name: version(name) for name in WITNESSES}


def _write_table(folder: Path, name: str, readable: Table, exact: Table) -> None:
    for ending, table, output_format in (
        ("md", readable, "markdown"),
        ("csv", exact, "csv"),
        ("tex", readable, "latex"),
    ):
        (folder / f"{name}.{ending}").write_text(render(table, output_format, units="exact"), encoding="utf-8")


def _swept(group: str) -> Table:
    running = Sweep(make_plan(groups=[group]))
    for _ in running.run():
        pass
    return sweep_table(running)


def _figures(paths: Sequence[Path]) -> Section:
    """The figures with what each shows; a kind without a record to draw is named as left out."""
    names = list(dict.fromkeys(path.stem for path in paths))
    by_name = {name: _kind(name) for name in names}
    captions = {name: f"{name}: {figure.meaning}" for name, figure in by_name.items() if figure}
    drawn = {figure.kind for figure in by_name.values() if figure}
    absent = [kind for kind, figure in figures().items() if figure.records and kind not in drawn]
    paragraphs = ["Every figure is also drawn as SVG and PNG, with its numbers as CSV, in the folder figures."]
    if absent:
        paragraphs.append(f"Left out, as there is no record to draw them from: {', '.join(absent)}.")
    return Section("Figures", paragraphs, figures=paths, captions=captions)


def _kind(name: str) -> Figure | None:
    return next((figure for kind, figure in figures().items() if name == kind or name.startswith(f"{kind}-")), None)


def _tally(published: list[Published]) -> list[tuple[str, str]]:
    verdicts = [verdict for one in published for verdict in one.verdicts]
    counts = [(str(count), verdict) for verdict, count in tally(verdicts).items()]
    return [(str(len(verdicts)), "published cost cells"), *counts]


def _sections(
    published: list[Published], sweeps: list[PageTable], figures: list[Path], measured: list[PageTable]
) -> Iterator[Section]:
    yield Section(
        "Verdicts",
        ("A published value is reproduced when the built network gives every printed digit.",),
        [PageTable("verdicts", verdict_table(published))],
    )
    yield Section(
        "Published tables",
        ("Open a verdict for its source, the network that was built, how it was counted and the evidence.",),
        [one.page for one in published],
    )
    yield Section(
        "Sweeps",
        (
            "Settings of the E4 layer (r: reduction, s: slices, k: kernel) in the rot-MNIST network, each beside "
            "the group convolution of the same topology.",
        ),
        sweeps,
    )
    if figures:
        yield _figures(figures)
    if measured:
        yield Section("Measured", ("Times are committed records, each with where it was measured.",), measured)
    yield Section(
        "Closed forms",
        ("The named cost terms of every layer, which are checked against counts of what runs.",),
        forms=closed_forms(),
    )
