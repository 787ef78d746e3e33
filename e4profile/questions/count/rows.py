"""The per-layer table of one network: every counter side by side, rolled up to the closed form's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e4profile.conventions import TRANSFORM, convention
from e4profile.errors import E4ProfileError, some_of
from e4profile.subjects.subject import Subject
from e4profile.witnesses.counts.base import Count, LayerCount, owner
from e4profile.witnesses.counts.gap import Gap
from e4profile.witnesses.counts.measure import Measurement
from e4profile.witnesses.counts.registry import REGISTRY

IN_IRREPS = "in the irrep basis:"
"""How the note of ``irrep_basis`` begins."""


def count_columns(counters: Sequence[str]) -> list[str]:
    """The columns of ``count_rows``: agreement first when both exact counters are there."""
    both = {"closed-form", "dispatch"} <= set(counters)
    return [
        *(["agrees"] if both else []),
        "path",
        "layer",
        "params",
        *(REGISTRY[name].key for name in counters),
        "output",
    ]


def count_rows(measured: Measurement, counters: Sequence[str], convention_name: str = "macs") -> list[dict[str, Any]]:
    """One row per layer, in order of execution, with the keys of ``count_columns``.

    ``output`` is the shape that the layer returned. ``closed_form`` and ``dispatch`` hold the layer's cost under the
    convention; the first has no figure where that charges what runs element by element. A stock counter's column holds
    what it reports, in its own convention. ``agrees`` compares parameters and every kind of operation; it is None for a
    layer without a closed form, or in which an unknown operator ran.

    Raises:
        UnknownNameError: for an unknown convention.
    """
    ran = measured.dispatch.charging(convention_name)
    counts: dict[str, Count] = {"closed-form": measured.closed, "dispatch": ran, **measured.raw}
    # no closed form states what runs element by element
    by_form = not convention(convention_name).elementwise
    paths = [layer.path for layer in measured.closed.layers]
    rolled = {name: counts[name].rolled_up(paths) for name in counters if name in counts}
    paths += [path for layers in rolled.values() for path in layers if path not in paths]
    formed = {layer.path for layer in measured.closed.layers}
    if measured.sizes != "topology":
        paths = _as_built(paths, ran)
    disagreeing = {difference.path for difference in measured.differences}
    undecided = {owner(path, paths) for ran in measured.dispatch.uncounted_in.values() for path in ran}
    rows = []
    for path in dict.fromkeys(paths):
        seen = [layers[path] for layers in rolled.values() if path in layers]
        if not seen or not any(layer.params or layer.operations for layer in seen):
            continue
        agrees = path not in disagreeing if measured.sizes == "topology" or path in formed else None
        row: dict[str, Any] = {
            "agrees": None if agrees and path in undecided else agrees,
            "path": path,
            "layer": seen[0].layer,
            "params": seen[0].params,
        }
        for name in counters:
            layer = rolled[name].get(path) if name in rolled else None
            absent = name == "closed-form" and measured.sizes != "topology" and path not in formed
            unknown = name not in rolled or absent or (name == "closed-form" and not by_form)
            row[REGISTRY[name].key] = None if unknown else _amount(layer, counts[name], convention_name)
        row["output"] = measured.dispatch.outputs.get(path)
        rows.append({key: row[key] for key in count_columns(counters)})
    return rows


def _as_built(paths: Sequence[str], ran: Count) -> list[str]:
    """Paths in the order of the modules, where the closed form names only some of them."""
    order = [layer.path for layer in ran.layers]

    def place(path: str) -> int:
        inside = f"{path}." if path else ""
        return next((i for i, one in enumerate(order) if one == path or one.startswith(inside)), len(order))

    return sorted(dict.fromkeys(paths), key=place)


def _amount(layer: LayerCount | None, count: Count, convention_name: str) -> int:
    if layer is None:
        return 0
    return sum(layer.operations.values()) if count.raw else layer.total(convention_name)


def gap_notes(measured: Measurement, convention_name: str = "macs") -> list[str]:
    """Each raw counter's deviation from what runs, in words and exact numbers.

    Counters are held against the MACs that run, whatever ``convention_name`` the table is in.
    """
    notes = []
    if measured.gaps and convention_name != "macs":
        who = f"{' and '.join(measured.gaps)} {'are' if len(measured.gaps) > 1 else 'is'}"
        notes.append(f"{who} compared with the MACs that run, not with the totals by {convention_name}")
    for name, gap in measured.gaps.items():
        share = f" ({100 * gap.reported / gap.truth:.4g}%)" if gap.truth else ""
        rest = "; operators are unknown, so the MACs that run are not all known" if measured.dispatch.uncounted else ""
        notes.append(f"{name} reports {gap.reported:,} where {gap.truth:,} MACs run{share}: {gap_causes(gap)}{rest}")
    notes += [f"{name}: no figure: {reason}" for name, reason in measured.failures.items()]
    return [*notes, *measured.notes]


def irrep_basis(subject: Subject, measured: Measurement) -> tuple[dict[str, int], list[str]]:
    """MACs, and sums and differences, with group convolutions in the irrep basis, and a line that says so.

    Nothing where that is how they run, where there are none, or where it makes no difference.
    """
    from e4profile.witnesses.variants import in_irreps

    macs = measured.dispatch.macs
    try:
        found = in_irreps(subject, macs)
    except E4ProfileError as error:
        return {}, [f"{IN_IRREPS} no figure: {error}"]
    if found is None:
        return {}, []
    amounts = {"macs": found.total(), "sums_and_differences": found.operations.get(TRANSFORM, 0)}
    share = f" ({100 * amounts['macs'] / macs:.3g}% of the {macs:,} that run)" if macs else ""
    least = "at least " if found.unknown else ""
    return amounts, [
        f"{IN_IRREPS} {least}{amounts['macs']:,} MACs{share} and {amounts['sums_and_differences']:,} sums and "
        "differences (--execution irreps)"
    ]


def gap_causes(gap: Gap) -> str:
    """The causes of a gap with their amounts, and what none explains, as text."""
    causes = [f"{cause.name} {cause.amount:+,}" for cause in gap.causes]
    if gap.unexplained:
        ordered = sorted(gap.unexplained_in.items(), key=lambda item: -abs(item[1]))
        shown = some_of([f"{path or '(network)'} {amount:+,}" for path, amount in ordered])
        causes.append(f"unexplained {gap.unexplained:,} in {shown}")
    return ", ".join(causes) or "no deviation"


def ledger_notes(measured: Measurement) -> list[str]:
    """What the dispatch counter executed without charging it, and what it does not know."""
    from e4profile.witnesses.counts.dispatch import families

    free = families(measured.dispatch)
    unknown = some_of([f"{name} ({times})" for name, times in measured.dispatch.uncounted.items()], most=25)
    known = "every operator that ran is known" if not unknown else f"unknown operators: {unknown}"
    calls = f"{sum(free.values())} {'other' if unknown else 'of the'} calls"
    said = f"; {calls} cost nothing ({', '.join(free)})" if free else ""
    notes = [f"coverage: {known}{said}"]
    if measured.dispatch.uncounted:
        notes.append(
            "unknown operators are not in any total, so that totals are lower bounds; say what one costs: "
            "e4profile.register_operator('mylib::op', lambda *args, out, **kw: {'convolution': ...}), or "
            "e4profile.register_free('mylib::op')"
        )
    return [*notes, *summed_notes(measured)]


def summed_notes(measured: Measurement) -> list[str]:
    """A warning where element-by-element products are summed: a contraction that no operator shows."""
    summed = measured.dispatch.summed_products
    if not summed:
        return []
    where = some_of([path or "(network)" for path in summed])
    return [
        f"warning: products summed: {sum(summed.values()):,} MACs not charged, in {where}; give the module "
        "operation_kind and counts_products to charge them"
    ]
