"""Where the MACs go: each network's by named term, stacked to the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.conventions import MAC_KINDS
from e4profile.errors import SettingError
from e4profile.questions.figures import Figure
from e4profile.show.numbers import si
from e4profile.show.style import (
    SPARE_COLOURS,
    TERM_COLOURS,
    Plot,
    beside,
    finish,
    named_rows,
    new_figure,
    stacked_shares,
)

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject

_ROW_INCHES = 0.2
_TOTAL_EMS = 6.2
_INVISIBLE_SHARE = 0.003
_NAMED_SHARE = 0.095
REST = "further terms"

_DEFAULT_MODELS = (
    "p4-cnn", "e4net", "e4net-large", "p4-r18", "p4-e4r18", "p4m-r18", "p4m-e4r18",
)  # fmt: skip


def default_models() -> tuple[str, ...]:
    """Networks of He et al. 2021, each E4 network after the G-CNN it is compared with."""
    return _DEFAULT_MODELS


def terms_rows(networks: Sequence[Subject]) -> list[dict[str, Any]]:
    """One row per network and named term with ``macs``, those of one image, and ``share`` of the network's.

    Each network is called with its own inputs. Without a closed form of the whole, layers that have one keep
    their terms, at the shapes recorded from the run, and all else is named by the kind of what runs: convolution,
    linear, aggregation, attention.

    Raises:
        SettingError: for a published network with a part that has no closed form, or a network without MACs.
        UserCodeError: for what a user-defined model raises.
    """
    rows = []
    for network in networks:
        found = macs_by_named_term(network)
        whole = sum(found.values())
        if not whole:
            raise SettingError(f"{network.name} runs no MACs, so no term has a share")
        rows += [
            {"model": network.short_name, "term": term, "macs": macs, "share": macs / whole}
            for term, macs in found.items()
        ]
    return rows


def macs_by_named_term(network: Subject) -> dict[str, int]:
    """MACs of one image by the layers' own names of their terms, in order of execution."""
    from e4profile.witnesses.counts.closed_form import count_closed_form
    from e4profile.witnesses.variants import VariantCounter

    if network.costed_whole:
        return count_closed_form(network.build_to_count(), network.shape).macs_by_term
    return VariantCounter().on_meta(network, _terms_that_run)


def _terms_that_run(network: Subject) -> dict[str, int]:
    """The terms of the layers that have a closed form; all else that runs has its kind for a name."""
    from e4profile.witnesses.counts.measure import measure

    measured = measure(network, ())
    if measured.sizes == "recorded" and measured.differences:
        return {kind: macs for kind, macs in measured.dispatch.operations.items() if kind in MAC_KINDS and macs}
    formed = {layer.path: layer.macs_by_term for layer in measured.closed.layers}
    rest = measured.dispatch.rolled_up(formed)
    found: Counter[str] = Counter()
    for path in [*formed, *(path for path in rest if path not in formed)]:
        amounts = formed[path] if path in formed else rest[path].operations
        found.update({term: n for term, n in amounts.items() if n and (path in formed or term in MAC_KINDS)})
    return dict(found)


def terms_plot(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    title: tuple[str, str] = ("MACs by named term", "shares of each network"),
    further: Sequence[str] = (),
) -> Plot:
    """One bar per network, its terms as shares of its MACs, the MACs beside it.

    Terms beyond the palette are drawn together as ``further terms``; the numbers keep them apart.

    Args:
        name: of the files.
        rows: with the keys of ``terms_rows``.
        title: the subject, and what is shown of it.
        further: sentences below the figure.

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
        whole = sum(terms.values())
        rest = sum(amount for term, amount in terms.items() if term not in colours)
        percents = {term: 100 * amount / whole for term, amount in {**terms, REST: rest}.items()}
        stacked_shares(axes, place, percents, colours, height=0.74, named=100 * _NAMED_SHARE)
        beside(axes, _TOTAL_EMS, place, si(whole), "black")
    beside(axes, _TOTAL_EMS, -0.85, "MACs", "black")
    named_rows(axes, list(bars))
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the network's MACs in %")
    handles = [Patch(color=colour, label=_label(term, rows)) for term, colour in colours.items()]
    finish(figure, *title, handles, further)
    return Plot(name, figure, list(rows))


def _colours(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A colour per term: the known ones first, then the largest others, the rest together."""
    largest: dict[str, float] = {}
    for row in rows:
        largest[row["term"]] = max(largest.get(row["term"], 0.0), row["share"])
    colours = {term: colour for term, colour in TERM_COLOURS.items() if term in largest}
    others = sorted((term for term in largest if term not in TERM_COLOURS), key=lambda term: -largest[term])
    own = others if len(others) <= len(SPARE_COLOURS) else others[: len(SPARE_COLOURS) - 1]
    colours |= dict(zip(own, SPARE_COLOURS, strict=False))
    return colours if len(own) == len(others) else {**colours, REST: SPARE_COLOURS[-1]}


def _label(term: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A term too thin to see in any bar says so, or its colour would be searched in vain."""
    shares = [row["share"] for row in rows if row["term"] == term]
    return f"{term} (< {100 * _INVISIBLE_SHARE:g}%)" if shares and max(shares) < _INVISIBLE_SHARE else term


FIGURE = Figure("terms", "each network's MACs stacked by named term", terms_rows, terms_plot, default_models, place=3)
