"""``e4profile guard --history`` and ``guard diff --history``: what moved over commits, its table and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from e4profile.questions.columns import table_of_rows
from e4profile.questions.output import Progress
from e4profile.records.history import History, append_run, commit_of
from e4profile.records.store import RecordStore
from e4profile.show import style
from e4profile.show.tables import Column, Table
from e4profile.witnesses.timing.change_points import LEVEL
from e4profile.witnesses.timing.statistics import MINIMUM_EFFECT, quartiles

if TYPE_CHECKING:
    from e4profile.questions.guard.run import Guard

_MAX_RUN_TIME_S = 2.0


def begin_history(file: Path, folder: Path, commit: str | None) -> tuple[RecordStore, str]:
    """The store of a history and the commit of this run, found out before anything is counted.

    Raises:
        SettingError: for a file that cannot be written or is of another kind, or where no commit is known.
    """
    store = RecordStore(file, "--history")
    store.check_writable()
    return store, commit or commit_of(folder)


def add_to_history(store: RecordStore, commit: str, guard: Guard, *, time: bool) -> list[str]:
    """Append what a run of the guard counted, and times of forward passes where asked; what was left out, in words."""
    by_name = {entry.name: entry for entry in guard.config.models}
    found = [one for one in guard.result.models if one.after is not None]
    left_out = [f"{one.name} was not measured, so it is not in {store.path}"
                for one in guard.result.models if one.after is None and one.name in by_name]  # fmt: skip
    with Progress("time", len(found) if time else 0, quiet=True) as progress:
        for one in found:
            assert one.after is not None
            seconds: Sequence[float] = ()
            if time:
                from e4profile.questions.guard.loading import timed

                progress.begin(f"{one.name}: forward")
                seconds = timed(by_name[one.name], guard.config.folder, _MAX_RUN_TIME_S)
                progress.step(one.name)
            if not one.exact:
                left_out.append(f"{one.name}: operators are unknown, so its MACs are a lower bound and are not kept")
            append_run(store, one.name, commit, one.after, seconds, exact=one.exact)
    return left_out


def history_table(history: History, file: Path) -> Table:
    """One row per count that moved and per time that stepped, in the order of networks."""
    rows: list[dict[str, Any]] = [
        {
            "verdict": "moved", "model": move.model, "quantity": move.quantity, "commit": move.commit,
            "before": move.before, "after": move.after,
            "change_percent": None if not move.before or move.after is None
            else 100 * (move.after - move.before) / move.before,
            "why": move.why or None,
        }
        for move in history.moves()
    ]  # fmt: skip
    rows += [
        {
            "verdict": "slower" if one.step.ratio > 1 else "faster", "model": one.model, "quantity": "time",
            "commit": one.commit, "before_s": one.step.before, "after_s": one.step.after,
            "change_percent": 100 * (one.step.ratio - 1), "p_value": one.step.p_value,
            "why": f"between {one.since} and {one.commit}, runs in order",
        }
        for one in history.time_steps()
    ]  # fmt: skip
    keys = [
        "verdict",
        "model",
        "quantity",
        "commit",
        "before",
        "after",
        "before_s",
        "after_s",
        "change_percent",
        "p_value",
        "why",
    ]
    used = [key for key in keys if key in keys[:4] or any(row.get(key) is not None for row in rows)]
    commits = list(dict.fromkeys(run.commit for run in history.runs))
    return table_of_rows(
        f"{file.name}: {len(commits)} commit{'s' if len(commits) > 1 else ''}, {commits[0]} to {commits[-1]}"
        + ("" if rows else ": no count moved and no time stepped"),
        [{key: row.get(key) for key in used} for row in rows],
        _notes(history),
        keys=used,
        columns=(
            Column("commit", "at commit", "text", priority=95),
            Column("before", "before", "integer", priority=80),
            Column("after", "after", "integer", priority=80),
            Column("before_s", "median before", "seconds", "before", 78),
            Column("after_s", "median after", "seconds", "after", 78),
            Column("change_percent", "change %", "percent", "%", 75),
            Column("p_value", "chance", "ratio", priority=70),
            Column("why", "beside it", "text", priority=60),
        ),
    )


def _notes(history: History) -> list[str]:
    notes = []
    series = history.timed()
    if series:
        notes.append(
            f"times: {len(series)} series of medians, each of one environment; a step is named if it is at least "
            f"{MINIMUM_EFFECT:.0%} and chance gives its ranks with a probability of at most {history.level:.2g}; any "
            f"false step among all series then has a probability of at most {LEVEL:.0%}"
        )
    return [*notes, *history.too_short(), *history.notes]


def history_rows(history: History) -> list[dict[str, Any]]:
    """One row per network, run and quantity: what the figure draws."""
    order = {commit: place for place, commit in enumerate(dict.fromkeys(run.commit for run in history.runs))}
    return [
        {
            "model": run.model, "commit": run.commit, "place": order[run.commit], "quantity": quantity, "value": value,
            "first": first, "third": third,
        }
        for run in history.runs
        for quantity, value, first, third in (
            *((quantity, value, None, None) for quantity, value in run.costs.items()),
            *([("time_s", median(run.seconds), *(quartiles(run.seconds) or (None, None)))] if run.seconds else []),
        )
    ]  # fmt: skip


def history_plot(history: History) -> style.Plot:
    """Every quantity over commits, relative to its first value, a panel each; what moved or stepped is marked."""
    from matplotlib.lines import Line2D

    rows = history_rows(history)
    quantities = list(dict.fromkeys(row["quantity"] for row in rows))
    commits = list(dict.fromkeys(run.commit for run in history.runs))
    colours = dict(zip(history.models, _colours(len(history.models)), strict=True))
    marked = {(one.model, one.quantity, one.commit) for one in history.moves()}
    marked |= {(one.model, "time_s", one.commit) for one in history.time_steps()}
    figure = style.new_figure(0.9 * len(quantities) + 0.3)
    panels = figure.subplots(len(quantities), 1, sharex=True, squeeze=False)[:, 0]
    for axes, quantity in zip(panels, quantities, strict=True):
        for model in history.models:
            own = [row for row in rows if (row["model"], row["quantity"]) == (model, quantity)]
            if not own:
                continue
            shares = [row["value"] / own[0]["value"] if own[0]["value"] else 1.0 for row in own]
            axes.plot(
                [row["place"] for row in own], shares, color=colours[model], marker=".", markersize=2.5, linewidth=0.8
            )
            for row in own:
                if row["first"] is not None:
                    ends = [row["first"] / own[0]["value"], row["third"] / own[0]["value"]]
                    axes.plot([row["place"]] * 2, ends, color=colours[model], linewidth=0.5)
            steps = [(row["place"], share) for row, share in zip(own, shares, strict=True)
                     if (model, quantity, row["commit"]) in marked]  # fmt: skip
            axes.plot([at for at, _ in steps], [share for _, share in steps], color=colours[model], marker="o",
                      markersize=5, fillstyle="none", linestyle="none")  # fmt: skip
        axes.set_ylabel(quantity.removesuffix("_s").replace("_", " "), fontsize=5.5)
        axes.margins(y=0.2)
    shown = range(0, len(commits), max(1, -(-len(commits) // 8)))
    panels[-1].set_xticks(list(shown), [commits[at] for at in shown], rotation=45, ha="right", fontsize=5)
    handles = [Line2D([], [], color=colour, label=model) for model, colour in colours.items()]
    remarks = ["Relative to the first run. A circle marks a count that moved, or a time that stepped."]
    if "time_s" in quantities:
        remarks.append("Times are medians; lines are their quartiles.")
    style.finish(figure, "History", "counts and times over commits", handles, remarks, convention_name=None)
    return style.Plot("history", figure, rows)


def _colours(count: int) -> list[str]:
    known = [style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY_BLUE, style.YELLOW]
    return [known[place % len(known)] for place in range(count)]
