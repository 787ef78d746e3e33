"""``e4profile pareto``: published errors against measured cost, and the networks that no other one beats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.cli.options import Format, Units, check_format, names
from e4profile.cli.output import Progress, emit, note

if TYPE_CHECKING:
    from e4profile.pareto import Candidate, Point
    from e4profile.render.tables import Table


_HEADERS = {"macs": "MACs"}


def pareto(
    models: Annotated[
        list[str] | None, typer.Argument(help="Cards' names; with --table every card.", metavar="NAME...")
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="Costs from a file of records instead.", metavar="RECORDS.jsonl"),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", help="The published table whose errors are compared.", metavar="NAME"),
    ] = None,
    x: Annotated[str, typer.Option("--x", help="macs, params, time or memory.", metavar="COST")] = "macs",
    y: Annotated[
        str,
        typer.Option("--y", help="error, or one of several: cifar10, cifar100, acc5, ...", metavar="ERROR"),
    ] = "error",
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Images, for time [1] and memory [2].", metavar="N"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="For time: cpu or cuda.", metavar="DEVICE")] = "cpu",
    max_run_time_s: Annotated[
        float, typer.Option("--max-run-time-s", help="For time: sample at most this long.", metavar="SECONDS")
    ] = 2.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Draw the front (SVG, PNG, CSV) into a folder.", metavar="DIR"),
    ] = None,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Set published test errors against measured cost and name the front.

    Errors are as published, never measured. Only errors of one table, and so of one data set, are compared.
    """
    check_format(output_format)
    from e4profile.cards import find_card
    from e4profile.errors import UnknownNameError, positive
    from e4profile.pareto import COSTS, candidates, error_name, front

    if batch_size is not None:
        positive(**{"--batch-size": batch_size})
    if x not in COSTS:
        raise UnknownNameError("cost", x, COSTS)
    cards = [find_card(name) for name in names(models)]
    if sweep is not None and not cards:
        cards = _cards_in(sweep)
    found = candidates(cards, table, y)
    notes: list[str] = []
    if sweep is not None:
        from e4profile.pareto import sweep_costs

        costed, notes = sweep_costs(sweep, x, found)
    else:
        costed = _measured(found, x, device, batch_size, max_run_time_s)
    points = front(costed)
    error = error_name(points[0].candidate.quantity)
    how = _how(x, device, batch_size, recorded=sweep is not None)
    emit(pareto_table(points, x, error, how, notes), output_format, units)
    if out is not None:
        _draw(points, x, error, how, out)


def _cards_in(path: Path) -> list[Any]:
    from e4profile.cards import all_cards
    from e4profile.errors import SettingError
    from e4profile.records import RecordStore

    if not path.exists():
        raise SettingError(f"--sweep: {path} does not exist")
    known = all_cards()
    recorded = dict.fromkeys(record.card for record in RecordStore(path).load())
    found = [known[name] for name in recorded if name in known and known[name].published]
    if not found:
        listed = ", ".join(recorded) or "no records"
        raise SettingError(f"--sweep: no network in {path} ({listed}) has a published error")
    return found


def _measured(
    found: Sequence[Candidate], x: str, device: str, batch_size: int | None, max_run_time_s: float
) -> list[tuple[Candidate, int | float]]:
    from e4profile.pareto import cost_of

    def timed(card: Any) -> float:
        from e4profile.timing import measure_time

        record = measure_time(
            card.build("cpu"), card.input, device=device, batch_size=batch_size or 1, name=card.name,
            min_run_time_s=min(0.2, max_run_time_s), max_run_time_s=max_run_time_s,
        )  # fmt: skip
        return float(record.median_s)

    cost: Any = timed if x == "time" else cost_of(x, batch_size=batch_size or 2)
    progress = Progress(f"pareto, {x}", len(found))
    costed: list[tuple[Candidate, int | float]] = []
    try:
        for one in found:
            costed.append((one, cost(one.card)))
            progress.step(one.label)
    finally:
        progress.close()
    return costed


def _how(x: str, device: str, batch_size: int | None, *, recorded: bool) -> str:
    source = "as recorded" if recorded else "measured"
    return {
        "macs": f"MACs of one image, {source} by counting what runs",
        "params": f"parameters, {source} by counting",
        "memory": f"peak bytes of forward and backward at batch {batch_size or 2}, by allocator emulation",
        "time": f"median seconds of a pass, {source}"
        + ("" if recorded else f" on {device}, forward at batch {batch_size or 1}"),
    }[x]


def pareto_table(points: Sequence[Point], x: str, error: str, how: str, notes: Sequence[str] = ()) -> Table:
    """One row per network, the cheapest first."""
    from e4profile.published_tables import TITLES
    from e4profile.render.tables import Column, Table

    kind: Any = {"time": "seconds", "memory": "bytes"}.get(x, "integer")
    columns = (
        Column("on_front", "on front", "boolean", "front", 100),
        Column("network", "network", "text", priority=95),
        Column("card", "card", "text", priority=30),
        Column(x, _HEADERS.get(x, x), kind, priority=90),
        Column("published_error", error, "percent", "publ. error", 90),
        Column("published_spread", "published spread", "percent", "spread", 40),
        Column("dominated_by", "dominated by", "text", priority=50),
    )
    rows = tuple(
        {
            "on_front": point.on_front,
            "network": point.candidate.label,
            "card": point.candidate.card.name,
            x: point.cost,
            "published_error": point.candidate.error,
            "published_spread": point.candidate.spread,
            "dominated_by": ", ".join(point.dominated_by) or None,
        }
        for point in points
    )
    members = [point.candidate.label for point in points if point.on_front]
    table = points[0].candidate.table
    return Table(
        f"{TITLES.get(table, table)}: {error} against {_HEADERS.get(x, x)}",
        columns,
        rows,
        (
            f"the front, cheapest first: {'; '.join(members)}",
            "errors are published, not measured here",
            *notes,
        ),
        convention=how,
    )


def _draw(points: Sequence[Point], x: str, error: str, how: str, out: Path) -> None:
    from e4profile.published_tables import TITLES
    from e4profile.render.plot_pareto import plot_pareto
    from e4profile.render.style import paper_style, save

    first = points[0].candidate
    rows = [
        {
            "network": point.candidate.label,
            "card": point.candidate.card.name,
            "cost": point.cost,
            "published_error": point.candidate.error,
            "spread": point.candidate.spread,
            "on_front": point.on_front,
        }
        for point in points
    ]
    subject, _, source = TITLES.get(first.table, first.table).partition(" (")
    remarks = [f"{how[0].upper()}{how[1:]}.", *([f"{source.rstrip(')')}."] if source else [])]
    with paper_style():
        plot = plot_pareto(
            rows, name=f"pareto-{first.table}-{first.quantity.replace('_', '-')}-{x}",
            subject=subject, x=x, error=error, remarks=remarks,
        )  # fmt: skip
        paths = save(plot, out)
    note(f"wrote {', '.join(path.name for path in paths)} to {out}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pareto")(pareto)
