"""Why a stock counter's figure differs from the MACs that really run, cause by cause.

Each cause is read off the two accounts, module by module and operator by operator, and none is computed as what is
left over. What the causes do not explain is reported as a remainder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

from e4profile.conventions import MAC_KINDS
from e4profile.witnesses.counts.base import CHARGED, REORDERED, ROUNDED, Count, LayerCount
from e4profile.witnesses.counts.ledger import FREE
from e4profile.witnesses.counts.registry import REGISTRY

_NOT_SEEN_AT_ONCE = 3
"""So many operators of one module at most are searched for as unseen together: more would fit by chance."""


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


def _class_of(operation: str, runs: bool) -> str:
    """The family of an operation that a counter lists; ``runs`` says whether MACs run in its module."""
    name = operation.lower().rpartition(".")[2]
    if operation in (*CHARGED, ROUNDED, REORDERED):
        return f"{operation} charged" if operation in CHARGED else operation
    if "norm" in name:
        return "norm operations charged"
    if "pool" in name or "upsample" in name or name == "interpolate":
        return "pooling charged"
    if "embedding" in name:
        return "embedding tables charged"
    if name in _PRODUCTS or name.startswith("conv") or (runs and name not in FREE and f"_{name}" not in FREE):
        return "arithmetic"
    return "element-by-element operations charged"


_MATRIX_PRODUCTS = ("addmm", "mm", "bmm", "matmul", "einsum", "baddbmm")
"""In a module that runs convolutions alone they make filters, which evaluation keeps and a trace makes anew."""
_PRODUCTS = (*_MATRIX_PRODUCTS, "linear", "scaled_dot_product_attention", "aggregate")


def _unseen(kind: str, module_has_own_class: bool) -> str:
    if kind == "convolution":
        return "convolutions unseen" if module_has_own_class else "functional convolutions unseen"
    if kind == "linear":
        return "matrix products unseen"
    return f"{kind} unseen"


def explain(raw: Count, truth: Count) -> Gap:
    """Split a raw counter's deviation into named causes.

    Args:
        raw: what a stock counter reported.
        truth: the dispatch counter's account of the same forward pass.
    """
    causes: Counter[str] = Counter()
    ran = {layer.path: _products(layer, truth) for layer in truth.layers}
    reported: Counter[str] = Counter()
    for layer in raw.layers:
        for operation, amount in layer.operations.items():
            products = ran.get(layer.path, {})
            family = _class_of(operation, bool(products))
            if operation in _MATRIX_PRODUCTS and products and all(kind == "convolution" for _, kind in products):
                family = "expansion of filters charged"
            if family == "arithmetic":
                reported[layer.path] += amount
            else:
                causes[family] += amount
    left = Counter(reported)
    spec = REGISTRY.get(raw.counter)
    for layer in truth.layers:
        products, seen = ran[layer.path], reported[layer.path]
        total = sum(products.values())
        missing = _missing(products, seen)
        for (_, kind), amount in missing.items():
            causes[_unseen(kind, layer.layer.startswith("Conv"))] -= amount
        left[layer.path] -= total - sum(missing.values())
        if left[layer.path] and seen > 0 and total:
            for known in spec.known if spec else ():
                if left[layer.path] and known.holds(layer.layer, seen, total):
                    causes[known.name] += left.pop(layer.path)
    named = tuple(Cause(name, amount) for name, amount in sorted(causes.items()) if amount)
    unexplained = {path: amount for path, amount in left.items() if amount}
    return Gap(raw.counter, raw.macs, truth.macs, named, unexplained)


def _products(layer: LayerCount, truth: Count) -> dict[tuple[str, str], int]:
    """The MACs of one module by operator and kind; by kind alone where the account has no operators."""
    operators = truth.by_operator.get(layer.path, {"": layer.operations})
    return {
        (operator, kind): amount
        for operator, amounts in operators.items()
        for kind, amount in amounts.items()
        if kind in MAC_KINDS and amount
    }


def _missing(products: Mapping[tuple[str, str], int], seen: int) -> Mapping[tuple[str, str], int]:
    """The operators of one module that a counter did not see, if leaving them out gives what it saw: the fewest."""
    if seen == 0:
        return products
    unseen = sum(products.values()) - seen
    for size in range(1, min(_NOT_SEEN_AT_ONCE, len(products) - 1) + 1):
        for chosen in combinations(products.items(), size):
            if sum(amount for _, amount in chosen) == unseen:
                return dict(chosen)
    return {}
