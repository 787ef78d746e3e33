"""Which layers moved between two counts of a network, and what their numbers say about why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from e4profile.records.baseline import LayerCosts, ModelCosts

SHOWN_LAYERS = 5
"""Layers named in a message; the report has all of them."""

UNITS = {"params": "parameters", "macs": "MACs", "saved_bytes": "saved bytes"}


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
        name = f"{self.path or '(network)'} ({self.layer})"
        return f"{name} {self.before:,} -> {self.after:,}, {self.why}"


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
    """The largest moves in one line."""
    rest = f"; and {len(changes) - SHOWN_LAYERS} more" if len(changes) > SHOWN_LAYERS else ""
    return "; ".join(str(change) for change in changes[:SHOWN_LAYERS]) + rest
