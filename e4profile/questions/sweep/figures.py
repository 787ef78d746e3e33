"""The figures of a sweep, drawn from its records: cost against settings, E4 against G-CNN, terms, stock counters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e4profile.questions.count.figure import counter_row, counters_plot
from e4profile.questions.figures import save_plots
from e4profile.questions.formula.figure_terms import terms_plot
from e4profile.questions.sweep.figure_cost import cost_plot
from e4profile.show.numbers import MISSING, fixed
from e4profile.show.style import (
    E4_COLOUR,
    GCNN_COLOUR,
    LIGHT_GREY,
    Plot,
    around,
    beside,
    finish,
    log_axis,
    new_figure,
    paper_style,
)
from e4profile.witnesses.counts.registry import REGISTRY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

PAPER: dict[str, int] = {"width": 16, "kernel": 5, "reduction": 1, "slices": 2}
"""He et al. 2021, section 5.1: the setting around which the figures vary one value at a time."""

_SYMBOLS = {"width": "c", "kernel": "k", "reduction": "r", "slices": "s"}
_MOST_BARS = 12
_MOST_DOTS = 30
_ROW_INCHES = 0.135
_GAP_ROWS = 0.5
_RATIO_EMS = 4.0


def draw_sweep(rows: Sequence[Row], out: Path) -> list[Path]:
    """Draw the figures of a sweep into a folder, or files named after one, and return the paths written."""
    with paper_style():
        return save_plots(sweep_plots(rows), out)


def sweep_plots(rows: Sequence[Row]) -> list[Plot]:
    """The figures of a sweep; the same rows give the same bytes.

    A figure that the rows cannot fill (nothing varies, no baseline, no counter) is left out. With several
    models or groups each has its own figures, named after it.

    Args:
        rows: of ``e4profile.questions.sweep.sweeps.Sweep.rows_for_figures``.
    """
    gathered = studies(rows)
    plots: list[Plot] = []
    for study in gathered:
        suffix = "" if len(gathered) == 1 else re.sub(r"[^\w.]+", "-", f"-{study.model}-{study.group}")
        plots += [plot for name, draw in FIGURES.items() if (plot := draw(study, name + suffix)) is not None]
    return plots


@dataclass(frozen=True)
class Study:
    """All settings of one network under one group, with the G-CNNs of the same topology."""

    model: str
    group: str
    rows: tuple[Row, ...]
    baselines: tuple[Row, ...]

    @property
    def varying(self) -> list[str]:
        """The axes on which the settings differ."""
        return [axis for axis in _SYMBOLS if len({row[axis] for row in self.rows}) > 1]

    @property
    def title(self) -> str:
        """``e4net, p4, width 16``."""
        width = self.rows[0]["width"]
        one_width = width is not None and "width" not in self.varying
        return f"{self.model}, {self.group}" + (f", width {width}" if one_width else "")

    def label(self, row: Row, axes: Sequence[str] = tuple(_SYMBOLS)) -> str:
        """The values of a setting: ``k=5 r=1 s=2``, a width where several are compared; the network's name of one."""
        named = [axis for axis in axes if row[axis] is not None and (axis != "width" or axis in self.varying)]
        values = " ".join(f"{_SYMBOLS[axis]}={row[axis]}" for axis in named)
        return f"G-CNN {values}".strip() if row["baseline"] else values if len(self.rows) > 1 else self.model

    @property
    def base(self) -> Row:
        """The setting closest to the paper's: its value on each axis that has it, else the first value."""
        held = {}
        for axis in _SYMBOLS:
            values = [row[axis] for row in self.rows]
            held[axis] = PAPER[axis] if PAPER[axis] in values else values[0]
        return max(self.rows, key=lambda row: sum(row[axis] == value for axis, value in held.items()))

    def along(self, axis: str) -> list[Row]:
        """The settings that differ from the base on no other axis, in increasing order."""
        base, others = self.base, [other for other in _SYMBOLS if other != axis]
        chosen = [row for row in self.rows if all(row[other] == base[other] for other in others)]
        return sorted(chosen, key=lambda row: row[axis] or 0)

    def at_most(self, limit: int) -> list[Row]:
        """All settings when they are few, else those that differ from the base on at most one axis."""
        if len(self.rows) <= limit:
            return list(self.rows)
        near = {id(row) for axis in _SYMBOLS for row in self.along(axis)}
        return [row for row in self.rows if id(row) in near]

    def baseline(self, row: Row) -> Row | None:
        """The G-CNN with the width and the kernel of a setting."""
        return next((one for one in self.baselines if _shape(one) == _shape(row)), None)

    def bars(self) -> list[Row]:
        """At most a dozen settings, behind the G-CNNs of their widths and kernels."""
        settings = self.at_most(_MOST_BARS)
        shapes = {_shape(row) for row in settings}
        return [*(one for one in self.baselines if _shape(one) in shapes), *settings]

    def thinned(self, shown: Sequence[Row]) -> list[str]:
        """What is left out of a figure, in a sentence; nothing where all settings are shown."""
        settings = sum(not row["baseline"] for row in shown)
        left_out = settings < len(self.rows)
        return [f"{settings} of {len(self.rows)} settings: one value varied at a time."] if left_out else []


def studies(rows: Sequence[Row]) -> list[Study]:
    """Gather rows by network and group, in the order in which they first appear."""
    keys = dict.fromkeys((row["card"], row["model"], row["group"]) for row in rows if not row["baseline"])
    return [
        Study(
            model,
            group,
            tuple(row for row in rows if (row["model"], row["group"], row["baseline"]) == (model, group, False)),
            tuple(row for row in rows if (row["card"], row["group"], row["baseline"]) == (card, group, True)),
        )
        for card, model, group in keys
    ]


def _shape(row: Row) -> tuple[Any, Any]:
    return row["width"], row["kernel"]


def cost_rows(study: Study) -> list[dict[str, Any]]:
    """As ``e4profile.questions.sweep.figure_cost.cost_rows`` has them, of the settings that were swept."""
    varied = {axis: study.along(axis) for axis in study.varying}
    found = []
    for axis, rows in varied.items():
        for row in rows if len(rows) > 1 else ():
            gcnn = study.baseline(row) or {"params_formula": None, "macs_formula": None}
            costs = {
                f"{quantity}_{name}": row[f"{quantity}_{column}"]
                for quantity in ("params", "macs")
                for name, column in (("printed", "printed_form"), ("closed", "formula"), ("measured", "measured"))
            }
            found.append(
                {
                    "model": study.model, "group": study.group, "setting": axis, "value": row[axis],
                    "own": row is study.base, **costs, "agrees": row["agrees"],
                    "gcnn_params": gcnn["params_formula"], "gcnn_macs": gcnn["macs_formula"],
                }
            )  # fmt: skip
    return found


def term_rows(study: Study) -> list[dict[str, Any]]:
    """As ``e4profile.questions.formula.figure_terms.terms_rows`` has them, one network per setting.

    The terms of a setting add up to the MACs of the sweep's table.
    """
    found = []
    for row in study.bars():
        terms, whole = row["terms"], row["macs_formula"]
        assert sum(terms.values()) == whole, f"{study.label(row)}: terms (={terms}) are not the {whole} MACs"
        label = study.label(row)
        found += [{"model": label, "term": term, "macs": macs, "share": macs / whole} for term, macs in terms.items()]
    return found


def counter_rows(study: Study) -> list[dict[str, Any]]:
    """As ``e4profile.questions.count.figure.counter_rows`` has them, one network per setting."""
    return [
        counter_row(
            study.label(row), counter, row["macs_measured"], row[counter],
            [amount for cause, amount in row["gaps"].get(counter, {}).items() if cause != "unexplained"],
        )
        for row in study.bars()
        for counter in (spec.name for spec in REGISTRY.values() if spec.raw and spec.name in row)
    ]  # fmt: skip


def gcnn_rows(study: Study) -> list[dict[str, Any]]:
    """One row per setting that has a G-CNN of its width and kernel, behind that G-CNN: both costs and their ratios."""
    shown = [(row, base) for row in study.at_most(_MOST_DOTS) if (base := study.baseline(row)) is not None]
    shown.sort(key=lambda pair: tuple(value or 0 for value in _shape(pair[0])))
    found: list[dict[str, Any]] = []
    for row, base in shown:
        first = not found or found[-1]["baseline_label"] != study.label(base)
        found += [_gcnn_row(study, one, base) for one in ([base, row] if first else [row])]
    return found


def _gcnn_row(study: Study, row: Row, base: Row) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("model", "group", *_SYMBOLS)},
        "label": study.label(row, ("reduction", "slices") if row is not base else tuple(_SYMBOLS)),
        "baseline_label": study.label(base),
        "macs": row["macs_formula"], "params": row["params_formula"],
        "baseline_macs": base["macs_formula"], "baseline_params": base["params_formula"],
        **{name: row[name] if row[name] is None else float(row[name]) for name in ("macs_ratio", "params_ratio")},
    }  # fmt: skip


def _cost(study: Study, name: str) -> Plot | None:
    rows = cost_rows(study)
    return cost_plot(name, rows) if rows else None


def _terms(study: Study, name: str) -> Plot | None:
    rows = term_rows(study)
    title = (study.title, "MACs by named term, in shares")
    return terms_plot(name, rows, title, study.thinned(study.bars())) if rows else None


def _counters(study: Study, name: str) -> Plot | None:
    rows = counter_rows(study)
    title = (study.title, "what stock counters see")
    some = any(row["reported"] is not None for row in rows)
    return counters_plot(name, rows, title, study.thinned(study.bars())) if some else None


def _gcnn(study: Study, name: str) -> Plot | None:
    """A dot per setting and a line per baseline on logarithmic axes, MACs beside parameters; the ratio at the right."""
    from matplotlib.lines import Line2D

    rows = gcnn_rows(study)
    if not rows:
        return None
    places, place = [], -_GAP_ROWS
    for row in rows:
        place += _GAP_ROWS if row["label"] == row["baseline_label"] else 0
        places.append(place)
        place += 1
    figure = new_figure(0.5 + _ROW_INCHES * place)
    left, right = figure.subplots(1, 2, sharey=True)
    _dots(left, rows, places, "macs", "M MACs", 1e6)
    large = max(row["params"] for row in rows) >= 1e6
    _dots(right, rows, places, "params", "M parameters" if large else "thousand parameters", 1e6 if large else 1e3)
    left.set_yticks(places, [row["label"] for row in rows])
    for label, row in zip(left.get_yticklabels(), rows, strict=True):
        label.set_color(GCNN_COLOUR if row["label"] == row["baseline_label"] else "black")
    left.set_ylim(place - 0.3, -0.7)
    handles = [
        Line2D([], [], color=GCNN_COLOUR, marker="s", label="G-CNN"),
        Line2D([], [], color=E4_COLOUR, marker="o", linestyle="none", label="E4 (at the right: E4 / G-CNN)"),
    ]
    shown = sum(row["label"] != row["baseline_label"] for row in rows)
    compared = sum(study.baseline(row) is not None for row in study.rows)
    reasons = [
        *(["those with a baseline"] if compared < len(study.rows) else []),
        *(["one value varied at a time"] if len(study.rows) > _MOST_DOTS else []),
    ]
    remarks = [f"{shown} of {len(study.rows)} settings: {', '.join(reasons)}."] if shown < len(study.rows) else []
    finish(figure, study.title, "E4 against G-CNN", handles, remarks)
    return Plot(name, figure, rows)


def _dots(axes: Axes, rows: Sequence[Row], places: Sequence[float], quantity: str, unit: str, scale: float) -> None:
    for row, place in zip(rows, places, strict=True):
        cost, reference = row[quantity] / scale, row[f"baseline_{quantity}"] / scale
        if row["label"] == row["baseline_label"]:
            below = sum(one["baseline_label"] == row["label"] for one in rows) - 1
            axes.plot([reference] * 2, [place, place + below], color=GCNN_COLOUR)
            axes.plot([reference], [place], color=GCNN_COLOUR, marker="s")
            continue
        axes.plot([cost, reference], [place] * 2, color=LIGHT_GREY, linewidth=0.7, zorder=1)
        axes.plot([cost], [place], color=E4_COLOUR, marker="o", zorder=3)
        ratio = row[f"{quantity}_ratio"]
        text = MISSING if ratio is None else f"{fixed(ratio, 2 if ratio >= 0.1 else 3)}×"
        beside(axes, _RATIO_EMS, place, text, E4_COLOUR)
    costs = [row[name] / scale for row in rows for name in (quantity, f"baseline_{quantity}")]
    log_axis(axes, "x", *around(costs, 1.15))
    axes.set_xlabel(f"{unit} (log)")
    axes.tick_params(axis="y", left=False)
    axes.grid(visible=False, axis="y")


FIGURES: dict[str, Callable[[Study, str], Plot | None]] = {
    "cost-against-settings": _cost,
    "e4-against-gcnn": _gcnn,
    "named-terms": _terms,
    "stock-counters": _counters,
}
"""Every figure of a sweep by the name of its files."""
