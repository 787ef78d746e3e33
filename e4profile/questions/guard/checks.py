"""One check per budget and per baseline count, with a message that names expected, actual and the layers.

Which layers moved between two counts of a network, and what their numbers say about why, comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from e4profile.errors import some_of
from e4profile.questions.guard.config import Budgets
from e4profile.records.baseline import QUANTITIES, LayerCosts, ModelCosts
from e4profile.show.numbers import sizes
from e4profile.witnesses.counts.base import SAY_THE_COST

if TYPE_CHECKING:
    from e4profile.questions.guard.loading import Loaded
    from e4profile.witnesses.equivariance.report import EquivarianceReport

UNITS = {
    "params": "parameters", "macs": "MACs", "saved_bytes": "saved bytes", "peak_bytes": "peak bytes",
    "forward_peak_bytes": "peak bytes of a forward pass",
}  # fmt: skip
_OF_NO_LAYER = ("peak_bytes", "forward_peak_bytes")
_NAMED = 3
"""Layers that a message names; the comment has them all."""


@dataclass(frozen=True)
class LayerChange:
    """One layer whose amount of one quantity moved.

    Attributes:
        path: dotted, empty for the network itself.
        layer: class name, the new one where it changed.
        quantity: see ``QUANTITIES``.
        before: 0 for a layer that was not there.
        after: 0 for a layer that is gone.
        why: what the numbers say about the cause.
    """

    path: str
    layer: str
    quantity: str
    before: int
    after: int
    why: str

    def __str__(self) -> str:
        return f"{self.path or '(network)'} ({self.layer}) {self.before:,} -> {self.after:,}"


def layer_changes(before: ModelCosts, after: ModelCosts, quantity: str) -> tuple[LayerChange, ...]:
    """Every layer whose amount of a quantity moved, the largest move first."""
    found = []
    for path in dict.fromkeys((*before.layers, *after.layers)):
        old, new = before.layers.get(path), after.layers.get(path)
        was, now = (one.costs.get(quantity, 0) if one else 0 for one in (old, new))
        if was != now:
            name = new.layer if new else before.layers[path].layer
            found.append(LayerChange(path, name, quantity, was, now, _why(path, before, after, quantity)))
    return tuple(sorted(found, key=lambda change: (-abs(change.after - change.before), change.path)))


def _why(path: str, before: ModelCosts, after: ModelCosts, quantity: str) -> str:
    old, new = before.layers.get(path), after.layers.get(path)
    if old is None:
        return _without_counterpart("new", path, after, before)
    if new is None:
        return _without_counterpart("gone", path, before, after)
    return f"{old.layer} became {new.layer}" if old.layer != new.layer else _same_class(old, new, quantity)


def _same_class(old: LayerCosts, new: LayerCosts, quantity: str) -> str:
    same_params = old.costs["params"] == new.costs["params"]
    if quantity == "macs" and same_params:
        ratio = Fraction(new.costs["macs"], old.costs["macs"]) if old.costs["macs"] else None
        times = f"x {ratio} " if ratio is not None and ratio.denominator <= 64 else ""
        return f"{times}at equal parameters: its input's size, its stride or padding, or how often it runs"
    if quantity == "params" and old.costs["macs"] == new.costs["macs"]:
        return "at equal MACs: a bias, an affine, or parameters that no counted operation uses"
    if quantity == "saved_bytes" and same_params:
        return "at equal parameters: what its operations keep for backward, or their sizes"
    return "its parameters changed too" if quantity != "params" else "its channels, kernel or groups"


def _without_counterpart(word: str, path: str, here: ModelCosts, there: ModelCosts) -> str:
    """``new`` or ``gone``, or a renaming where one layer alone on the other side has the very same costs."""
    equal = [name for name, one in there.layers.items() if name not in here.layers and one == here.layers[path]]
    return f"{word}: equal to {equal[0]}, a renamed layer" if len(equal) == 1 else word


def setting_changes(before: ModelCosts, after: ModelCosts) -> list[str]:
    """What was asked differently: builder, input, arguments."""
    found = [
        f"{name} {old} -> {new}"
        for name, old, new in (("build", before.build, after.build), ("input", before.input, after.input))
        if old != new
    ]
    for name in sorted({*before.arguments, *after.arguments}):
        values = [repr(one.arguments[name]) if name in one.arguments else "unset" for one in (before, after)]
        if values[0] != values[1]:
            found.append(f"{name} {values[0]} -> {values[1]}")
    return found


def largest_layers(model: ModelCosts, quantity: str) -> list[str]:
    """The layers that cost most, for a budget that was never met."""
    ranked = sorted(model.layers.items(), key=lambda item: (-item[1].costs.get(quantity, 0), item[0]))
    total = model.costs.get(quantity, 0) or 1
    return [
        f"{path or '(network)'} ({one.layer}) {one.costs.get(quantity, 0):,}, "
        f"{100 * one.costs.get(quantity, 0) / total:.3g}%"
        for path, one in ranked[:3]
        if one.costs.get(quantity, 0)
    ]


def listed(changes: Sequence[LayerChange]) -> str:
    """The largest moves in one line, those of one cause together."""
    by_cause: dict[str, list[str]] = {}
    for change in changes[:_NAMED]:
        by_cause.setdefault(change.why, []).append(str(change))
    said = [f"{', '.join(moves)}: {why}" for why, moves in by_cause.items()]
    return "; ".join([*said, *([f"and {len(changes) - _NAMED:,} more"] if len(changes) > _NAMED else [])])


Status = Literal["pass", "deviation", "no baseline", "not measured"]


@dataclass(frozen=True)
class Check:
    """One budget or one baseline count of one network.

    Attributes:
        model: the network's name.
        name: the key of the budget, ``baseline params``, ``baseline macs``, ..., ``configured`` or ``measured``.
        expected: the limit or the committed count.
        actual: what was found.
        status: ``pass``, ``deviation``, ``no baseline`` or ``not measured``.
        message: expected, actual, the layers responsible and the remedy; for a pass, what it does not include.
        unit: of a size, as the limit is written; empty for bytes and for what is no size.
    """

    model: str
    name: str
    expected: int | float | None
    actual: int | float | None
    status: Status = "pass"
    message: str = ""
    unit: str = ""


def _moved(expected: int, actual: int) -> str:
    if expected == actual:
        return "the total is the same, its layers are not"
    percent = 100 * (actual - expected) / expected if expected else 0
    share = (f", {percent:+.3g}%" if abs(percent) < 1000 else f", {percent:+,.0f}%") if expected else ""
    return f"{actual - expected:+,}{share}"


def _undecided(quantity: str, unknown: Sequence[str], held_to: str, actual: int) -> str:
    """Why an amount that is only a lower bound cannot pass; empty for one that is exact."""
    # what an operator returns and what autograd saves is seen whatever the operator
    if not unknown or quantity not in ("params", "macs"):
        return ""
    return (
        f"{UNITS[quantity]}: expected {held_to}, actual at least {actual:,}, which does not decide it: "
        f"{some_of(unknown, '; ')}; {SAY_THE_COST}"
    )


def check_baseline(
    name: str, before: ModelCosts | None, after: ModelCosts, command: str, unknown: Sequence[str] = ()
) -> Iterator[Check]:
    """One check per quantity: the total and every layer must be as committed.

    Args:
        name: the network's, for the checks.
        before: the committed counts; None where there are none.
        after: the counts now.
        command: how to accept a change, for messages.
        unknown: operators that ran and could not be counted; the counts are lower bounds then, and deviate.
    """
    for quantity, actual in after.costs.items():
        check = Check(name, f"baseline {quantity}", None, actual)
        if before is None or quantity not in before.costs:
            text = f"{UNITS[quantity]}: no baseline, actual {actual:,}; write it with: {command}"
            yield replace(check, status="no baseline", message=text)
            continue
        expected = before.costs[quantity]
        check = replace(check, expected=expected)
        changes = layer_changes(before, after, quantity)
        if expected == actual and not changes:
            undecided = _undecided(quantity, unknown, f"{expected:,} (baseline)", actual)
            yield replace(check, status="deviation", message=undecided) if undecided else check
            continue
        asked = ", ".join(setting_changes(before, after))
        where = "" if quantity in _OF_NO_LAYER else f"layers: {listed(changes) or 'none'}; "
        # the committed figure would be wrong from then on
        why = "the baseline is exact: an improvement has to be accepted too; " if actual < expected else ""
        message = (
            f"{UNITS[quantity]}: expected {expected:,} (baseline), actual {actual:,} ({_moved(expected, actual)}); "
            f"{f'asked differently: {asked}; ' if asked else ''}{where}{why}"
            f"if this is meant, accept it with: {command}"
        )
        yield replace(check, status="deviation", message=message)


def check_bounds(name: str, after: ModelCosts, unknown: Sequence[str]) -> Iterator[Check]:
    """A deviation per quantity that is only a lower bound, because operators ran that are unknown."""
    for quantity, actual in after.costs.items():
        if undecided := _undecided(quantity, unknown, "an exact count (baseline)", actual):
            yield Check(name, f"baseline {quantity}", None, actual, "deviation", undecided)


def check_budgets(
    name: str, budgets: Budgets, loaded: Loaded, after: ModelCosts, before: ModelCosts | None = None
) -> Iterator[Check]:
    """One check per budget that is set.

    Args:
        name: the network's, for the checks.
        budgets: its limits.
        loaded: the network with its counts.
        after: its counts per layer.
        before: the committed counts, so that the layers that grew can be named.

    Raises:
        SettingError: when the equivariance error cannot be taken.
    """
    for quantity in QUANTITIES:
        limit = getattr(budgets, f"{quantity}_max")
        if limit is None:
            continue
        actual = after.costs[quantity]
        unit = budgets.units.get(f"{quantity}_max", "")
        check = Check(name, f"{quantity}_max", limit, actual, unit=unit)
        unknown = loaded.measured.dispatch.unknown_operators
        if undecided := _undecided(quantity, unknown, f"at most {limit:,} (budget)", actual):
            check = replace(check, status="deviation", message=undecided)
        elif actual > limit:
            grown = [c for c in layer_changes(before, after, quantity) if c.after > c.before] if before else []
            largest = "; ".join(largest_layers(after, quantity))
            where = f"grown layers: {listed(grown)}; " if grown else f"largest layers: {largest}; "
            # for people the unit that they wrote, beside every digit
            as_written, found = (f"{text}, " for text in sizes([limit, actual], unit)) if unit else ("", "")
            message = (
                f"{UNITS[quantity]}: expected at most {limit:,} ({as_written}budget), actual {actual:,} "
                f"({found}{_moved(limit, actual)}); {'' if quantity in _OF_NO_LAYER else where}"
                f"if this is meant, raise {quantity}_max"
            )
            check = replace(check, status="deviation", message=message)
        yield check
    if budgets.closed_form:
        yield _closed_form(name, budgets.closed_form_min_percent, loaded)
    if budgets.equivariance_error_max is not None:
        yield _equivariance(name, budgets, budgets.equivariance_error_max, loaded)


def _closed_form(name: str, least: float | None, loaded: Loaded) -> Check:
    measured = loaded.measured
    coverage = measured.coverage
    expected = None if "closed-form" in measured.failures else measured.closed.macs
    check = Check(name, "closed_form", expected, coverage.of_macs)
    if not measured.agrees:
        reasons = [str(difference) for difference in measured.differences]
        if expected is None:
            reasons = [measured.failures["closed-form"]]
        shown = some_of([*reasons, *measured.dispatch.unknown_operators], "; ")
        said = "none" if expected is None else f"{expected:,} MACs"
        message = f"closed form: expected what runs, {coverage.of_macs:,} MACs, actual {said}; layers: {shown}"
        return replace(check, status="deviation", message=message)
    if coverage.whole:
        return check
    message = f"closed form: {coverage}, {coverage.macs:,} of {coverage.of_macs:,} MACs"
    if least is not None and coverage.percent >= least:
        return replace(check, actual=coverage.macs, message=message)
    wanted = (
        "the whole network; for a part of it, state the least that must have one: closed_form_min_percent = ..."
        if least is None
        else f"at least {least:g}% (closed_form_min_percent)"
    )
    return replace(check, status="deviation", message=f"{message}; expected {wanted}")


def _equivariance(name: str, budgets: Budgets, limit: float, loaded: Loaded) -> Check:
    """Of a copy in evaluation mode, with random numbers for what is trained; in float64, or the one that it runs in."""
    from e4profile.witnesses.equivariance.report import RANDOMISED
    from e4profile.witnesses.equivariance.witness import NotInFloat64, witness

    def measured(dtype: str) -> EquivarianceReport:
        field = budgets.field_out
        return witness(loaded.model, loaded.example, group=budgets.group, dtype=dtype, field_out=field, train_steps=0)

    dtype = ""
    with loaded.subject.guarded():
        try:
            found = measured("float64")
        except NotInFloat64:
            found, dtype = measured("float32"), " in float32 (the network does not run in float64)"
    errors = [0.0 if error is None else error for error in found.output[RANDOMISED]]
    worst = max(range(len(errors)), key=errors.__getitem__)
    check = Check(name, "equivariance_error_max", limit, errors[worst])
    if found.unshown is not None:
        message = f"equivariance error: {found.unshown.replace('--field-', 'field_')}, so an error proves nothing"
        return replace(check, status="deviation", message=message)
    # written so that an error which is not a number fails
    if errors[worst] <= limit:
        return replace(check, message=f"equivariance error{dtype}: {errors[worst]:.3g}" if dtype else "")
    broken = [(layer.path or "(network)", layer.worst(RANDOMISED)) for layer in found.broken]
    layers = "; ".join(f"{path} {error:.3g}" for path, error in broken if error is not None and not found.exact(error))
    # a map of another field type than supposed moves otherwise
    asked = f"; not comparable: {found.undecided.replace('--field-', 'field_')}" if found.undecided else ""
    message = (
        f"equivariance error{dtype} under {found.group.element_name(worst)} of {found.group.alias}: expected at most "
        f"{limit:g} (budget), actual {errors[worst]:.3g}; layers that break it on their own: "
        f"{layers or 'none of those that know a group'}{asked}"
    )
    return replace(check, status="deviation", message=message)
