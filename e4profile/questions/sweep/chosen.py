"""``e4profile sweep`` over many settings: the table of those that are left, and the front over the cloud."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from e4profile.errors import SettingError, some_of
from e4profile.questions.figures import save_beside, save_plots
from e4profile.questions.output import check_columns, emit, note, on_interrupt, waiting
from e4profile.questions.sweep import cloud as clouds
from e4profile.questions.sweep.cloud import Chosen, Cloud
from e4profile.questions.sweep.kept_costs import KeptCosts
from e4profile.questions.sweep.quantities import PREDICTED, QUANTITIES, TIME, How, Limit, Quantity
from e4profile.questions.sweep.varied import write_results
from e4profile.questions.time.table import threads_text
from e4profile.show.tables import Column, Table
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import Varied

SHOWN = 20
"""Settings that a table shows of more than are built, where it is not said how many."""
_PRIORITY = {"params": 95, "macs": 95}
_ENDS = ("from", "to")


@dataclass(frozen=True)
class Wanted:
    """What is asked of the settings.

    Attributes:
        limits: that they keep to.
        front: quantities in which no other beats them; empty for all settings.
        sort: the quantity that orders them; the front's first, or the limits' first, or as given when None.
        descending: whether the costliest comes first.
        top: how many are shown; 0 for all, None for ``SHOWN`` of more settings than are built.
        time: whether they are timed.
        verify: how many of those left are timed, beside their predicted times.
    """

    limits: Sequence[Limit] = ()
    front: Sequence[Quantity] = ()
    sort: Quantity | None = None
    top: int | None = None
    time: bool = False
    verify: int = 0
    descending: bool = False

    @property
    def quantities(self) -> list[Quantity]:
        """What is found of every setting, and shown."""
        named = [QUANTITIES["params"], QUANTITIES["macs"], *(limit.quantity for limit in self.limits), *self.front]
        named += [*([self.sort] if self.sort else []), *([TIME] if self.time or self.verify else [])]
        return list(dict.fromkeys(named))

    @property
    def order(self) -> Quantity | None:
        """The quantity that orders the settings."""
        return self.sort or next(iter(self.front), None) or next((one.quantity for one in self.limits), None)


def show_chosen(
    subjects: Sequence[Subject],
    axes: Sequence[Varied],
    wanted: Wanted,
    how: How,
    output_format: str,
    units: str,
    out: Path | None,
    page: Path | None,
    plot: Path | None = None,
) -> None:
    """Show the settings that keep to the limits, or the front among them; exit code 1 where none does.

    The same code where a network of the random sample counts otherwise than the closed form.
    """
    check_columns(*_columns(subjects, axes, wanted))
    kept = KeptCosts(out)
    remark = None if out is None else f"what was finished is saved in {out}; the same command goes on from there"
    with on_interrupt(remark), waiting("sweep") as say:
        telling = replace(how, progress=say, kept=kept)
        found = clouds.cloud_of(subjects, axes, wanted.quantities, telling)
        if not len(found.possible):
            reasons = dict.fromkeys(_refusals(found, 3))
            raise SettingError(f"no setting builds {', '.join(one.name for one in subjects)}: {'; '.join(reasons)}")
        chosen = clouds.within(found, wanted.limits, telling)
        if not chosen.nearest:
            chosen = _finished(found, chosen, wanted, telling)
        clouds.prove(found, telling)
    note(*kept.notes)
    table = chosen_table(found, chosen, wanted, how)
    from e4profile.questions.sweep.drawing import front_plot

    drawn = len(wanted.front) > 1 and not chosen.nearest
    place = plot or out
    figures = [] if place is None or not drawn else _draw(found, chosen, wanted, place)
    write_results(table, out, page, figures)
    emit(
        table,
        output_format,
        units,
        texts={"json": lambda: json.dumps(_objects(found, chosen, wanted), indent=2) + "\n"},
    )
    if drawn:
        save_beside(None, lambda: front_plot(found, chosen.indices, wanted))
    if output_format in ("json", "csv"):
        note(*table.notes)
    if chosen.nearest or found.disagreements:
        sys.exit(1)


def _finished(found: Cloud, chosen: Chosen, wanted: Wanted, how: How) -> Chosen:
    """The front, in order, the first of it, with everything that is shown."""
    import numpy as np

    indices = chosen.indices
    needed = [*wanted.front, *([wanted.order] if wanted.order else []), *([TIME] if wanted.time else [])]
    for one in dict.fromkeys(needed):
        if one.ask is not None and one.name not in found.asked:
            found.ask(one, np.array(indices, dtype=np.int64), how)
    if wanted.front:
        indices = clouds.front(found, indices, wanted.front)
    if wanted.order is not None:
        indices = clouds.ordered(found, indices, wanted.order, descending=wanted.descending)
    if wanted.verify and not wanted.time:
        found.ask(TIME, np.array(indices[: wanted.verify], dtype=np.int64), how)
    return Chosen(indices)


def shown(found: Cloud, chosen: Chosen, wanted: Wanted) -> list[int]:
    """The settings that the table shows."""
    many = found.size > clouds.MOST_BUILT and not wanted.front
    top = wanted.top if wanted.top is not None else (SHOWN if many else 0)
    return chosen.indices[:top] if top else chosen.indices


def chosen_table(found: Cloud, chosen: Chosen, wanted: Wanted, how: How) -> Table:
    """One row per setting: network, arguments, and every quantity that was asked for."""
    columns = _columns(found.subjects, found.axes, wanted)
    certain = [one for one in wanted.quantities if not any(found.interval(one, index) for index in chosen.indices)]
    absent = {f"{one.key}_{end}" for one in certain for end in _ENDS} | (set() if chosen.nearest else {"excess"})
    columns = [column for column in columns if column.key not in absent]
    rows = []
    for index in shown(found, chosen, wanted):
        row: dict[str, Any] = {"network": found.subjects[found.place(index)[0]].full_name}
        row |= {name: str(value) for name, value in found.setting(index).items()}
        for one in wanted.quantities:
            row[one.key] = found.value(one, index)
            row[f"{one.key}_from"], row[f"{one.key}_to"] = found.interval(one, index) or (None, None)
        row["excess"] = chosen.excess.get(index)
        rows.append({column.key: row[column.key] for column in columns})
    return Table(
        _title(found, wanted),
        tuple(columns),
        tuple(rows),
        tuple(_notes(found, chosen, wanted, how)),
        _meaning(wanted, how),
    )


def _columns(subjects: Sequence[Subject], axes: Sequence[Varied], wanted: Wanted) -> list[Column]:
    """Every column that the table may have."""
    several = len(subjects) > 1 or not axes
    columns = [Column("network", "network", "text", priority=100)] if several else []
    columns += [Column(axis.name, axis.name, "text", priority=100) for axis in axes]
    for one in wanted.quantities:
        columns.append(Column(one.key, one.header, one.kind, priority=_PRIORITY.get(one.name, 90)))
        columns += [Column(f"{one.key}_{end}", f"95% {end}", one.kind, priority=70) for end in _ENDS]
    return [*columns, Column("excess", "worst limit missed (times)", "ratio", priority=95)]


def _title(found: Cloud, wanted: Wanted) -> str:
    names = ", ".join(one.name for one in found.subjects)
    over = f" over {', '.join(axis.name for axis in found.axes)}" if found.axes else ""
    kept = f" with {', '.join(map(str, wanted.limits))}" if wanted.limits else ""
    by = f"Front by {', '.join(one.header for one in wanted.front)}: " if wanted.front else ""
    return f"{by}{names}{over}{kept}"


def _meaning(wanted: Wanted, how: How) -> str:
    images = "" if how.batch_size in (None, 1) else f"; a batch of {how.batch_size}"
    timed = any(one.kind == "seconds" for one in wanted.quantities)
    threads = f"; times of {threads_text(how.threads)}" if timed else ""
    return "; ".join(f"{one.header}: {one.meaning}" for one in wanted.quantities) + images + threads


def _notes(found: Cloud, chosen: Chosen, wanted: Wanted, how: How) -> list[str]:
    possible, rows = len(found.possible), len(shown(found, chosen, wanted))
    limits = " and ".join(map(str, wanted.limits))
    if chosen.nearest:
        lead = f"none of {possible:,} settings has {limits}; the table shows the {rows} nearest"
    else:
        left = len(chosen.indices)
        what = "on the front" if wanted.front else f"with {limits}" if limits else "can be built"
        lead = f"{left:,} of {found.size:,} settings {what}"
        lead += f", {rows} shown" if rows < left else ""
        lead += "; --top 0 shows all" if rows < left and wanted.top is None else ""
    notes = [lead, *found.notes, *how.remarks]
    notes += _against_measured(found, wanted)
    refused = found.size - possible
    if refused:
        notes.append(
            f"{refused:,} of {found.size:,} settings cannot be built, for example {'; '.join(_refusals(found, 1))}"
        )
    for one in wanted.quantities:
        pairs = [] if chosen.nearest else clouds.alike(found, shown(found, chosen, wanted), one)
        if pairs:
            said = some_of([f"{found.named(first)} and {found.named(second)}" for first, second in pairs], "; ", 3)
            notes.append(f"alike in {one.name}, their intervals overlap: {said}")
        unstated = [f"{subject.name}: {parts[0][1]}" for subject, costs in zip(found.subjects, found.found, strict=True)
                    if one.formula and (parts := costs.unstated.get(one.formula))]  # fmt: skip
        notes += [f"{one.name} is not stated for {text}" for text in unstated]
    return notes


def _against_measured(found: Cloud, wanted: Wanted) -> list[str]:
    """How far the settings that were timed are from their predictions, and which of them miss a limit."""
    timed = {
        index: (reading.value, predicted)
        for index, reading in found.asked.get(TIME.name, {}).items()
        if reading.value is not None and (predicted := found.value(PREDICTED, index))
    }
    if PREDICTED not in wanted.quantities or not timed:
        return []
    ratios = [measured / predicted for measured, predicted in timed.values()]
    span = " to ".join(dict.fromkeys((f"{min(ratios):.2f}", f"{max(ratios):.2f}")))
    notes = [f"settings that were timed took {span} times as long as predicted ({len(timed)} timed)"]
    for limit in wanted.limits:
        if limit.quantity is PREDICTED:
            missed = [found.named(index) for index, (measured, _) in timed.items() if not limit.met(measured)]
            if missed:
                said = some_of(missed, "; ", 3)
                notes.append(f"as timed, {len(missed)} of {len(timed)} settings miss the limit {limit}: {said}")
    return notes


def _refusals(found: Cloud, most: int) -> list[str]:
    """Examples of settings that cannot be built, each with its reason."""
    examples = []
    for number, costs in enumerate(found.found):
        for part in costs.refusals[:most]:
            index = int(part[0])
            start = sum(one.size for one in found.found[:number])
            examples.append(f"{found.named(start + index)}: {costs.refusal(index)}")
    return examples[:most]


def _objects(found: Cloud, chosen: Chosen, wanted: Wanted) -> list[dict[str, Any]]:
    several = len(found.subjects) > 1
    objects = []
    for index in shown(found, chosen, wanted):
        one: dict[str, Any] = {"network": found.subjects[found.place(index)[0]].full_name} if several else {}
        one["setting"] = found.setting(index)
        for quantity in wanted.quantities:
            one[quantity.key] = found.value(quantity, index)
            if interval := found.interval(quantity, index):
                one[f"{quantity.key}_interval"] = list(interval)
        if chosen.nearest:
            one["excess"] = chosen.excess[index]
        objects.append(one)
    return objects


def _draw(found: Cloud, chosen: Chosen, wanted: Wanted, out: Path) -> list[Path]:
    from e4profile.questions.sweep.drawing import front_plot
    from e4profile.show.style import paper_style

    with paper_style():
        paths = save_plots([front_plot(found, chosen.indices, wanted)], out)
    note(f"wrote {', '.join(path.name for path in paths)} to {out}")
    return paths
