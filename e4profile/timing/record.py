"""One timing as a record: raw samples, setting and environment, and what may stand in a table together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e4profile.environment import same_environment
from e4profile.errors import SettingError
from e4profile.records import Record
from e4profile.timing.samples import Samples

KIND = "time"


@dataclass(frozen=True)
class TimeRecord:
    """How long one pass of one network takes, sample by sample.

    Attributes:
        name: the network's.
        pass_: ``forward``, ``backward`` or ``step`` (see ``PASS_MEANINGS``).
        mode: ``eval`` or ``train``.
        loss: what backward starts from; empty for a forward pass.
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        input_shape: (B, channels, h, w), or that of the first tensor of several inputs.
        compiled: whether ``torch.compile`` was applied.
        graphed: whether CUDA graphs were replayed.
        threads: intra-operator threads.
        clock: what took the samples.
        samples: the samples.
        environment: where it was measured (see ``e4profile.environment``).
        arguments: of the network, or of the builder.
        inputs: all of them in words, where there are several; empty for one tensor.
        label: the name with the arguments that were given, for tables; the name where it is not said.
    """

    name: str
    pass_: str
    mode: str
    loss: str
    device: str
    dtype: str
    input_shape: tuple[int, ...]
    compiled: bool
    graphed: bool
    threads: int
    clock: str
    samples: Samples
    environment: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = ""
    label: str = ""

    @property
    def title(self) -> str:
        """The label, or the name without one."""
        return self.label or self.name

    @property
    def batch_size(self) -> int:
        """Images per pass."""
        return self.input_shape[0]

    @property
    def median_s(self) -> float:
        """The median in seconds."""
        return self.samples.median_s

    @property
    def iqr_s(self) -> float:
        """The interquartile range in seconds."""
        return self.samples.iqr_s

    @property
    def noisy(self) -> bool:
        """Whether there is a reason not to trust the median to its digits."""
        return self.samples.noisy

    def to_record(self) -> Record:
        """The line of the store."""
        samples = self.samples
        arguments: dict[str, Any] = {
            name: value if isinstance(value, str | int | float | bool | None) else str(value)
            for name, value in self.arguments.items()
        }
        return Record(
            kind=KIND,
            card=self.name,
            arguments=arguments,
            counts={
                "pass": self.pass_,
                "mode": self.mode,
                "loss": self.loss,
                "device": self.device,
                "dtype": self.dtype,
                "input_shape": list(self.input_shape),
                **({"inputs": self.inputs} if self.inputs else {}),
                **({"label": self.label} if self.label else {}),
                "compiled": self.compiled,
                "graphed": self.graphed,
                "threads": self.threads,
                "seconds": list(samples.seconds),
                "dropped": samples.dropped,
                "first_call_s": samples.first_call_s,
                "warm_up_calls": samples.warm_up_calls,
                "warm_up_stable": samples.warm_up_stable,
                "stopped_by": samples.stopped_by,
                "stopped_because": samples.stopped_because,
            },
            counters={"clock": self.clock},
            environment=dict(self.environment),
        )

    @classmethod
    def from_record(cls, record: Record) -> TimeRecord:
        """The timing in a line of the store.

        Raises:
            SettingError: for a record of another kind, or one that lacks a value.
        """
        if record.kind != KIND:
            raise SettingError(f"a record of kind {record.kind!r} holds no timing")
        counts = record.counts
        try:
            samples = Samples(
                seconds=tuple(float(value) for value in counts["seconds"]),
                dropped=counts["dropped"],
                first_call_s=counts["first_call_s"],
                warm_up_calls=counts["warm_up_calls"],
                warm_up_stable=counts["warm_up_stable"],
                stopped_by=counts["stopped_by"],
                stopped_because=counts["stopped_because"],
            )
            return cls(
                name=record.card,
                pass_=counts["pass"],
                mode=counts["mode"],
                loss=counts["loss"],
                device=counts["device"],
                dtype=counts["dtype"],
                input_shape=tuple(counts["input_shape"]),
                compiled=counts["compiled"],
                graphed=counts["graphed"],
                threads=counts["threads"],
                clock=record.counters["clock"],
                samples=samples,
                environment=record.environment,
                arguments=record.arguments,
                inputs=counts.get("inputs", ""),
                label=counts.get("label", ""),
            )
        except KeyError as error:
            raise SettingError(f"the timing of {record.card!r} lacks {error}") from error


def environment_labels(environments: Sequence[Mapping[str, Any]], *, mixed: bool = False) -> list[str]:
    """A label per environment: all empty where they agree; ``A``, ``B``, ... where mixing was asked for.

    Raises:
        SettingError: when they differ in something that changes timings and ``mixed`` is not given.
    """
    distinct: list[Mapping[str, Any]] = []
    positions = []
    for environment in environments:
        alike = [p for p, other in enumerate(distinct) if not same_environment(other, environment)]
        positions.append(alike[0] if alike else len(distinct))
        if not alike:
            distinct.append(environment)
    if len(distinct) < 2:
        return [""] * len(positions)
    if not mixed:
        raise SettingError(
            f"timings from different environments do not go into one table: {difference(distinct[0], distinct[1])}; "
            "ask for a mixed table to have them labelled"
        )
    return [_letters(position) for position in positions]


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """In what two environments differ, with both values."""
    return "; ".join(f"{key}: {a.get(key)!r} against {b.get(key)!r}" for key in same_environment(a, b))


def _letters(position: int) -> str:
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
