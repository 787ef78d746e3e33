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
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import Varied, described, parse_varied
from e4profile.witnesses.counts.measure import measure
from e4profile.witnesses.counts.registry import find_counters
from e4profile.witnesses.variants import VariantCounter, step_bytes

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
        noise: why the time should not be trusted.
    """

    setting: Mapping[str, Any]
    params: int
    macs: int
    step_bytes: int | None = None
    median_s: float | None = None
    noise: tuple[str, ...] = ()
    at_least: bool = False
    reported: Mapping[str, int | None] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        """For JSON: the arguments under ``setting``, exact integers, seconds as measured."""
        return {
            "setting": dict(self.setting), "params": self.params, "macs": self.macs, "step_bytes": self.step_bytes,
            "median_s": self.median_s, "noise": list(self.noise), **self.reported,
            **({"at_least": True} if self.at_least else {}),
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
    progress: Callable[[int, int, str], None] | None = None,
) -> VariantSweep:
    """Count every combination of some arguments' values.

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
    counter = VariantCounter(elements=convention(convention_name).elementwise)
    say = progress or (lambda *_: None)
    found: list[Variant] = []
    subjects: list[Subject] = []
    refused: list[tuple[str, str]] = []
    notes: list[str] = []
    last: SettingError | UserCodeError | None = None
    interrupted = False
    try:
        for done, setting in enumerate(_settings(axes)):
            say(done, total, described(setting))
            try:
                one = subject.with_arguments(setting)
                counted = counter(one)
                step = None if memory_batch_size is None else step_bytes(one, memory_batch_size, optimiser, counter)
                asked = measure(one, stock) if stock else None
            except (SettingError, UserCodeError) as error:
                last = error
                refused.append((described(setting), str(error)))
                continue
            macs = counted.total(convention_name)
            raw, failures = ({}, {}) if asked is None else (asked.raw, asked.failures)
            reported = {name: raw[name].macs if name in raw else None for name in stock}
            found.append(
                Variant(setting, counted.params, macs, step, at_least=bool(counted.unknown), reported=reported)
            )
            subjects.append(one)
            missing = [f"{name}: no figure: {failures[name]}" for name in stock if name in failures]
            notes = list(dict.fromkeys((*notes, *counted.notes, *missing)))
        if timer is not None and found:
            say(total, total, f"{len(found)} variants timed in turn")
            found = [
                _timed(one, samples)
                for one, samples in zip(found, timer([one.at_batch(timed_batch_size) for one in subjects]), strict=True)
            ]
    except KeyboardInterrupt:
        if not found:
            raise
        interrupted = True
        left = total - len(found) - len(refused)
        notes.insert(0, f"interrupted: {left:,} of {total:,} combinations left, nothing timed")
    if not found:
        assert last is not None
        raise _none(subject, last)
    if execution is not None and not any(one.has_executions for one in subjects):
        raise SettingError(f"--execution {execution}: no group convolution in any variant of {subject.name}")
    return VariantSweep(subject.name, tuple(found), tuple(refused), tuple(notes), interrupted)


def axes_of(vary: Sequence[str]) -> list[Varied]:
    """The arguments that are varied, with their values.

    Raises:
        SettingError: for none, one without values, or one that is given twice.
    """
    axes = [parse_varied(text) for text in vary]
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
    return replace(one, median_s=samples.median_s, noise=tuple(samples.noise_reasons))


def _none(subject: Subject, last: SettingError | UserCodeError) -> SettingError | UserCodeError:
    error = type(last)(f"no combination builds the network {subject.name}: {last}")
    error.details = last.details
    return error
