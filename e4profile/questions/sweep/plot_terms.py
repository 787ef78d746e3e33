"""Where the MACs go: stacked bars of the named terms, per setting."""

from __future__ import annotations

from e4profile.questions.sweep.sweep_rows import Study, SweepRow
from e4profile.show.style import SPARE_COLOURS, TERM_COLOURS, Plot, finish, new_figure

MOST_SETTINGS = 12
_ROW_INCHES = 0.17
_INVISIBLE_SHARE = 0.003


def named_terms(study: Study, name: str) -> Plot | None:
    """One bar per setting; None when no row has terms.

    More than 12 settings are thinned to one changed value at a time. The G-CNN stands in the text below: as a
    bar it would be so long that the terms of the others could not be told apart.
    """
    from matplotlib.patches import Patch

    bars = [row for row in study.at_most(MOST_SETTINGS) if sum(row.terms.values())]
    if not bars:
        return None
    terms = _terms(bars)
    colours = _colours(terms)
    figure = new_figure(0.45 + _ROW_INCHES * len(bars))
    axes = figure.subplots()
    places = range(len(bars))
    edges = [0.0] * len(bars)
    for term in terms:
        lengths = [bar.terms.get(term, 0) / 1e6 for bar in bars]
        axes.barh(places, lengths, left=edges, height=0.72, color=colours[term], edgecolor="white", linewidth=0.3)
        edges = [edge + length for edge, length in zip(edges, lengths, strict=True)]
    for place, (bar, edge) in enumerate(zip(bars, edges, strict=True)):
        axes.text(edge, place, f" {sum(bar.terms.values()) / 1e6:.2f}", va="center", fontsize=5.5)
    axes.set_yticks(places, [bar.label(study.label_axes) for bar in bars])
    axes.tick_params(axis="y", left=False)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, max(edges) * 1.12)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("M MACs")
    handles = [Patch(color=colours[term], label=term + _remark(term, bars)) for term in terms]
    finish(figure, study.title, "MACs by named term", handles, _remarks(study, bars))
    data = [
        {
            "model": bar.model,
            "group": bar.group,
            "width": bar.width,
            "kernel": bar.kernel,
            "reduction": bar.reduction,
            "slices": bar.slices,
            "term": term,
            "macs": bar.terms.get(term, 0),
        }
        for bar in bars
        for term in terms
    ]
    return Plot(name, figure, data)


def _terms(bars: list[SweepRow]) -> list[str]:
    """The terms that cost anything: those with a colour of their own first, then others as they come."""
    present = dict.fromkeys(term for bar in bars for term, macs in bar.terms.items() if macs)
    known = [term for term in TERM_COLOURS if term in present]
    return known + [term for term in present if term not in TERM_COLOURS]


def _colours(terms: list[str]) -> dict[str, str]:
    others = [term for term in terms if term not in TERM_COLOURS]
    spare = {term: SPARE_COLOURS[index % len(SPARE_COLOURS)] for index, term in enumerate(others)}
    return {**TERM_COLOURS, **spare}


def _remark(term: str, bars: list[SweepRow]) -> str:
    """A term too thin to see in any bar says so in the legend, or its colour would be searched in vain."""
    share = max(bar.terms.get(term, 0) / sum(bar.terms.values()) for bar in bars)
    return f" (< {100 * _INVISIBLE_SHARE:g}%)" if share < _INVISIBLE_SHARE else ""


def _remarks(study: Study, bars: list[SweepRow]) -> list[str]:
    remarks = []
    if len(bars) < len(study.rows):
        remarks.append(f"{len(bars)} of {len(study.rows)} settings: one value varied at a time.")
    baseline = study.baseline(study.base.width, study.base.kernel)
    if baseline is not None and baseline.terms:
        total = sum(baseline.terms.values()) / 1e6
        remarks.append(f"The G-CNN {baseline.label(study.label_axes)} takes {total:,.2f} M MACs.")
    return remarks
