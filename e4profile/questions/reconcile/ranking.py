"""What a search found, the simplest explanation first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from e4profile.questions.reconcile.space import Change, Rule
from e4profile.witnesses.variants import Counted

if TYPE_CHECKING:
    from e4profile.questions.reconcile.rows import Row

Built: TypeAlias = "tuple[Row, Counted]"
"""A published row and the network built for it."""


def changes_text(changes: tuple[Change, ...]) -> str:
    """The changed arguments in words."""
    return ", ".join(f"{name}={value}" for name, value in changes) or "as given"


def values_of(built: Sequence[Built], rule: Rule) -> list[dict[str, Any]]:
    """Every figure of every row beside what is built, exactly."""
    found = []
    for row, counts in built:
        amounts = {**counts.elements, **counts.operations}
        operations = sum(rule.weights.get(kind, 0) * amount for kind, amount in amounts.items())
        found += [
            {
                "row": row.label,
                "quantity": figure.quantity,
                "published": figure.text,
                "built": counts.params if figure.quantity == "params" else operations,
            }
            for figure in row.figures
        ]
    return found


@dataclass(frozen=True)
class Explanation:
    """One architecture and rule.

    Attributes:
        changes: the arguments that differ from the card.
        rule: how operations are counted.
        built: the network built for each row.
    """

    changes: tuple[Change, ...]
    rule: Rule
    built: tuple[Built, ...]

    @property
    def differences(self) -> int:
        """How many things differ from the card and from plain MACs."""
        return len(self.changes) + len(self.rule.differences)

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "differences": self.differences,
            "changes": dict(self.changes),
            "convention": self.rule.name,
            "rule": list(self.rule.differences),
            "weights": dict(self.rule.weights),
            **self._more(),
            "values": values_of(self.built, self.rule),
        }

    def _more(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Reconciled(Explanation):
    """One that gives all figures.

    Attributes:
        truncated: figures that come out only when truncated.
        all_truncated: whether truncation alone gives every figure.
        same: other sets of changes with the same counts in every row.
    """

    truncated: int
    all_truncated: bool
    same: tuple[tuple[Change, ...], ...] = ()

    @property
    def differences(self) -> int:
        """How many things differ from the card, from plain MACs and from rounding."""
        return super().differences + bool(self.truncated)

    @property
    def rounding(self) -> str:
        """How the figures were shortened."""
        if not self.truncated:
            return "rounded"
        return "truncated" if self.all_truncated else f"rounded, {self.truncated} truncated"

    def _more(self) -> dict[str, Any]:
        return {"rounding": self.rounding, "same": [dict(changes) for changes in self.same]}


@dataclass(frozen=True)
class Nearest(Explanation):
    """An architecture that misses some figure, with the rule whose worst figure is nearest.

    Attributes:
        deviation: of that figure, built over printed less 1; figures that come out count as 0.
        figure: which one it is.
    """

    deviation: float
    figure: str

    @property
    def order(self) -> tuple[float, int, str]:
        """Nearest first, then simplest."""
        return (abs(self.deviation), self.differences, changes_text(self.changes))

    def _more(self) -> dict[str, Any]:
        return {"worst_deviation": self.deviation, "worst_figure": self.figure}


@dataclass(frozen=True)
class Reconciliation:
    """What a search found and how much it searched.

    Attributes:
        rows: published rows.
        figures: published figures in them.
        axes: how many values other than the card's each argument took.
        architectures: sets of changed arguments that can be built.
        refused: sets that a network refuses.
        combinations: architecture and rule pairs tried, each with rounding and truncation of every figure.
        chance: how many pairs match figures made up at random, as precise as those of ``chance_row`` and within
            10% of them, on average over a thousand draws.
        chance_share: the share of those draws that some pair matches. For all rows together both are less.
        chance_row: the most selective row.
        matches: everything that gives all figures, the simplest first.
        nearest: what comes nearest when nothing does.
        left_out: architectures that were not tried, because the search was interrupted.
    """

    rows: int
    figures: int
    axes: Mapping[str, int]
    architectures: int
    refused: int
    combinations: int
    chance: float
    chance_share: float
    chance_row: str
    matches: tuple[Reconciled, ...]
    nearest: tuple[Nearest, ...]
    left_out: int = 0

    @property
    def found(self) -> int:
        """How many combinations match, those of equal counts included."""
        return sum(1 + len(match.same) for match in self.matches)

    def as_object(self, limit: int | None = None) -> dict[str, Any]:
        """For JSON; at most ``limit`` matches or nearest ones."""
        return {
            "rows": self.rows,
            "figures": self.figures,
            "space": {
                "changed_arguments": dict(self.axes),
                "architectures": self.architectures,
                "refused_architectures": self.refused,
                "combinations": self.combinations,
                "left_out_architectures": self.left_out,
            },
            "matching_combinations": self.found,
            "expected_by_chance": self.chance,
            "chance_of_any_match": self.chance_share,
            "expected_by_chance_row": self.chance_row,
            "matches": [match.as_object() for match in self.matches[:limit]],
            "nearest": [near.as_object() for near in self.nearest[:limit]],
        }


def best_first(matches: Iterable[Reconciled]) -> list[Reconciled]:
    """The simplest first; architectures of equal counts in every row become one entry, the simplest of them."""
    ordered = sorted(
        matches,
        key=lambda match: (
            match.differences,
            match.truncated,
            len(match.changes),
            changes_text(match.changes),
            str(match.rule),
        ),
    )
    kept: dict[Any, Reconciled] = {}
    for match in ordered:
        charged = [
            tuple(sorted((kind, n) for kind, n in counts.elements.items() if match.rule.weights.get(kind)))
            for _, counts in match.built
        ]
        counted = tuple(counts.key for _, counts in match.built)
        # two tools may have one rule; each is an answer of its own
        name = match.rule.name if any(charged) else None
        key = (counted, *charged, name, tuple(sorted(match.rule.weights.items())))
        if key in kept:
            kept[key] = replace(kept[key], same=(*kept[key].same, match.changes))
        else:
            kept[key] = match
    return list(kept.values())
