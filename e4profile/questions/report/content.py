"""Everything that the reports folder holds, written into an empty folder: tables, figures, versions, the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
    "This page sets every published cost of E4 networks and their relatives beside the value that building the network "
    "gives, with a verdict for each. Counts are exact integers: the closed form and a count of what runs agree on them."
)
_NOTES = (
    "e4profile report generates this page from the cards and the committed records. The page fetches nothing.",
    "The folder tables holds every table as a file, and the folder figures every figure as SVG, PNG and CSV.",
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
    # a record that cannot be read is refused before the work begins
    measured_tables(records)
    published: list[Published] = []
    for name in table_names():
        published.append(build_published(name))
        _write_table(folder / TABLES, name, published[-1].readable, published[-1].exact)
        if published[-1].as_printed is not None:
            _write_table(folder / TABLES, f"{name}-as-printed", published[-1].as_printed, published[-1].as_printed)
        done(f"table {name}")
    sweeps = []
    for group in SWEPT_GROUPS:
        sweeps.append(PageTable(f"sweep-{group}", _swept(group)))
        _write_table(folder / TABLES, sweeps[-1].name, sweeps[-1].table, sweeps[-1].table)
        done(f"sweep {group}")
    figures = draw_all(folder / DRAWINGS, records)
    done("figures")
    (folder / VERSIONS).write_text(json.dumps(installed_versions(), indent=2) + "\n", encoding="utf-8")
    sections = tuple(_sections(published, sweeps, figures, records))
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


_BESIDE = {
    "table-1": ("accuracy-rot-mnist", "executions-rot-mnist"),
    "table-4": (
        "accuracy-cifar10",
        "accuracy-cifar10-augmented",
        "accuracy-cifar100",
        "executions-cifar10",
        "executions-cifar100",
    ),
    "table-implicit": ("training",),
    "table-steerable-wrn": ("accuracy-stl10",),
    "sweep-p4": ("cost-e4net", "ratio-map-e4net"),
    "sweep-p4m": ("ratio-map-p4m-e4r18",),
}
"""The figures that belong to a table of the page."""


class _Drawings:
    """The files of the figures, handed out once each, with what each shows."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._left = {name: [path for path in paths if path.stem == name] for name in {path.stem: 0 for path in paths}}
        kinds = {name: _kind(name) for name in self._left}
        self.captions = {name: f"{name}: {figure.meaning}" for name, figure in kinds.items() if figure}
        drawn = {figure.kind for figure in kinds.values() if figure}
        self.absent = [kind for kind, figure in figures().items() if figure.records and kind not in drawn]

    def take(self, *names: str) -> list[Path]:
        """The files of figures by name, as far as they are there."""
        return [path for name in names for path in self._left.pop(name, [])]

    def beside(self, tables: Sequence[PageTable]) -> list[PageTable]:
        """The tables, each with the figures that belong to it."""
        return [replace(one, figures=self.take(*_BESIDE.get(one.name, ()))) for one in tables]

    def rest(self) -> list[Path]:
        """The files that are left."""
        return self.take(*list(self._left))


def _kind(name: str) -> Figure | None:
    return next((figure for kind, figure in figures().items() if name == kind or name.startswith(f"{kind}-")), None)


def _tally(published: list[Published]) -> list[tuple[str, str]]:
    verdicts = [verdict for one in published for verdict in one.verdicts]
    counts = [(str(count), verdict) for verdict, count in tally(verdicts).items()]
    return [(str(len(verdicts)), "published cost cells"), *counts]


def _sections(
    published: list[Published], sweeps: list[PageTable], drawn: list[Path], records: Path
) -> Iterator[Section]:
    """The page in the order of a paper: the outcome, the method, the results, and last the program's own benchmarks."""
    drawings = _Drawings(drawn)
    captions = drawings.captions
    yield Section(
        "Verdicts",
        ("A published value is reproduced when the built network gives every printed digit.",),
        [PageTable("verdicts", verdict_table(published))],
    )
    yield Section(
        "Closed forms",
        ("Every layer states its named cost terms. Counts of what runs agree with them, layer by layer.",),
        forms=closed_forms(),
    )
    yield Section(
        "Published tables",
        ("Open a verdict for its source, the network that was built, how it was counted and the evidence.",),
        drawings.beside([page for one in published for page in one.pages]),
        captions=captions,
    )
    yield Section(
        "E4 against group convolutions",
        (
            "The tables set the E4 layer's settings (r: reduction, s: slices, k: kernel) in the rot-MNIST network "
            "beside the group convolution of the same topology.",
        ),
        drawings.beside(sweeps),
        captions=captions,
    )
    counted = drawings.take("terms", "counters", "memory")
    if counted:
        yield Section("What is counted, and what is kept", figures=counted, captions=captions)
    timed, timings = drawings.take("roofline", "share"), measured_tables(records, ".jsonl")
    if timed or timings:
        left_out = [f"No record to draw {', '.join(drawings.absent)} from."] if drawings.absent else []
        words = ("Times come from committed records. Each says where it was measured.", *left_out)
        yield Section("Times", words, timings, timed, captions)
    rest = drawings.rest()
    if rest:
        yield Section("Further figures", figures=rest, captions=captions)
    benchmarks = measured_tables(records, ".json")
    if benchmarks:
        words = (
            "The tables show how fast this program's operators and counters are and what they allocate. They are not "
            "results of a paper.",
        )
        yield Section("Appendix: benchmarks of the program", words, benchmarks)
