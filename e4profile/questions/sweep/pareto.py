"""Test errors against cost: which networks no other one beats on both.

Errors are carried from publications as printed, or given by whoever asks; they are never measured here. Costs are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from e4profile.errors import SettingError, UnknownNameError, one_of
from e4profile.networks.cards import UNRESOLVED, Cell, PublishedRow, all_cards
from e4profile.networks.published import parse_printed
from e4profile.records.store import Record
from e4profile.records.times import from_record
from e4profile.subjects.subject import Subject, of_card
from e4profile.subjects.written import parse_percent
from e4profile.witnesses.counts.measure import measure
from e4profile.witnesses.variants import VariantCounter, peak_bytes

COSTS = ("macs", "params", "time", "memory")
"""What a published error can be set against."""

GIVEN_QUANTITY = "error"

_COST_CELLS = ("params", "flops", "macs")
_ERROR = "test_error"
_ACCURACIES = {"acc1": "100% - published top-1 accuracy", "acc5": "100% - published top-5 accuracy"}


PUBLISHED, GIVEN = "published", "given"
"""Where an error comes from."""


@dataclass(frozen=True)
class Candidate:
    """A network with its error.

    Attributes:
        label: the row as printed, with the table's other rows of the same network and error.
        subject: the network, with the row's arguments where it is printed.
        table: the table it is printed in; empty for an error that was given.
        quantity: which error, for example ``test_error`` or ``test_error_cifar10``; ``error`` for a given one.
        error: in percent, exactly as printed; 100 - accuracy where the table prints accuracies.
        spread: the printed deviation over runs.
        origin: ``published``, or ``given`` by whoever asks.
        unresolved: published costs of the row that the network as built does not have, as printed.
        unknown: operators that ran and could not be counted: its cost is a lower bound, which is on no front.
    """

    label: str
    subject: Subject
    table: str
    quantity: str
    error: Decimal
    spread: Decimal | None
    origin: str = PUBLISHED
    unresolved: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def given_error(subject: Subject, text: str) -> Candidate:
    """A network with an error in percent that its user says: neither published nor measured here.

    Raises:
        SettingError: for a text that is no percentage from 0 to 100.
    """
    error = parse_percent(text, f"--error {subject.name}")
    return Candidate(subject.name, subject, "", GIVEN_QUANTITY, error, None, GIVEN)


@dataclass(frozen=True)
class Point:
    """A candidate with its cost, and whether it is on the front.

    Attributes:
        candidate: the published row.
        cost: MACs, parameters, bytes or seconds.
        dominated_by: labels of the members of the front that are no worse in both and better in one; none for
            a member.
        alike: whether the intervals of measured costs do not decide if it is on the front.
        interval: of a measured cost; None for one that is counted.
    """

    candidate: Candidate
    cost: int | float
    dominated_by: tuple[str, ...] = ()
    alike: bool = False
    interval: tuple[float, float] | None = None

    @property
    def on_front(self) -> bool:
        """Whether no other network is as good in both and better in one; never for a cost that is a lower bound."""
        return not self.dominated_by and not self.candidate.unknown


def candidates(subjects: Sequence[Subject] = (), table: str | None = None, y: str = "error") -> list[Candidate]:
    """The published errors of one table: errors of different tables and data sets are never mixed.

    Args:
        subjects: whose rows; every card's when empty.
        table: the table; the only one that all the cards have errors in when None.
        y: ``error``, or one of several errors of a table by name (``cifar10``, ``test_error_cifar100``, ``acc5``).

    Raises:
        SettingError: when the networks share no table or several, or the table has several errors to choose from.
        UnknownNameError: for a table without errors, or an error that it does not have.
    """
    chosen = subjects or [of_card(card) for card in all_cards().values()]
    printed = [(one, row, cell) for one in chosen for row in one.published for cell in row.cells if _is_error(cell)]
    table = _table(subjects, printed, table)
    within = [(one, row, cell) for one, row, cell in printed if row.table == table]
    quantity = _quantity(table, y, list(dict.fromkeys(cell.quantity for _, _, cell in within)))
    rows = sorted(
        ((one, row, cell) for one, row, cell in within if cell.quantity == quantity),
        key=lambda item: (item[1].order, item[0].name),
    )
    return _merged(_candidate(one, row, cell) for one, row, cell in rows)


def is_error_name(name: str) -> bool:
    """Whether a name is ``error`` or that of an error that some publication prints."""
    if name == _ERROR.removeprefix("test_"):
        return True
    cells = (cell for card in all_cards().values() for row in card.published for cell in row.cells if _is_error(cell))
    return any(name in (cell.quantity, cell.quantity.removeprefix(f"{_ERROR}_")) for cell in cells)


def error_name(quantity: str) -> str:
    """A published error in words, which always say that it is published."""
    if quantity in _ACCURACIES:
        return _ACCURACIES[quantity]
    _, _, data_set = quantity.partition(f"{_ERROR}_")
    words = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "cifar10_augmented": "CIFAR-10, augmented"}
    return f"published test error{', ' + words.get(data_set, data_set) if data_set else ''}"


def front(
    costed: Sequence[tuple[Candidate, int | float]], intervals: Mapping[int, tuple[float, float]] | None = None
) -> list[Point]:
    """Every candidate as a point, the cheapest first; the front by exact comparison of cost and printed error.

    Equal points do not dominate each other. A cost that is a lower bound is on no front and dominates none.

    Args:
        costed: candidates with their costs.
        intervals: of measured costs, by the candidate's ``id``.
    """
    between = intervals or {}

    def undecided(one: Candidate, *, member: bool) -> bool:
        if id(one) not in between:
            return False
        low, high = between[id(one)]
        rivals = [between[id(other)] for other, _ in costed if other is not one and other.error <= one.error]
        return any(rival[0] <= high for rival in rivals) if member else not any(rival[1] < low for rival in rivals)

    def beats(one: tuple[Candidate, int | float], other: tuple[Candidate, int | float]) -> bool:
        no_worse = one[1] <= other[1] and one[0].error <= other[0].error
        return no_worse and (one[1] < other[1] or one[0].error < other[0].error)

    ordered = sorted(costed, key=lambda item: (item[1], item[0].error))
    exact = [item for item in ordered if not item[0].unknown]
    members = [item for item in exact if not any(beats(other, item) for other in exact)]
    return [
        Point(item[0], item[1], beaten_by, undecided(item[0], member=not beaten_by), between.get(id(item[0])))
        for item in ordered
        for beaten_by in [tuple(member[0].label for member in members if beats(member, item))]
    ]


def has_published_error(subject: Subject) -> bool:
    """Whether some table prints an error of this network."""
    return any(_is_error(cell) for row in subject.published for cell in row.cells)


def cost_of(x: str, *, batch_size: int = 2) -> Callable[[Subject], tuple[int, tuple[str, ...]]]:
    """How a network's cost is found where nothing has to be timed: with the operators that it leaves out.

    Args:
        x: ``macs`` or ``params`` as the dispatch counter sees them run, or ``memory``: the peak bytes of forward
            and backward by allocator emulation.
        batch_size: images, for memory; where the leading sizes of the inputs are no batch, they stay.

    Raises:
        UnknownNameError: for another cost.
        SettingError: for ``time``, which needs a device.
    """
    one_of("cost", x, COSTS)
    if x == "time":
        raise SettingError("time is measured: see e4profile.witnesses.timing.measure.measure_time")
    counter = VariantCounter()

    def cost(subject: Subject) -> tuple[int, tuple[str, ...]]:
        if x == "memory":
            return peak_bytes(subject, batch_size, counter), ()
        counted = counter.on_meta(subject, lambda fresh: measure(fresh, ())).dispatch
        return (counted.params, ()) if x == "params" else (counted.macs, tuple(counted.uncounted))

    return cost


def sweep_costs(
    path: Path, x: str, known: Sequence[Candidate]
) -> tuple[list[tuple[Candidate, int | float]], list[str]]:
    """The measured costs in a file of records for the settings that have a published error.

    Returns:
        The candidates with their costs, and notes on what was left out.

    Raises:
        SettingError: for a missing file, or when no record is of a published setting.
    """
    from e4profile.records.jobs.setting import recorded_arguments
    from e4profile.records.store import RecordStore

    if not path.exists():
        raise SettingError(f"--sweep: {path} does not exist")
    store = RecordStore(path)
    records = store.load()

    costs: dict[str, int | float] = {}
    unknown: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    if x == "time":
        costs, notes = _recorded_times(records)
    for record in records:
        cost = record.counts.get(f"{x}_measured") if x in ("macs", "params") else None
        if cost is not None:
            setting = _setting_key(record.card, record.arguments)
            costs[setting], unknown[setting] = cost, tuple(record.counts.get("unknown", ())) if x == "macs" else ()
    if not costs:
        raise SettingError(f"--sweep: {path} holds no {x}; sweep records hold macs and params, time records time")
    found: list[tuple[Candidate, int | float]] = []
    for one in known:
        described = recorded_arguments(one.subject)
        keys = (_setting_key(one.subject.name, described), _setting_key(one.subject.name, one.subject.arguments))
        key = next((key for key in keys if key in costs), None)
        if key is not None:
            found.append((replace(one, unknown=unknown.get(key, ())), costs[key]))
    if not found:
        cards = ", ".join(sorted({record.card for record in records}))
        raise SettingError(f"--sweep: no setting in {path} ({cards}) has a published error in this table")
    notes = [*store.notes, *notes]
    if len(costs) > len(found):
        notes.append(f"{len(costs) - len(found)} of {len(costs)} settings have no published error here")
    return found, notes


def _recorded_times(records: Iterable[Record]) -> tuple[dict[str, int | float], list[str]]:
    """Median seconds by setting, and what was timed; only like is compared with like."""
    from e4profile.records.times import environment_labels

    timed = [from_record(record) for record in records if record.kind == "time"]
    if not timed:
        return {}, []
    environment_labels([one.environment for one in timed], mixed=False)
    passes = {
        f"{one.pass_} in {one.mode} mode, batch of {one.batch_size}, {one.device}, {one.dtype}, threads {one.threads}"
        + (", compiled" if one.compiled else "")
        + (", CUDA graphs" if one.graphed else "")
        for one in timed
    }
    if len(passes) > 1:
        raise SettingError(f"--sweep: times of different passes are not compared ({'; '.join(sorted(passes))})")
    return {_setting_key(one.name, one.arguments): one.median_s for one in timed}, [f"timed: {passes.pop()}"]


def _setting_key(name: str, arguments: Mapping[str, object]) -> str:
    return repr((name, sorted((key, str(value)) for key, value in arguments.items())))


def _is_error(cell: Cell) -> bool:
    return cell.quantity.startswith(_ERROR) or cell.quantity in _ACCURACIES


def _table(
    subjects: Sequence[Subject], printed: Iterable[tuple[Subject, PublishedRow, Cell]], table: str | None
) -> str:
    by_card: dict[str, list[str]] = {one.name: [] for one in subjects}
    known: list[str] = []
    for one, row, _ in printed:
        known.append(row.table)
        by_card.setdefault(one.name, []).append(row.table)
    if table is not None:
        if table not in known:
            rows = (row for card in all_cards().values() for row in card.published)
            every = {row.table for row in rows if any(map(_is_error, row.cells))}
            one_of("table with published errors", table, every)
        without = [one.name for one in subjects if table not in by_card[one.name]]
        if without:
            having = ", ".join(_cards_with_errors(table))
            raise SettingError(
                f"{', '.join(without)}: no published error in table {table!r}; cards that have one: {having}"
            )
        return table
    if not subjects:
        raise SettingError(f"give networks or --table: {', '.join(sorted(set(known)))}")
    common = set.intersection(*(set(tables) for tables in by_card.values()))
    if len(common) == 1:
        return common.pop()
    if common:
        raise SettingError(f"tables {', '.join(sorted(common))} have errors of these networks: choose with --table")
    listed = "; ".join(f"{name}: {', '.join(dict.fromkeys(tables)) or 'none'}" for name, tables in by_card.items())
    raise SettingError(f"these networks share no table, and errors of different data are not compared ({listed})")


def _cards_with_errors(table: str) -> list[str]:
    return [
        card.name
        for card in all_cards().values()
        if any(row.table == table and any(map(_is_error, row.cells)) for row in card.published)
    ]


def _quantity(table: str, y: str, known: list[str]) -> str:
    if y == "error":
        errors = [name for name in known if name.startswith(_ERROR)] or known[:1]
        if len(errors) > 1:
            names = ", ".join(name.removeprefix(f"{_ERROR}_") for name in errors)
            raise SettingError(f"table {table!r} has several errors: name one in place of error: {names}")
        return errors[0]
    for name in (y, f"{_ERROR}_{y}"):
        if name in known:
            return name
    raise UnknownNameError(f"published error of table {table!r}", y, [*known, "error"])


def _candidate(subject: Subject, row: PublishedRow, cell: Cell) -> Candidate:
    value, _ = parse_printed(cell.value)
    spread = None if cell.spread is None else parse_printed(cell.spread)[0]
    if cell.quantity in _ACCURACIES:
        value = 100 - (value if cell.unit == "%" else 100 * value)
    unresolved = tuple(f"{one.quantity} {one.value}" for one in row.cells
                       if one.verdict == UNRESOLVED and one.quantity in _COST_CELLS)  # fmt: skip
    network = subject.with_arguments(row.arguments)
    return Candidate(row.row, network, row.table, cell.quantity, value, spread, unresolved=unresolved)


def _merged(found: Iterable[Candidate]) -> list[Candidate]:
    """Rows that print the same network with the same error are one network."""
    kept: dict[str, Candidate] = {}
    for one in found:
        key = repr((one.subject.name, sorted(one.subject.arguments.items()), one.error, one.spread))
        kept[key] = replace(kept[key], label=f"{kept[key].label} = {one.label}") if key in kept else one
    return list(kept.values())
