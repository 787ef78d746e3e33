"""What Python is told of a count besides its rows: totals, coverage, gaps, and what no counter knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.counts.measure import Measurement


def facts(measured: Measurement, convention_name: str) -> dict[str, Any]:
    """The facts of one network.

    Returns:
        By name: the totals by counter (``totals``; that of a partial closed form has its ``coverage`` beside, that of
        what runs ``at_least`` where operators are unknown), how much of what runs has a closed form (``coverage``),
        the gaps of the raw counters (``gaps``), operators that the ledger does not know (``unknown``), products that
        are summed and not charged (``summed_products``), why a counter gave no figure (``failures``), where the
        closed form's sizes come from (``sizes``: ``topology``, ``recorded`` from the run, or ``none``), and the
        name of the ``convention``.
    """
    counts = {"closed_form": measured.closed, "dispatch": measured.dispatch, **measured.raw}
    marks: Mapping[str, Mapping[str, Any]] = {
        "closed_form": {} if measured.coverage.whole else {"coverage": str(measured.coverage)},
        "dispatch": {"at_least": True} if measured.dispatch.uncounted else {},
    }
    return {
        "totals": {
            name: {"params": one.params, "macs": one.total(convention_name), **marks.get(name, {})}
            for name, one in counts.items()
            if one.layers or name != "closed_form" or not measured.dispatch.layers
        },
        "coverage": str(measured.coverage),
        "gaps": {
            name: {**{cause.name: cause.amount for cause in gap.causes}, "unexplained": gap.unexplained}
            for name, gap in measured.gaps.items()
        },
        "unknown": dict(measured.dispatch.uncounted),
        "summed_products": dict(measured.dispatch.summed_products),
        "failures": dict(measured.failures),
        "sizes": measured.sizes,
        "convention": convention_name,
    }


def facts_of_several(counted: Sequence[tuple[Subject, Measurement]], convention_name: str) -> dict[str, Any]:
    """The same of each network by name, fact by fact."""
    each = {found.full_name: facts(measured, convention_name) for found, measured in counted}
    kinds = [kind for kind in next(iter(each.values())) if kind != "convention"]
    return {**{kind: {name: one[kind] for name, one in each.items()} for kind in kinds}, "convention": convention_name}
