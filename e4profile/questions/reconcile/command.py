"""``e4profile reconcile``: which architectures and counting rules give published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.errors import SettingError, positive
from e4profile.questions import job_options, options
from e4profile.questions.entry import Entry
from e4profile.questions.output import Progress, emit, note, stop_interrupted
from e4profile.subjects.named import split_pairs

if TYPE_CHECKING:
    from e4profile.questions.reconcile.ranking import Reconciled, Reconciliation
    from e4profile.questions.reconcile.rows import Row
    from e4profile.show.tables import Table
    from e4profile.subjects.subject import Subject

_SHOWN_VALUES = 4
_WEAK = 0.05
_UNITS = (("K", 1e3), ("M", 1e6), ("G", 1e9))


def reconcile(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Cards, or one model of yours (e4profile help networks).",
            metavar=options.MODEL,
            callback=options.networks,
        ),
    ],
    params: Annotated[
        str | None, typer.Option("--params", help="Published parameters, e.g. 18.8K.", metavar="N")
    ] = None,
    flops: Annotated[str | None, typer.Option("--flops", help="Published FLOPs, e.g. 17M.", metavar="N")] = None,
    macs: Annotated[str | None, typer.Option("--macs", help="Published MACs.", metavar="N")] = None,
    published: Annotated[bool, typer.Option("--published", help="Every published row of the card at once.")] = False,
    rows_of: Annotated[
        str | None, typer.Option("--rows-of", help="Every published row of another card instead.", metavar="NAME")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="Published rows of this table only.", metavar="NAME")
    ] = None,
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    changes: Annotated[int, typer.Option("--changes", help="How many arguments may differ.", metavar="N")] = 2,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            help="Search these arguments only, with values if you say them: width=8..64,act=relu,gelu.",
            metavar="NAME[=VALUES]",
        ),
    ] = None,
    conventions: Annotated[
        list[str] | None,
        typer.Option(
            "--convention", help="Another rule that may have counted, or a file of weights.", metavar="RULE,..."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Show at most N explanations.", metavar="N")] = 10,
    output_format: options.Format = "table",
    units: options.Units = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder that --jobs share.", metavar="DIR", hidden=True)
    ] = None,
    jobs: job_options.How = None,
    partition: job_options.Partition = None,
    array_parallelism: job_options.ArrayParallelism = None,
    timeout_min: job_options.TimeoutMin = None,
    job_minutes: job_options.JobMinutes = 5.0,
) -> None:
    """Search architectures and counting rules that give all published figures at their printed precision.

    The simplest come first: the fewest arguments that differ from the network's own, the fewest differences from
    plain MACs. Where none is found, the rules of counters and publications that charge what runs element by element
    are tried. How much was searched, and what chance alone would find, is always said. Cards are counted by their
    closed forms, a user-defined model from what one call runs.
    """
    from e4profile.questions.reconcile.search import reconcile as search
    from e4profile.subjects.subject import resolve

    positive(**{"--limit": limit})
    asked_jobs = job_options.jobs_asked(jobs, partition, None, array_parallelism, timeout_min, job_minutes, time=True)
    if (asked_jobs is None) != (out is None):
        raise SettingError("--jobs count in a folder that they share: give both --jobs WHERE and --out DIR")
    count_ahead = None
    if asked_jobs is not None and out is not None:
        from e4profile.questions.reconcile.by_jobs import counting_by_jobs

        count_ahead = counting_by_jobs(out, asked_jobs)
    networks = options.several_subjects(models, settings, inputs, arguments)
    given = {"params": params, "flops": flops, "macs": macs}
    rows = _rows(networks, given, resolve(rows_of) if rows_of else None, published or table is not None, table)
    progress: list[Progress] = []

    def step(_: int, total: int) -> None:
        if not progress:
            progress.append(Progress("reconcile", total))
        progress[0].step("architectures")

    try:
        found = search(
            rows, changes=changes, vary=_varied(vary), conventions=options.names(conventions), progress=step,
            count_ahead=count_ahead,
        )  # fmt: skip
    finally:
        for one in progress:
            one.close()
    names = [network.name for network in networks]
    emit(
        lambda *_: reconcile_table(", ".join(names), found, limit, _call(networks)),
        output_format,
        units,
        texts={
            "json": lambda: json.dumps({"models": names, **found.as_object(limit)}, indent=2, ensure_ascii=False) + "\n"
        },
        facts=lambda: {"matches": found.found},
    )
    if output_format in ("json", "csv"):
        note(*_space_notes(found))
    if found.left_out:
        stop_interrupted()


def _varied(vary: list[str] | None) -> list[str] | None:
    """Repeated or comma-separated names; a comma behind ``=`` separates values, unless a name and ``=`` follow."""
    if not vary:
        return None
    parts = [part for text in vary for part in split_pairs(text)]
    return [one for part in parts for one in ([part] if "=" in part else options.names([part]))]


def _call(networks: list[Subject]) -> str | None:
    """What the figures of a network that has to be run are held against."""
    run = [one for one in networks if not one.costed_whole]
    if not run:
        return None
    call = " ".join(map(str, run[0].specs))
    images = "" if run[0].batch_size == 1 else "; published figures are mostly of one image"
    return f"operations are counted from what one call of {run[0].name} on ({call}) runs, on the meta device{images}"


def _rows(
    networks: list[Subject], given: dict[str, str | None], rows_of: Subject | None, published: bool, table: str | None
) -> list[Row]:
    from e4profile.questions.reconcile.rows import Figure, Row, published_rows

    figures = tuple(Figure(quantity, text) for quantity, text in given.items() if text is not None)
    if figures and (published or rows_of):
        raise SettingError("give either figures (--params, --flops, --macs) or published rows, not both")
    if not figures and not published and rows_of is None:
        raise SettingError("give published figures: --params 18.8K --flops 17M, or --published")
    if figures:
        return [Row(network.name, network, figures) for network in networks]
    return [row for network in networks for row in published_rows(network, rows_of, table)]


def reconcile_table(name: str, found: Reconciliation, limit: int, call: str | None = None) -> Table:
    """The simplest explanations, or what comes nearest."""
    from e4profile.questions.reconcile.ranking import changes_text
    from e4profile.show.tables import Column, Table

    figures = f"{found.figures} figure{'s' if found.figures > 1 else ''}"
    if found.rows > 1:
        figures += f" of {found.rows} rows"
    if found.matches:
        title = f"{name}: what gives {'all ' if found.figures > 1 else 'the '}{figures}, simplest first"
        more = [Column("rounding", "rounding", "text", priority=60)]
        said: list[dict[str, Any]] = [{"rounding": match.rounding} for match in found.matches]
    else:
        title = f"{name}: none found that gives {figures}; the nearest"
        more = [
            Column("worst", "worst figure off by %", "percent", "off by", 80),
            Column("figure", "worst figure", "text", priority=20),
        ]
        said = [{"worst": 100 * near.deviation, "figure": near.figure} for near in found.nearest]
    columns = (
        Column("differences", "differences", "integer", "diff.", 100),
        Column("changes", "changed arguments", "text", priority=95),
        Column("rule", "counted as macs, but", "text", priority=90),
        *more,
    )
    rows = [
        {"differences": one.differences, "changes": changes_text(one.changes), "rule": str(one.rule), **words}
        for one, words in zip(found.matches or found.nearest, said, strict=True)
    ][:limit]
    notes = [*_space_notes(found), *([call] if call else [])]
    if found.matches:
        best = found.matches[0]
        simplest = f"simplest: {changes_text(best.changes)}; {best.rule}; {best.rounding}"
        notes = [*_values_note(best), *notes, _conclusion(found)]
        same = "; ".join(changes_text(changes) for changes in best.same[:3])
        notes.insert(0, simplest + (f"; the same counts with {same}" if same else ""))
        hidden = len(found.matches) - len(rows)
        if hidden > 0:
            notes.append(f"{hidden:,} more explanation{'s' if hidden > 1 else ''}, as simple or less; see --limit")
    else:
        notes += _unit_hint(found)
    return Table(title, columns, tuple(rows), tuple(notes))


def _values_note(best: Reconciled) -> list[str]:
    """What the simplest explanation builds beside what is printed, for the rows of a few figures."""
    from e4profile.questions.reconcile.ranking import values_of

    values = values_of(best.built, best.rule)
    if len(values) > _SHOWN_VALUES:
        return []
    return ["it gives " + ", ".join(f"{one['quantity']} {one['built']:,} for {one['published']}" for one in values)]


def _conclusion(found: Reconciliation) -> str:
    """How much a match says, and what would say more."""
    from e4profile.questions.reconcile.ranking import changes_text

    named = next((one for one in found.matches if one.rule.name not in (None, "macs")), None)
    by_name = f"; a rule with a name among them: {named.rule.name}, with {changes_text(named.changes)}" if named else ""
    if found.rows == 1 and found.chance_share > _WEAK:
        return (
            f"weak evidence: made-up figures match as well in {100 * found.chance_share:.0f}% of the draws; add "
            f"published rows of the same table, with --rows-of CARD or --published{by_name}"
        )
    return f"chance explains such a match in {100 * found.chance_share:.1f}% of the draws at most{by_name}"


def _unit_hint(found: Reconciliation) -> list[str]:
    """Figures a thousand or more times too small have lost their unit."""
    from e4profile.questions.reconcile.ranking import values_of

    if not found.nearest:
        return []
    near = found.nearest[0]
    said = []
    for one in values_of(near.built, near.rule):
        text = str(one["published"])
        if text[-1:].isdigit():
            ratio = one["built"] / float(text.replace(",", ""))
            unit = next((unit for unit, size in _UNITS if size / 30 < ratio < size * 30), "")
            if unit and text + unit not in said:
                said.append(text + unit)
    return [f"a unit may be missing: did you mean {', '.join(said)}?"] if said else []


def _space_notes(found: Reconciliation) -> list[str]:
    sizes = ", ".join(f"{name} {count}" for name, count in found.axes.items())
    share = 100 * found.chance_share
    missing = (
        [f"interrupted: {found.left_out:,} more architectures were not tried, so this is part of the space"]
        if found.left_out
        else []
    )
    return [
        *missing,
        f"searched {found.combinations:,} combinations of {found.architectures:,} architectures with their counting "
        f"rules, every figure rounded or truncated: {found.found:,} match",
        f"values besides its own: {sizes or 'none'}; {found.refused:,} architectures cannot be built",
        f"chance: of 1,000 made-up versions of one row ({found.chance_row}) within 10%, {share:.1f}% find a match, "
        f"{found.chance:.3g} on average" + ("; all rows together less" if found.rows > 1 else ""),
    ]


ENTRY = Entry("published", 3, reconcile, "Search for what gives all published figures as printed")
