"""Where the MACs go: each network's named terms stacked to the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from e4profile.errors import SettingError
from e4profile.show.axes import readable_on
from e4profile.show.numbers import si
from e4profile.show.style import SPARE_COLOURS, TERM_COLOURS, Plot, beside, finish, new_figure

_ROW_INCHES = 0.2
_TOTAL_POINTS = 34
_INVISIBLE_SHARE = 0.003
_NAMED_SHARE = 0.095
REST = "further terms"
_SPARE = (*SPARE_COLOURS[:-1], "#332288", "#DDCC77", "#882255", SPARE_COLOURS[-1])


def terms_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """One bar per network, its terms as shares of its MACs, the MACs beside it.

    Terms beyond the palette are drawn together as ``further terms``; the numbers keep them apart.

    Args:
        name: of the files.
        rows: with the keys of ``e4profile.questions.formula.terms_rows.terms_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.patches import Patch

    if not rows:
        raise SettingError("no terms to draw")
    bars: dict[str, dict[str, int]] = {}
    for row in rows:
        bars.setdefault(row["model"], {})[row["term"]] = row["macs"]
    colours = _colours(rows)
    figure = new_figure(0.55 + _ROW_INCHES * len(bars))
    axes = figure.subplots()
    for place, terms in enumerate(bars.values()):
        whole, edge = sum(terms.values()), 0.0
        for term, colour in colours.items():
            drawn = terms.get(term, 0) if term != REST else sum(v for t, v in terms.items() if t not in colours)
            length = 100 * drawn / whole
            axes.barh(place, length, left=edge, height=0.74, color=colour, edgecolor="white", linewidth=0.3)
            if length >= 100 * _NAMED_SHARE:
                axes.text(
                    edge + length / 2, place, f"{length:.0f}%", ha="center", va="center", fontsize=5.5,
                    color=readable_on(colour),
                )  # fmt: skip
            edge += length
        beside(axes, _TOTAL_POINTS, place, si(whole), "black")
    beside(axes, _TOTAL_POINTS, -0.85, "MACs", "black")
    axes.set_yticks(range(len(bars)), list(bars))
    axes.tick_params(axis="y", left=False)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of the network's MACs in %")
    handles = [Patch(color=colour, label=_label(term, rows)) for term, colour in colours.items()]
    finish(figure, "MACs by named term", "shares of each network", handles)
    return Plot(name, figure, list(rows))


def _colours(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A colour per term: the known ones first, then the largest others, the rest together."""
    largest: dict[str, float] = {}
    for row in rows:
        largest[row["term"]] = max(largest.get(row["term"], 0.0), row["share"])
    colours = {term: colour for term, colour in TERM_COLOURS.items() if term in largest}
    others = sorted((term for term in largest if term not in TERM_COLOURS), key=lambda term: -largest[term])
    own = others if len(others) <= len(_SPARE) else others[: len(_SPARE) - 1]
    colours |= dict(zip(own, _SPARE, strict=False))
    return colours if len(own) == len(others) else {**colours, REST: _SPARE[-1]}


def _label(term: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A term too thin to see in any bar says so, or its colour would be searched in vain."""
    shares = [row["share"] for row in rows if row["term"] == term]
    return f"{term} (< {100 * _INVISIBLE_SHARE:g}%)" if shares and max(shares) < _INVISIBLE_SHARE else term
