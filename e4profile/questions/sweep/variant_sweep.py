"""Every combination of some arguments of a network, with what each one costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from e4profile.conventions import convention
from e4profile.errors import SettingError, positive
from e4profile.questions.sweep.plans import MOST
from e4profile.questions.sweep.sweeps import counter_versions
from e4profile.records.jobs.setting import recorded_arguments
from e4profile.records.sharing import share
from e4profile.records.store import Record, RecordStore, record_key
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.named import split_pairs
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import Varied, described, parse_varied
from e4profile.witnesses.counts.measure import measure
from e4profile.witnesses.counts.registry import find_counters
from e4profile.witnesses.environment import environment
from e4profile.witnesses.variants import Counted, VariantCounter, step_bytes

if TYPE_CHECKING:
    from e4profile.questions.match.by_time import Timer
    from e4profile.witnesses.timing.samples import Samples


@dataclass(frozen=True)
class Variant:
    """One combination of arguments and its costs.

    Attributes:
        setting: the arguments that are varied.
        params: parameters.
        macs: under the convention that was asked for.
        reported: by stock counter that was asked, its figure; None where it gave none.
        at_least: whether they are a lower bound, because operators ran that are unknown.
        step_bytes: of a predicted training step; None where it was not asked for.
        median_s: of a forward pass; None where no timer was given.
        iqr_s: the interquartile range of its samples.
        noise: why the time should not be trusted.
        failure: why it could not be timed; empty where it could, or was not asked for.
    """

    setting: Mapping[str, Any]
    params: int
    macs: int
    step_bytes: int | None = None
    median_s: float | None = None
    iqr_s: float | None = None
    noise: tuple[str, ...] = ()
    failure: str = ""
    at_least: bool = False
    reported: Mapping[str, int | None] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        """For JSON: the arguments under ``setting``, exact integers, seconds as measured."""
        return {
            "setting": dict(self.setting), "params": self.params, "macs": self.macs, "step_bytes": self.step_bytes,
            "median_s": self.median_s, "iqr_s": self.iqr_s, "noise": list(self.noise), **self.reported,
            **({"at_least": True} if self.at_least else {}),
            **({"failure": self.failure} if self.failure else {}),
        }  # fmt: skip


@dataclass(frozen=True)
class VariantSweep:
    """What was found.

    Attributes:
        model: the network whose arguments were varied.
        variants: what could be built, in the order of the values given, the last argument fastest.
        refused: what could not, as ``(setting, reason)``.
        notes: what a reader must know, a sentence each.
        interrupted: whether Ctrl-C ended it, so that the rest was not counted or nothing was timed.
    """

    model: str
    variants: tuple[Variant, ...]
    refused: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    interrupted: bool = False


def sweep_variants(
    subject: Subject,
    vary: Sequence[str],
    *,
    convention_name: str = "macs",
    counters: Sequence[str] = (),
    timed_batch_size: int = 1,
    memory_batch_size: int | None = None,
    optimiser: str = "sgd",
    timer: Timer | None = None,
    execution: str | None = None,
    store: RecordStore | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> VariantSweep:
    """Count every combination of some arguments' values.

    Any number of processes may do so into one store: each combination is counted by the one that claims it.

    Args:
        subject: the network, counted on its own inputs: by its closed form where that is promised, else by a run.
        vary: arguments with their values: ``width=8..64..8``, ``norm=None,batch`` (see ``parse_varied``).
        convention_name: what ``macs`` counts.
        counters: stock counters that are asked too, which run each variant.
        timed_batch_size: images of a timed pass; inputs that were given keep their own batch.
        memory_batch_size: images of the training step whose bytes are predicted; None leaves it out.
        optimiser: of that step, a name of ``witnesses.memory.step.MOMENTS``.
        timer: samples forward passes of all variants in turn, for example ``ForwardInTurn``, which holds all of them
            at once; None leaves time out.
        execution: of group convolutions: bank, irreps or auto; as the network says when None.
        store: remembers what was counted; None forgets.
        progress: told how many combinations are done, of how many, and which comes next.

    Raises:
        SettingError: for an argument without values or twice, too many combinations, when none can be built, or an
            execution where none of them has one.
        UnknownNameError: for an argument that the network does not take, an unknown convention or counter.
        UserCodeError: when no variant of a user-defined model can be built, with the last error's traceback.
    """
    sizes = {"timed_batch_size": timed_batch_size, "memory_batch_size": memory_batch_size}
    positive(**{name: size for name, size in sizes.items() if size is not None})
    convention(convention_name)
    stock = [spec.name for spec in find_counters(counters) if spec.raw]
    axes = _axes(subject, vary)
    subject = _executed(subject, execution, axes)
    total = prod(len(axis.given or ()) for axis in axes)
    counting = _Counting(convention_name, stock, memory_batch_size, optimiser)
    say = progress or (lambda *_: None)
    settings = list(_settings(axes))
    by_place: dict[int, tuple[Variant, Subject]] = {}
    refusals: dict[int, SettingError | UserCodeError] = {}
    said: dict[int, list[str]] = {}
    interrupted, read_back = False, 0

    def measured(place: int) -> Record | None:
        say(len(by_place) + len(refusals), total, described(settings[place]))
        try:
            return counting.record(subject.with_arguments(settings[place]))
        except (SettingError, UserCodeError) as error:
            refusals[place] = error
            return None

    try:
        work = list(_keyed(subject, settings, counting, refusals, stored=store is not None))
        counted = (
            ((place, record, False) for _, place in work if (record := measured(place)) is not None)
            if store is None
            else share(work, store, _Settled(store), measured, lambda text: say(len(by_place), total, text))
        )
        for place, record, resumed in counted:
            variant = counting.variant(settings[place], record)
            by_place[place] = variant, subject.with_arguments(settings[place])
            said[place] = counting.notes(record)
            read_back += resumed
    except KeyboardInterrupt:
        if not by_place:
            raise
        interrupted = True
    found = [by_place[place][0] for place in sorted(by_place)]
    subjects = [by_place[place][1] for place in sorted(by_place)]
    notes = list(dict.fromkeys(text for place in sorted(said) for text in said[place]))
    if store is not None:
        notes += [f"of the {len(found)}, {read_back} were read back from {store.path}"] * bool(read_back) + store.notes
    refused = [(described(settings[place]), str(refusals[place])) for place in sorted(refusals)]
    try:
        if timer is not None and found and not interrupted:
            say(total, total, f"{len(found)} variants timed in turn")
            found = [
                _timed(one, samples)
                for one, samples in zip(found, timer([one.at_batch(timed_batch_size) for one in subjects]), strict=True)
            ]
    except KeyboardInterrupt:
        interrupted = True
    if interrupted:
        left = total - len(found) - len(refused)
        notes.insert(0, f"interrupted: {left:,} of {total:,} combinations left, nothing timed")
    if not found:
        raise _none(subject, refusals[max(refusals)])
    if execution is not None and not any(one.has_executions for one in subjects):
        raise SettingError(
            f"--execution {execution}: no group convolution over C_n or D_n in any variant of {subject.name}"
        )
    return VariantSweep(subject.name, tuple(found), tuple(refused), tuple(notes), interrupted)


_KIND = "variant"


@dataclass(frozen=True)
class _Counting:
    """What is counted of every combination, and how a record holds it."""

    convention_name: str
    stock: Sequence[str]
    memory_batch_size: int | None
    optimiser: str
    counter: VariantCounter = field(init=False)

    def __post_init__(self) -> None:
        elements = convention(self.convention_name).elementwise
        object.__setattr__(self, "counter", VariantCounter(elements=elements))

    @property
    def versions(self) -> dict[str, str]:
        """What the counts depend on besides the network."""
        asked = counter_versions(("closed-form", "dispatch", *self.stock))
        if self.memory_batch_size is not None:
            asked["step"] = f"{self.optimiser}, batch of {self.memory_batch_size}"
        return {**asked, **({"elements": "counted"} if self.counter.elements else {})}

    def key(self, subject: Subject) -> str:
        """Of the network's record."""
        return record_key(_KIND, subject.name, recorded_arguments(subject), self.versions)

    def record(self, one: Subject) -> Record:
        """The counts of a network.

        Raises:
            SettingError: for arguments that it refuses.
            UserCodeError: for what a user-defined model raises.
        """
        found = self.counter(one)
        step = None
        if self.memory_batch_size is not None:
            step = step_bytes(one, self.memory_batch_size, self.optimiser, self.counter)
        asked = measure(one, self.stock) if self.stock else None
        raw, failures = ({}, {}) if asked is None else (asked.raw, asked.failures)
        counts = {
            "params": found.params, "operations": dict(found.operations), "elements": dict(found.elements),
            "notes": list(found.notes), "unknown": list(found.unknown), "step_bytes": step,
            "reported": {name: raw[name].macs if name in raw else None for name in self.stock},
            "failures": {name: failures[name] for name in self.stock if name in failures},
        }  # fmt: skip
        return Record(kind=_KIND, card=one.name, arguments=recorded_arguments(one), counts=counts,
                      counters=self.versions, environment=environment())  # fmt: skip

    def variant(self, setting: Mapping[str, Any], record: Record) -> Variant:
        """What a record says of a combination."""
        counts = record.counts
        found = Counted(counts["params"], counts["operations"], (), tuple(counts["unknown"]), counts["elements"])
        return Variant(setting, found.params, found.total(self.convention_name), counts["step_bytes"],
                       at_least=bool(found.unknown), reported=counts["reported"])  # fmt: skip

    def notes(self, record: Record) -> list[str]:
        """What a reader must know of a record."""
        failures = record.counts["failures"]
        return [*record.counts["notes"], *(f"{name}: no figure: {reason}" for name, reason in failures.items())]


class _Settled:
    """The records that are not to be counted again: those in which no counter failed."""

    def __init__(self, store: RecordStore) -> None:
        store.check_writable()
        self._known: dict[str, Record] = {}
        self("", store.load())

    def __call__(self, key: str, stored: Sequence[Record]) -> Record | None:
        fine = (record for record in stored if record.kind == _KIND and not record.counts["failures"])
        self._known.update({record.key: record for record in fine})
        return self._known.get(key)


def _keyed(
    subject: Subject, settings: Sequence[Mapping[str, Any]], counting: _Counting,
    refusals: dict[int, SettingError | UserCodeError], *, stored: bool,
) -> Iterator[tuple[str, int]]:  # fmt: skip
    """The places of the combinations behind their keys, where anything is stored; what is refused at once has none."""
    for place, setting in enumerate(settings):
        try:
            yield (counting.key(subject.with_arguments(setting)) if stored else "", place)
        except (SettingError, UserCodeError) as error:
            refusals[place] = error


def axes_of(vary: Sequence[str]) -> list[Varied]:
    """The arguments that are varied, with their values.

    Raises:
        SettingError: for none, one without values, or one that is given twice.
    """
    axes = [parse_varied(text) for joined in vary for text in split_pairs(joined)]
    if not axes:
        raise SettingError("--vary: give at least one argument with its values, for example width=8..64..8")
    names = [axis.name for axis in axes]
    for axis in axes:
        if axis.given is None:
            raise SettingError(f"--vary {axis.name}: give its values, for example {axis.name}=8..64..8")
        if names.count(axis.name) > 1:
            raise SettingError(f"--vary: {axis.name} is given {names.count(axis.name)} times")
    return axes


def _axes(subject: Subject, vary: Sequence[str]) -> list[Varied]:
    axes = axes_of(vary)
    for axis in axes:
        subject.check_accepts(axis.name)
    total = prod(len(axis.given or ()) for axis in axes)
    if total > MOST:
        raise SettingError(f"--vary: {total:,} combinations; at most {MOST:,} are counted")
    return axes


def _executed(subject: Subject, execution: str | None, axes: Sequence[Varied]) -> Subject:
    if execution is None:
        return subject
    if any(axis.name == "execution" for axis in axes):
        raise SettingError(f"--execution {execution}, and --vary execution: give one of them")
    return subject.executed(execution)


def _settings(axes: Sequence[Varied]) -> Iterator[dict[str, Any]]:
    for values in product(*(axis.given or () for axis in axes)):
        yield dict(zip((axis.name for axis in axes), values, strict=True))


def _timed(one: Variant, samples: Samples) -> Variant:
    if not samples.seconds:
        return replace(one, failure=samples.stopped_because)
    return replace(one, median_s=samples.median_s, iqr_s=samples.iqr_s, noise=tuple(samples.noise_reasons))


def _none(subject: Subject, last: SettingError | UserCodeError) -> SettingError | UserCodeError:
    error = type(last)(f"no combination builds the network {subject.name}: {last}")
    error.details = last.details
    return error
