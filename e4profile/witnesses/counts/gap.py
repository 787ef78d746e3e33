"""Why a third-party counter's figure differs from the MACs that really run, cause by cause.

Each cause is read off the two accounts, module by module, and none is computed as what is left over. What the
causes do not explain is reported as a remainder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from e4profile.conventions import MAC_KINDS
from e4profile.witnesses.counts.base import Count

_NORMS = ("norm",)
_ARITHMETIC = (
    "conv", "linear", "addmm", "mm", "bmm", "matmul", "einsum", "baddbmm", "conv2d", "conv1d", "conv3d",
    "scaled_dot_product_attention", "aggregate",
)  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """One named part of the gap, in the counter's unit; negative where the counter misses something."""

    name: str
    amount: int


@dataclass(frozen=True)
class Gap:
    """A raw counter's figure against the truth.

    Attributes:
        counter: the raw counter's name.
        reported: its figure.
        truth: the MACs that really run, by dispatch.
        causes: named parts; ``truth + sum(causes) + remainder == reported``.
        unexplained_in: what no cause accounts for, by module path; modules without any are left out.
    """

    counter: str
    reported: int
    truth: int
    causes: tuple[Cause, ...]
    unexplained_in: Mapping[str, int] = field(default_factory=dict)

    @property
    def remainder(self) -> int:
        """What no cause accounts for in the total, where modules may cancel."""
        return self.reported - self.truth - sum(cause.amount for cause in self.causes)

    @property
    def unexplained(self) -> int:
        """What no cause accounts for, module by module without its sign, so that nothing cancels."""
        return sum(map(abs, self.unexplained_in.values()))


def _class_of(operation: str) -> str:
    name = operation.lower()
    if any(part in name for part in _NORMS):
        return "norm operations charged"
    if name in _ARITHMETIC or name.startswith("conv"):
        return "arithmetic"
    if "pool" in name or "upsample" in name:
        return "pooling charged"
    return "element-by-element operations charged"


def _unseen(kind: str, module_has_own_class: bool) -> str:
    if kind == "convolution":
        return "convolutions unseen" if module_has_own_class else "functional convolutions unseen"
    if kind == "linear":
        return "matrix products unseen"
    return f"{kind} unseen"


def explain(raw: Count, truth: Count) -> Gap:
    """Split a raw counter's deviation into named causes.

    Args:
        raw: what fvcore or thop reported.
        truth: the dispatch counter's account of the same forward pass.
    """
    causes: Counter[str] = Counter()
    reported: dict[str, Counter[str]] = {}
    for layer in raw.layers:
        for operation, amount in layer.operations.items():
            family = _class_of(operation)
            if family == "arithmetic":
                reported.setdefault(layer.path, Counter())[operation] += amount
            else:
                causes[family] += amount
    left = Counter({path: sum(amounts.values()) for path, amounts in reported.items()})
    for layer in truth.layers:
        arithmetic = {kind: layer.operations.get(kind, 0) for kind in MAC_KINDS if layer.operations.get(kind)}
        seen = sum(reported.get(layer.path, {}).values())
        missing = _missing(arithmetic, seen)
        for kind, amount in missing.items():
            causes[_unseen(kind, layer.layer.startswith("Conv"))] -= amount
        left[layer.path] -= sum(arithmetic.values()) - sum(missing.values())
    named = tuple(Cause(name, amount) for name, amount in sorted(causes.items()) if amount)
    unexplained = {path: amount for path, amount in left.items() if amount}
    return Gap(raw.counter, raw.macs, truth.macs, named, unexplained)


def _missing(arithmetic: Mapping[str, int], seen: int) -> Mapping[str, int]:
    """The kinds of one module that a counter did not see, if leaving them out gives what it saw."""
    if seen == 0:
        return arithmetic
    for kind, amount in arithmetic.items():
        if sum(arithmetic.values()) - amount == seen:
            return {kind: amount}
    return {}
