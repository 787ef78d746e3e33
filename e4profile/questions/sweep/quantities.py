"""What a sweep can limit, sort by and set against one another: one entry per quantity.

A quantity follows from the closed form for all settings at once, or each setting's network is asked. All of them are
costs: less is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
from e4profile.questions.sweep.kept_costs import KeptCosts
from e4profile.subjects.named import split_pairs
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import parse_count, parse_duration, parse_percent, parse_size

if TYPE_CHECKING:
    from e4profile.questions.match.by_time import Timer
    from e4profile.show.tables import Kind
    from e4profile.witnesses.timing.rates import Rate


@dataclass(frozen=True)
class Reading:
    """What one setting's network was found to cost.

    Attributes:
        value: the cost; None where it has none.
        interval: where a measured value lies with 95% confidence; None for an exact one.
        note: why there is none, or why it should not be trusted.
    """

    value: int | float | None
    interval: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class How:
    """How networks are asked.

    Attributes:
        batch_size: images; as the network's inputs say when None.
        timer: of forward passes; None where nothing may be timed.
        rates: of the kinds of operators on the device, for predicted times.
        remarks: what a reader must know of predicted times.
        progress: told in words what is asked.
        threads: of times, intra-operator.
        kept: what networks were found to cost before, and where it is stored.
    """

    batch_size: int | None = None
    timer: Timer | None = None
    rates: Mapping[str, Rate] | None = None
    remarks: tuple[str, ...] = ()
    progress: Callable[[str], None] = lambda _: None
    threads: int = 1
    kept: KeptCosts = field(default_factory=KeptCosts)


@dataclass(frozen=True)
class Quantity:
    """A cost of a network.

    Attributes:
        name: on the command line.
        header: of its column.
        kind: of its column.
        read: reads a limit as people write it; the second argument says where it stands.
        meaning: in a few words.
        formula: its name among the closed forms of many settings; empty where networks have to be asked.
        ask: asks networks, one by one or in turn.
    """

    name: str
    header: str
    kind: Kind
    read: Callable[[str, str], int | float | Decimal]
    meaning: str
    formula: str = ""
    ask: Callable[[Sequence[Subject], How], list[Reading]] | None = None

    @property
    def key(self) -> str:
        """Of its column, with its unit."""
        return self.name.replace("-", "_") + {"bytes": "_bytes", "seconds": "_s"}.get(self.kind, "")


def _one_by_one(name: str, ask: Callable[[Subject, int], int]) -> Callable[[Sequence[Subject], How], list[Reading]]:
    """Asks networks one by one for bytes of a batch."""

    def bytes_of(subject: Subject, how: How) -> dict[str, Any]:
        return {"bytes": ask(subject, how.batch_size or subject.batch_size)}

    def asked(subjects: Sequence[Subject], how: How) -> list[Reading]:
        found: dict[int, Reading] = {}
        for place, said in how.kept.each(name, subjects, lambda one: bytes_of(one, how), how.batch_size, how.progress):
            refused = isinstance(said, E4ProfileError)
            note = f"{subjects[place].full_name}: {said}" if refused else ""
            found[place] = Reading(None if isinstance(said, E4ProfileError) else said["bytes"], note=note)
        return [found[place] for place in range(len(subjects))]

    return asked


def _step_bytes(subject: Subject, batch_size: int) -> int:
    from e4profile.witnesses.variants import VariantCounter, step_bytes

    return step_bytes(subject, batch_size, "sgd", VariantCounter())


def _peak_bytes(subject: Subject, batch_size: int) -> int:
    from e4profile.witnesses.variants import VariantCounter, peak_bytes

    return peak_bytes(subject, batch_size, VariantCounter())


def _forward_peak_bytes(subject: Subject, batch_size: int) -> int:
    from e4profile.witnesses.variants import VariantCounter, forward_peak_bytes

    return forward_peak_bytes(subject, batch_size, VariantCounter())


def _times(subjects: Sequence[Subject], how: How) -> list[Reading]:
    from e4profile.witnesses.timing.statistics import median_interval

    if how.timer is None:
        raise SettingError("time is measured: add --time, which runs every setting that is left, or --verify N")
    how.progress(f"{len(subjects)} settings timed in turn")
    found = []
    batched = [one if how.batch_size is None else one.at_batch(how.batch_size) for one in subjects]
    for one, samples in zip(subjects, how.timer(batched), strict=True):
        if not samples.seconds:
            found.append(Reading(None, note=f"{one.full_name}: not timed: {samples.stopped_because}"))
            continue
        noise = "; ".join(samples.noise_reasons)
        interval = median_interval(samples.seconds)
        found.append(Reading(samples.median_s, interval, f"noisy: {one.full_name}: {noise}" if noise else ""))
    return found


_LISTED = (
    Quantity("params", "params", "integer", parse_count, "parameters", "params"),
    Quantity("macs", "MACs", "integer", parse_count, "MACs of a forward pass", "macs"),
    Quantity("irrep-macs", "MACs in irreps", "integer", parse_count, "MACs in the irrep basis", "irrep_macs"),
    Quantity("training-macs", "training MACs", "integer", parse_count, "MACs of a training step", "training_macs"),
    Quantity("activations", "activations", "integer", parse_count, "elements that the layers make", "activations"),
    Quantity("saved", "saved", "bytes", parse_size, "bytes kept for backward, float32 on a CPU", "saved_bytes"),
    Quantity("state", "training state", "bytes", parse_size, "parameters, gradients and state of SGD", "state_bytes"),
    Quantity(
        "peak", "peak", "bytes", parse_size, "most bytes of forward and backward", ask=_one_by_one("peak", _peak_bytes)
    ),
    Quantity(
        "forward-peak",
        "forward peak",
        "bytes",
        parse_size,
        "most bytes of a forward pass without gradients",
        ask=_one_by_one("forward-peak", _forward_peak_bytes),
    ),
    Quantity(
        "memory",
        "training step",
        "bytes",
        parse_size,
        "bytes of a training step",
        ask=_one_by_one("memory", _step_bytes),
    ),
    Quantity(
        "predicted", "predicted", "seconds", parse_duration, "seconds of a forward pass, predicted", "predicted_s"
    ),
    Quantity(
        "step-time",
        "predicted step",
        "seconds",
        parse_duration,
        "seconds of a training step, predicted",
        "predicted_step_s",
    ),
    Quantity("time", "forward", "seconds", parse_duration, "seconds of a forward pass, measured", ask=_times),
)

QUANTITIES: Mapping[str, Quantity] = {one.name: one for one in _LISTED}
"""Every quantity by name."""


ERROR = "error"
"""What networks have from publications, and settings have not; also by the name of one of a table's errors."""

_ERROR_MEANING = "test error in percent, as published or given"


def is_error(one: Quantity | None) -> bool:
    """Whether a quantity is a published error."""
    return one is not None and one.kind == "percent"


def quantity(name: str, option: str) -> Quantity:
    """The quantity of a name.

    Raises:
        UnknownNameError: with the nearest names.
    """
    from e4profile.questions.sweep.pareto import is_error_name

    if name in QUANTITIES:
        return QUANTITIES[name]
    if is_error_name(name):
        return Quantity(name, name, "percent", parse_percent, _ERROR_MEANING)
    raise UnknownNameError(f"quantity in {option}", name, [*QUANTITIES, ERROR])


def meanings() -> dict[str, str]:
    """What can be limited, sorted by and set against one another, in a few words each."""
    return {**{one.name: one.meaning for one in QUANTITIES.values()}, ERROR: _ERROR_MEANING}


@dataclass(frozen=True)
class Limit:
    """The most, or the least, that a setting may cost."""

    quantity: Quantity
    bound: int | float | Decimal
    text: str
    most: bool

    def __str__(self) -> str:
        return f"{self.quantity.name} {'<=' if self.most else '>='} {self.text}"

    def met(self, values: Any) -> Any:
        """Whether values keep to it, as an array."""
        return values <= self.bound if self.most else values >= self.bound

    def excess(self, value: int | float | Decimal) -> float:
        """How many times a value misses it; 0 where it keeps to it."""
        if self.met(value):
            return 0.0
        one, other = (float(value), float(self.bound)) if self.most else (float(self.bound), float(value))
        return one / other if other else math.inf


TIME, PREDICTED, STEP_TIME = (QUANTITIES[name] for name in ("time", "predicted", "step-time"))


def read_limits(most: Sequence[str], least: Sequence[str]) -> list[Limit]:
    """Limits as they are written: ``time=30ms``, ``memory=50MB``, ``params=1M``.

    Raises:
        UnknownNameError: for a quantity that does not exist.
        SettingError: for a text without a value, two limits of one kind, or two that contradict each other.
    """
    limits: list[Limit] = []
    for option, texts in (("--max", most), ("--min", least)):
        for text in (part for joined in texts for part in split_pairs(joined)):
            name, assigned, value = (part.strip() for part in text.partition("="))
            if not (name and assigned and value):
                raise SettingError(f"{option}: {text!r} must be QUANTITY=VALUE, for example params=1M or memory=50MB")
            known = quantity(name, option)
            limits.append(Limit(known, known.read(value, f"{option} {name}"), value, option == "--max"))
    for at, one in enumerate(limits):
        for other in limits[:at]:
            if one.quantity is not other.quantity:
                continue
            if one.most == other.most:
                raise SettingError(f"{'--max' if one.most else '--min'} {one.quantity.name} is given twice")
            lower, upper = (other, one) if one.most else (one, other)
            if lower.bound > upper.bound:
                raise SettingError(
                    f"--min {one.quantity.name}={lower.text} contradicts --max {one.quantity.name}={upper.text}"
                )
    return limits
