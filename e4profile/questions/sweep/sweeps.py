"""Sweeps: a plan (see ``e4profile.questions.sweep.plans``), an executor that measures it, a store that remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from e4profile.errors import SettingError
from e4profile.questions.sweep.plans import Setting
from e4profile.records.store import Record, RecordStore
from e4profile.witnesses.counts import COUNTERS, NOT_RUN
from e4profile.witnesses.counts.registry import REGISTRY, STOCK

COLUMNS = (
    "model", "group", "width", "kernel", "reduction", "slices", "params_formula", "params_measured",
    "macs_formula", "macs_measured", "macs_printed_form", *STOCK, "agrees", "params_ratio",
    "macs_ratio",
)  # fmt: skip
"""The columns of a sweep, in order."""


@dataclass(frozen=True)
class Skipped:
    """A combination that cannot exist, and why."""

    setting: Setting
    reason: str


Attempt = Callable[[Setting], "Record | Skipped"]


@dataclass(frozen=True)
class Outcome:
    """A measured setting: its record, and whether it was measured now or read back."""

    setting: Setting
    record: Record
    resumed: bool


class Executor(Protocol):
    """Runs the measurement over settings; other executors may use processes or machines."""

    def run(self, settings: Sequence[Setting], task: Attempt) -> Iterable[tuple[Setting, Record | Skipped]]:
        """Yield each setting with what came of it as it finishes."""


class InProcess:
    """Measures one setting after another in this process."""

    def run(self, settings: Sequence[Setting], task: Attempt) -> Iterable[tuple[Setting, Record | Skipped]]:
        """Yield each setting with what came of it as it finishes."""
        for setting in settings:
            yield setting, task(setting)


def counter_versions() -> dict[str, str]:
    """The versions that a sweep's records are made with, without running a counter."""
    return {name: REGISTRY[name].version or "missing" for name in COUNTERS}


def measure_setting(setting: Setting) -> Record | Skipped:
    """Measure one setting with every counter: its network is built once and walked once."""
    from e4profile.witnesses.counts.measure import measure
    from e4profile.witnesses.environment import environment

    try:
        measured = measure(setting.subject, COUNTERS)
    except SettingError as error:
        return Skipped(setting, str(error))
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
    for name in STOCK:
        counts[name] = measured.raw[name].macs if name in measured.raw else None
    counts["gaps"] = {
        name: {**{cause.name: cause.amount for cause in gap.causes}, "unexplained": gap.unexplained}
        for name, gap in measured.gaps.items()
    }
    return Record(
        card=setting.model,
        arguments=setting.arguments,
        counts=counts,
        counters=counter_versions(),
        environment=environment(),
    )


@dataclass
class Sweep:
    """A plan being measured: iterate over ``run`` for the outcomes, then ask for ``rows``.

    Attributes:
        plan: what is tried.
        store: what remembers; None forgets.
        executor: what runs the measurements.
        outcomes: what was measured or read back so far.
        skipped: what cannot exist, of what was tried so far.
    """

    plan: Sequence[Setting]
    store: RecordStore | None = None
    executor: Executor = field(default_factory=InProcess)
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def run(self) -> Iterator[Outcome]:
        """Measure what the store does not hold yet; every finished setting is stored before it is yielded.

        A setting in which a third-party counter failed, or whose recorded terms are not its MACs, is measured again;
        its later record replaces the earlier one.

        Raises:
            SettingError: when no setting can exist but baselines.
        """
        known: dict[str, Record] = {}
        if self.store is not None:
            self.store.check_writable()
            known = {record.key: record for record in self.store.load()}
        versions = counter_versions()
        pending: list[Setting] = []
        for setting in self.plan:
            key = Record(card=setting.model, arguments=setting.arguments, counts={}, counters=versions).key
            if key in known and _terms_are_its_macs(known[key]) and not _may_succeed_now(known[key]):
                outcome = Outcome(setting, known[key], resumed=True)
                self.outcomes.append(outcome)
                yield outcome
            else:
                pending.append(setting)
        # baselines last: alone they are no sweep
        for setting, record in self.executor.run(sorted(pending, key=_is_baseline), measure_setting):
            if setting.baseline:
                self._check_some_exist()
            if isinstance(record, Skipped):
                self.skipped.append(record)
                continue
            if self.store is not None:
                self.store.append(record)
            outcome = Outcome(setting, record, resumed=False)
            self.outcomes.append(outcome)
            yield outcome
        self._check_some_exist()

    def _check_some_exist(self) -> None:
        if all(outcome.setting.baseline for outcome in self.outcomes):
            reasons = dict.fromkeys(skip.reason for skip in self.skipped)
            raise SettingError(f"no setting of this sweep can exist: {'; '.join(reasons)}")

    @property
    def settings(self) -> list[Setting]:
        """The settings that were measured, in the plan's order."""
        return [outcome.setting for outcome in self._finished()]

    def rows(self) -> list[dict[str, Any]]:
        """One row per finished setting in the plan's order, with the keys of ``COLUMNS``."""
        finished = self._finished()
        baselines = {
            _baseline_key(outcome.setting): outcome.record.counts for outcome in finished if outcome.setting.baseline
        }
        return [_row(outcome, baselines.get(_baseline_key(outcome.setting))) for outcome in finished]

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


def _terms_are_its_macs(record: Record) -> bool:
    """False for a record from when the terms of norms and of wrong charges were among them."""
    terms: Mapping[str, int] = record.counts["terms"]
    return sum(terms.values()) == int(record.counts["macs_formula"])


def _is_baseline(setting: Setting) -> bool:
    return setting.baseline


def _may_succeed_now(record: Record) -> bool:
    """Whether a counter failed for a reason that may be gone: it is there, and it was tried."""
    failures: Mapping[str, str] = record.counts.get("failures", {})
    return any(
        record.counters.get(name) != "missing" and not reason.startswith(NOT_RUN)
        for name, reason in failures.items()
        if name in STOCK
    )


def _baseline_key(setting: Setting) -> tuple[Any, ...]:
    arguments = setting.subject.arguments
    return (setting.model.removesuffix("-gcnn"), setting.group, arguments.get("width"), arguments.get("kernel"))


def _row(outcome: Outcome, baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    arguments, counts = outcome.setting.subject.arguments, outcome.record.counts
    row = {
        "model": outcome.setting.model,
        "group": outcome.setting.group.alias,
        "width": arguments.get("width"),
        "kernel": arguments.get("kernel"),
        "reduction": None if outcome.setting.baseline else arguments.get("reduction"),
        "slices": None if outcome.setting.baseline else arguments.get("slices"),
        **{name: counts[name] for name in COLUMNS if name in counts},
        "params_ratio": None,
        "macs_ratio": None,
    }
    if baseline is not None:
        row["params_ratio"] = Fraction(counts["params_measured"], baseline["params_measured"])
        row["macs_ratio"] = Fraction(counts["macs_measured"], baseline["macs_measured"])
    return {name: row[name] for name in COLUMNS}
