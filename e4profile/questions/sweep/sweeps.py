"""Sweeps: a plan (see ``e4profile.questions.sweep.plans``), what measures it, a store that remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from e4profile.errors import SettingError
from e4profile.questions.sweep.plans import Setting
from e4profile.records.sharing import share
from e4profile.records.store import Record, RecordStore
from e4profile.witnesses.counts import COUNTERS, NOT_RUN
from e4profile.witnesses.counts.registry import REGISTRY, STOCK, find_counters

_SETTING = ("model", "group", "width", "kernel", "reduction", "slices")
_KIND = "sweep"
_EXACT = ("params_formula", "params_measured", "macs_formula", "macs_measured", "macs_printed_form")


def columns_of(stock: Sequence[str] = STOCK) -> tuple[str, ...]:
    """The columns of a sweep with these stock counters, in order."""
    return (*_SETTING, *_EXACT, *stock, "agrees", "params_ratio", "macs_ratio")


COLUMNS = columns_of()
"""The columns of a sweep with the counters that are asked by default, in order."""


@dataclass(frozen=True)
class Skipped:
    """A combination that cannot exist, and why."""

    setting: Setting
    reason: str


@dataclass(frozen=True)
class Outcome:
    """A measured setting: its record, and whether it was measured now or read back."""

    setting: Setting
    record: Record
    resumed: bool


def counter_versions(counters: Sequence[str] = COUNTERS) -> dict[str, str]:
    """The versions that a sweep's records are made with, without running a counter."""
    return {name: REGISTRY[name].version or "missing" for name in counters}


def measure_setting(setting: Setting, counters: Sequence[str] = COUNTERS) -> Record:
    """Measure one setting with every counter: its network is built once and walked once.

    Raises:
        SettingError: for a setting that cannot exist.
    """
    from e4profile.witnesses.counts.measure import measure
    from e4profile.witnesses.environment import environment

    measured = measure(setting.subject, counters)
    counts: dict[str, Any] = {
        "params_formula": measured.closed.params,
        "params_measured": measured.dispatch.params,
        "macs_formula": measured.closed.macs,
        "macs_measured": measured.dispatch.macs,
        "params_printed_form": measured.printed_params,
        "macs_printed_form": measured.printed_macs,
        "agrees": measured.agrees,
        "differences": [str(difference) for difference in measured.differences],
        "unknown": dict(measured.dispatch.uncounted),
        "terms": measured.closed.macs_by_term,
        "failures": dict(measured.failures),
    }
    for name in _stock(counters):
        counts[name] = measured.raw[name].macs if name in measured.raw else None
    counts["gaps"] = {
        name: {**{cause.name: cause.amount for cause in gap.causes}, "unexplained": gap.unexplained}
        for name, gap in measured.gaps.items()
    }
    return Record(
        kind=_KIND,
        card=setting.model,
        arguments=setting.arguments,
        counts=counts,
        counters=counter_versions(counters),
        environment=environment(),
    )


def _stock(counters: Sequence[str]) -> list[str]:
    return [spec.name for spec in find_counters(counters) if spec.raw]


@dataclass
class Sweep:
    """A plan being measured: iterate over ``run`` for the outcomes, then ask for ``rows``.

    Attributes:
        plan: what is tried.
        store: what remembers; None forgets.
        counters: what is asked besides closed form and dispatch counter.
        outcomes: what was measured or read back so far.
        skipped: what cannot exist, of what was tried so far.
    """

    plan: Sequence[Setting]
    store: RecordStore | None = None
    counters: Sequence[str] = COUNTERS
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counters = tuple(dict.fromkeys(("closed-form", "dispatch", *self.counters)))
        self.stock = _stock(self.counters)
        self._known: dict[str, Record] = {}
        self._recent: set[str] = set()

    def run(self, waiting: Callable[[str], None] = lambda _: None) -> Iterator[Outcome]:
        """Measure what the store does not hold yet; every finished setting is stored before it is yielded.

        Any number of processes, also of several machines, may run sweeps into one store: each setting is measured by
        the one that claims it (see ``e4profile.records.sharing``), and read back by the others.

        A setting in which a third-party counter failed, or whose recorded terms are not its MACs, is measured again;
        its later record replaces the earlier one.

        Args:
            waiting: told in words when nothing is left but what other processes have claimed.

        Raises:
            SettingError: when no setting can exist but baselines.
            UnknownNameError: for a counter that does not exist.
        """
        if self.store is not None:
            self.store.check_writable()
            self._learn(self.store.load())
        versions = counter_versions(self.counters)
        pending: list[tuple[str, Setting]] = []
        for setting in self.plan:
            key = Record(kind=_KIND, card=setting.model, arguments=setting.arguments, counts={}, counters=versions).key
            if (record := self._settled(key)) is not None:
                yield self._ended(setting, record, resumed=True)
            else:
                pending.append((key, setting))
        yield from self._shared([one for one in pending if not one[1].baseline], waiting)
        # alone they are no sweep
        self._check_some_exist()
        yield from self._shared([one for one in pending if one[1].baseline], waiting)
        # in the order in which one process tries them, whoever measured what
        order = {id(setting): (setting.baseline, index) for index, setting in enumerate(self.plan)}
        self.outcomes.sort(key=lambda one: order[id(one.setting)])
        self.skipped.sort(key=lambda one: order[id(one.setting)])

    def _shared(self, pending: Sequence[tuple[str, Setting]], waiting: Callable[[str], None]) -> Iterator[Outcome]:
        found: Iterator[tuple[Setting, Record, bool]]
        if self.store is None:
            found = ((setting, record, False) for _, setting in pending if (record := self._measured(setting)))
        else:
            found = share(pending, self.store, self._settled, self._measured, waiting)
        for setting, record, resumed in found:
            yield self._ended(setting, record, resumed=resumed)

    def _measured(self, setting: Setting) -> Record | None:
        try:
            return measure_setting(setting, self.counters)
        except SettingError as error:
            self.skipped.append(Skipped(setting, str(error)))
            return None

    def _ended(self, setting: Setting, record: Record, *, resumed: bool) -> Outcome:
        self.outcomes.append(Outcome(setting, record, resumed))
        return self.outcomes[-1]

    def _learn(self, records: Sequence[Record]) -> None:
        """Of two records of the same work the later counts, unless the earlier one was whole: then they disagree."""
        for record in records:
            if record.kind != _KIND:
                continue
            earlier = self._known.get(record.key)
            if earlier is None or not _is_whole(earlier):
                self._known[record.key] = record
            elif self.store is not None:
                names = sorted(name for name, value in record.counts.items() if earlier.counts.get(name) != value)
                self.store.note(
                    f"{record.card} {record.arguments} is recorded twice with different {', '.join(names)}: the "
                    "earlier line is used, and the later stays in the file"
                )

    def _settled(self, key: str, stored_meanwhile: Sequence[Record] = ()) -> Record | None:
        """The record of a setting that is not to be measured (again)."""
        self._recent.update(record.key for record in stored_meanwhile)
        self._learn(stored_meanwhile)
        record = self._known.get(key)
        # what another process has just tried again would fail here too
        done = record is not None and (_is_whole(record) or (key in self._recent and _terms_are_its_macs(record)))
        return record if done else None

    def _check_some_exist(self) -> None:
        if all(outcome.setting.baseline for outcome in self.outcomes):
            reasons = dict.fromkeys(skip.reason for skip in self.skipped)
            raise SettingError(f"no setting of this sweep can exist: {'; '.join(reasons)}")

    @property
    def settings(self) -> list[Setting]:
        """The settings that were measured, in the plan's order."""
        return [outcome.setting for outcome in self._finished()]

    def rows(self) -> list[dict[str, Any]]:
        """One row per finished setting in the plan's order, with the keys of ``columns_of(stock)``."""
        finished = self._finished()
        baselines = {
            baseline_key(outcome.setting): outcome.record.counts for outcome in finished if outcome.setting.baseline
        }
        return [self._row(outcome, baselines.get(baseline_key(outcome.setting))) for outcome in finished]

    def _row(self, outcome: Outcome, baseline: Mapping[str, Any] | None) -> dict[str, Any]:
        setting, counts = outcome.setting, outcome.record.counts
        arguments = {} if setting.baseline else setting.subject.arguments

        def ratio(name: str) -> Fraction | None:
            return None if baseline is None else Fraction(counts[name], baseline[name])

        return {
            "model": setting.model,
            "group": setting.group.alias,
            "width": setting.subject.arguments.get("width"),
            "kernel": setting.subject.arguments.get("kernel"),
            "reduction": arguments.get("reduction"),
            "slices": arguments.get("slices"),
            **{name: counts[name] for name in (*_EXACT, *self.stock, "agrees")},
            "params_ratio": ratio("params_measured"),
            "macs_ratio": ratio("macs_measured"),
        }

    def rows_for_figures(self) -> list[dict[str, Any]]:
        """The rows with the card's name, whether it is the G-CNN ``baseline``, and more of the record's counts.

        ``params_printed_form``, ``terms`` (MACs by named term) and ``gaps`` (of each counter its causes).
        """
        more = ("params_printed_form", "terms", "gaps")
        return [
            {
                **row,
                "card": outcome.setting.subject.name,
                "baseline": outcome.setting.baseline,
                **{name: outcome.record.counts[name] for name in more},
            }
            for row, outcome in zip(self.rows(), self._finished(), strict=True)
        ]

    def _finished(self) -> list[Outcome]:
        order = {id(setting): index for index, setting in enumerate(self.plan)}
        return sorted(self.outcomes, key=lambda outcome: order[id(outcome.setting)])


def _is_whole(record: Record) -> bool:
    return _terms_are_its_macs(record) and not _may_succeed_now(record)


def _terms_are_its_macs(record: Record) -> bool:
    """False for a record from when the terms of norms and of wrong charges were among them."""
    terms: Mapping[str, int] = record.counts["terms"]
    return sum(terms.values()) == int(record.counts["macs_formula"])


def _may_succeed_now(record: Record) -> bool:
    """Whether a counter failed for a reason that may be gone: it is there, and it was tried."""
    failures: Mapping[str, str] = record.counts.get("failures", {})
    return any(
        record.counters.get(name) != "missing" and not reason.startswith(NOT_RUN)
        for name, reason in failures.items()
        if REGISTRY[name].raw
    )


def baseline_key(setting: Setting) -> tuple[Any, ...]:
    """Equal for a setting and the G-CNN of its group, width and kernel."""
    arguments = setting.subject.arguments
    return (setting.model.removesuffix("-gcnn"), setting.group, arguments.get("width"), arguments.get("kernel"))
