"""Published test errors against what the networks cost when built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from e4profile.errors import SettingError
from e4profile.networks.cards import Card, PublishedRow, all_cards
from e4profile.questions.pareto.pareto import Candidate, front
from e4profile.witnesses.counts.closed_form import count_closed_form


@dataclass(frozen=True)
class Dataset:
    """A data set of published test errors.

    Attributes:
        name: in file names.
        title: for people.
        quantities: the cards' quantities, each with what distinguishes it from the others.
    """

    name: str
    title: str
    quantities: dict[str, str]


DATASETS = (
    Dataset("rot-mnist", "rot-MNIST", {"test_error": ""}),
    Dataset("cifar10", "CIFAR-10", {"test_error_cifar10": "", "test_error_cifar10_augmented": "augmented"}),
    Dataset("cifar100", "CIFAR-100", {"test_error_cifar100": ""}),
)


def default_models() -> tuple[str, ...]:
    """Every card with a published test error."""
    known = {quantity for dataset in DATASETS for quantity in dataset.quantities}
    return tuple(
        name
        for name, card in all_cards().items()
        if any(cell.quantity in known for row in card.published for cell in row.cells)
    )


def accuracy_rows(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """One row per published test error, in percent, with the parameters and the MACs of the network as built.

    ``series`` names the publication and what its training adds; only errors of one series are set against one
    another, because training differs between publications. ``on_macs_front`` and ``on_params_front`` say whether
    no other network of the series has both a lower error and no higher cost (or the same error at lower cost).
    The same network printed in several tables has one row.

    Raises:
        SettingError: when no card has a published test error.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    candidates: list[Candidate] = []
    costs: dict[str, tuple[int, int]] = {}
    for dataset in DATASETS:
        for card in cards:
            for row in sorted(card.published, key=lambda row: (row.table, row.order)):
                for cell in row.cells:
                    if cell.quantity not in dataset.quantities:
                        continue
                    built = card.with_arguments(row.arguments)
                    key = f"{card.network} {card.input} {sorted(built.arguments.items())!r}"
                    if key not in costs:
                        count = count_closed_form(built.build("meta"), built.input_shape())
                        costs[key] = (count.params, count.macs)
                    series = _series(row.source, dataset.quantities[cell.quantity])
                    if (dataset.name, series, key, cell.value) in rows:
                        continue
                    spread = None if cell.spread is None else Decimal(cell.spread)
                    candidates.append(
                        Candidate(_label(row), built, row.table, cell.quantity, Decimal(cell.value), spread)
                    )
                    rows[dataset.name, series, key, cell.value] = {
                        "dataset": dataset.name,
                        "series": series,
                        "label": _label(row),
                        "source": row.source,
                        "model": card.name,
                        "test_error_percent": float(cell.value),
                        "spread_percent": None if cell.spread is None else float(cell.spread),
                        "params": costs[key][0],
                        "macs": costs[key][1],
                    }
    found = list(rows.values())
    if not found:
        raise SettingError(f"no test error was published for {', '.join(card.name for card in cards)}")
    groups: dict[tuple[str, str], list[int]] = {}
    for index, one in enumerate(found):
        groups.setdefault((one["dataset"], one["series"]), []).append(index)
    for members in groups.values():
        for cost in ("macs", "params"):
            for point in front([(candidates[index], found[index][cost]) for index in members]):
                found[candidates.index(point.candidate)][f"on_{cost}_front"] = point.on_front
    return found


def _label(row: PublishedRow) -> str:
    """The row as printed, but for Table 2's "None", which says nothing by itself."""
    return "no concatenation" if row.arguments.get("concatenate") == "none" else row.row


def _series(source: str, distinction: str) -> str:
    publication = source.partition(",")[0]
    return f"{publication}, {distinction}" if distinction else publication
