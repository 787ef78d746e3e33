"""Sweeps: a plan (a pure list of settings), an executor that measures them, a store that remembers them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from itertools import product
from typing import Any, Protocol

from e4profile.cards import Card, find_card
from e4profile.counters import COUNTERS
from e4profile.errors import SettingError, positive
from e4profile.groups import as_group
from e4profile.records import Record, RecordStore

DEFAULT_MODELS = ("e4net",)
DEFAULT_REDUCTIONS = (1, 2, 4)
DEFAULT_SLICES = (1, 2, 4)
DEFAULT_KERNELS = (3, 5, 7)

COLUMNS = (
    "model", "group", "width", "kernel", "reduction", "slices", "params_formula", "params_measured",
    "macs_formula", "macs_measured", "macs_printed_form", "fvcore", "thop", "agrees", "params_ratio",
    "macs_ratio",
)  # fmt: skip
"""The columns of a sweep, in order."""


@dataclass(frozen=True)
class Setting:
    """One network to measure.

    Attributes:
        model: the label in the table: the card's name, or the name with ``-gcnn`` for the baseline.
        card: the card with every argument in place.
        baseline: whether this is the G-CNN of the same topology.
    """

    model: str
    card: Card
    baseline: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """What is built, as it is recorded: topology, input size and arguments, lists as text."""
        given = {name: value for name, value in self.card.arguments.items() if value is not None}
        return {
            "network": self.card.network,
            "input": "x".join(map(str, self.card.input)),
            **{name: v if isinstance(v, (str, int, float)) else json.dumps(v) for name, v in given.items()},
        }

    @property
    def group(self) -> str:
        """The group's name; a topology that takes no group is a plain network."""
        return as_group(self.card.argument("group") or "z2").alias

    def describe(self) -> str:
        """The setting in a few words, for progress and notes."""
        arguments = self.card.arguments
        names = ("group", "width", "kernel") if self.baseline else (
            "group", "width", "kernel", "reduction", "slices", "channels_per_slice"
        )  # fmt: skip
        return f"{self.model} " + " ".join(
            f"{n}={arguments[n]}" for n in names if arguments.get(n) is not None
        )


@dataclass(frozen=True)
class Skipped:
    """A combination that cannot exist, and why."""

    setting: Setting
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a sweep will measure, and what it leaves out."""

    settings: tuple[Setting, ...]
    skipped: tuple[Skipped, ...] = ()


def make_plan(
    models: Sequence[str] = DEFAULT_MODELS,
    groups: Sequence[str] = (),
    *,
    reductions: Sequence[int] | None = None,
    slices: Sequence[int] | None = None,
    kernels: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
) -> Plan:
    """Every setting of the grid, each group's G-CNN baselines first.

    An axis that is not given takes the paper's values where the network has that axis. A combination that
    cannot exist (slices that do not divide the width, ...) is left out with its reason.

    Raises:
        SettingError: for a value that no network takes (even kernels, zero), an axis that a model does not
            have, or when no combination is left.
        UnknownNameError: for an unknown group or model.
    """
    for name, values in (
        ("reduction", reductions),
        ("slices", slices),
        ("kernel", kernels),
        ("width", widths),
    ):
        if values is not None and not values:
            raise SettingError(f"{name}: give at least one value")
        for value in values or ():
            positive(**{name: value})
            if name == "kernel" and value % 2 == 0:
                raise SettingError(f"kernel (={value}) must be odd: the stencil is centred on a pixel")
    settings: list[Setting] = []
    skipped: list[Skipped] = []
    for name in dict.fromkeys(models):
        card = find_card(name)
        for group in dict.fromkeys(as_group(g).alias for g in groups) if groups else (None,):
            for setting in _grid(
                card, group, reductions=reductions, slices=slices, kernels=kernels, widths=widths
            ):
                reason = _impossible(setting)
                if reason is None:
                    settings.append(setting)
                else:
                    skipped.append(Skipped(setting, reason))
    if not any(not setting.baseline for setting in settings):
        reasons = dict.fromkeys(skip.reason for skip in skipped)
        raise SettingError(f"no setting of this sweep can exist: {'; '.join(reasons)}")
    return Plan(tuple(settings), tuple(skipped))


def _grid(
    card: Card,
    group: str | None,
    *,
    reductions: Sequence[int] | None,
    slices: Sequence[int] | None,
    kernels: Sequence[int] | None,
    widths: Sequence[int] | None,
) -> Iterator[Setting]:
    base = card if group is None else card.with_arguments({"group": group})
    dynamic = base.accepts("reduction") and base.argument("layer") == "e4"
    axes: dict[str, Sequence[Any]] = {
        "width": _axis(base, "width", widths, None),
        "kernel": _axis(base, "kernel", kernels, DEFAULT_KERNELS if dynamic else None),
    }
    for kernel, width in product(axes["kernel"], axes["width"]):
        sized = base.with_arguments(_given(width=width, kernel=kernel))
        if not dynamic:
            for name, values in (("reduction", reductions), ("slices", slices)):
                if values is not None:
                    raise SettingError(f"{card.name} has no E4 layers, so it takes no {name} (={values[0]})")
            yield Setting(card.name, sized)
            continue
        yield Setting(f"{card.name}-gcnn", _gcnn(sized), baseline=True)
        for r, s in product(
            dict.fromkeys(reductions or DEFAULT_REDUCTIONS), dict.fromkeys(slices or DEFAULT_SLICES)
        ):
            yield Setting(card.name, sized.with_arguments({"reduction": r, "slices": s}))


def _axis(card: Card, name: str, given: Sequence[Any] | None, default: Sequence[Any] | None) -> Sequence[Any]:
    if given is not None and not card.accepts(name):
        raise SettingError(f"{card.name} takes no {name} (={given[0]})")
    return list(dict.fromkeys(given or default or [card.arguments.get(name)]))


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _gcnn(card: Card) -> Card:
    """The group-convolutional network of the same topology: the arguments of E4 layers say nothing there."""
    from dataclasses import replace

    e4_only = ("reduction", "slices", "channels_per_slice", "concatenate", "encoder_norm", "squeeze_affine")
    kept = {name: value for name, value in card.arguments.items() if name not in e4_only}
    return replace(card, arguments={**kept, "layer": "group"})


def _impossible(setting: Setting) -> str | None:
    from e4profile.layers import trace

    try:
        trace(setting.card.build("meta"), setting.card.input_shape())
    except SettingError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Outcome:
    """A measured setting: its record, and whether it was measured now or read back."""

    setting: Setting
    record: Record
    resumed: bool


class Executor(Protocol):
    """Runs the measurement over settings; other executors may use processes or machines."""

    def run(
        self, settings: Sequence[Setting], task: Callable[[Setting], Record]
    ) -> Iterable[tuple[Setting, Record]]:
        """Yield each setting with its record as it finishes."""


class InProcess:
    """Measures one setting after another in this process."""

    def run(
        self, settings: Sequence[Setting], task: Callable[[Setting], Record]
    ) -> Iterable[tuple[Setting, Record]]:
        """Yield each setting with its record as it finishes."""
        for setting in settings:
            yield setting, task(setting)


def counter_versions() -> dict[str, str]:
    """The versions that a sweep's records are made with, without running a counter."""
    import torch

    versions = {"closed-form": version("e4profile"), "dispatch": torch.__version__}
    for name in ("fvcore", "thop"):
        try:
            versions[name] = version(name)
        except ImportError:
            versions[name] = "missing"
    return versions


def measure_setting(setting: Setting) -> Record:
    """Measure one setting with every counter."""
    from e4profile.environment import environment
    from e4profile.measure import measure

    measured = measure(setting.card, COUNTERS)
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
        "terms": _terms(measured.closed.layers),
        "failures": dict(measured.failures),
    }
    for name in ("fvcore", "thop"):
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


_TERM_NAMES = {
    ("LiftingConv2d", "convolution"): "lifting",
    ("GroupConv2d", "convolution"): "group convolution",
    ("Conv2d", "convolution"): "convolution",
}


def _terms(layers: Iterable[Any]) -> dict[str, int]:
    from e4profile.conventions import MAC_KINDS

    gathered: Counter[str] = Counter()
    for layer in layers:
        for term, amount in layer.terms.items():
            if "norm" not in term and amount and set(layer.operations) & set(MAC_KINDS):
                gathered[_TERM_NAMES.get((layer.layer, term), term)] += amount
    return dict(gathered)


@dataclass
class Sweep:
    """A plan being measured: iterate over ``run`` for the outcomes, then ask for ``rows``."""

    plan: Plan
    store: RecordStore | None = None
    executor: Executor = field(default_factory=InProcess)
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self) -> Iterator[Outcome]:
        """Measure what the store does not hold yet; every finished setting is stored before it is yielded."""
        known: dict[str, Record] = {}
        if self.store is not None:
            self.store.check_writable()
            known = {record.key: record for record in self.store.load()}
        versions = counter_versions()
        pending: list[Setting] = []
        for setting in self.plan.settings:
            key = Record(card=setting.model, arguments=setting.arguments, counts={}, counters=versions).key
            if key in known:
                outcome = Outcome(setting, known[key], resumed=True)
                self.outcomes.append(outcome)
                yield outcome
            else:
                pending.append(setting)
        for setting, record in self.executor.run(pending, measure_setting):
            if self.store is not None:
                self.store.append(record)
            outcome = Outcome(setting, record, resumed=False)
            self.outcomes.append(outcome)
            yield outcome

    def rows(self) -> list[dict[str, Any]]:
        """One row per finished setting in the plan's order, with the keys of ``COLUMNS``."""
        finished = self._finished()
        baselines = {
            _baseline_key(outcome.setting): outcome.record.counts
            for outcome in finished
            if outcome.setting.baseline
        }
        return [_row(outcome, baselines.get(_baseline_key(outcome.setting))) for outcome in finished]

    def rows_for_plots(self) -> list[dict[str, Any]]:
        """The rows with two more keys: ``params_printed_form`` and ``terms``, the MACs by named term."""
        more = ("params_printed_form", "terms")
        return [
            {**row, **{name: outcome.record.counts[name] for name in more}}
            for row, outcome in zip(self.rows(), self._finished(), strict=True)
        ]

    def _finished(self) -> list[Outcome]:
        order = {id(setting): index for index, setting in enumerate(self.plan.settings)}
        return sorted(self.outcomes, key=lambda outcome: order[id(outcome.setting)])


def _baseline_key(setting: Setting) -> tuple[Any, ...]:
    arguments = setting.card.arguments
    return (
        setting.model.removesuffix("-gcnn"),
        arguments.get("group"),
        arguments.get("width"),
        arguments.get("kernel"),
    )


def _row(outcome: Outcome, baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    arguments, counts = outcome.setting.card.arguments, outcome.record.counts
    row = {
        "model": outcome.setting.model,
        "group": outcome.setting.group,
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
