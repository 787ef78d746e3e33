"""One timing as plain data, and the plain function that gives its record.

A job of a cluster runs it, and so may any other program that maps a function over settings (docs/how-to/cluster.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from e4profile.errors import SettingError, from_table
from e4profile.groups import FiniteGroup
from e4profile.records.store import Record, record_key
from e4profile.records.times import to_record
from e4profile.subjects.losses import LOSSES
from e4profile.subjects.subject import Subject, resolve
from e4profile.witnesses.environment import environment, own_version
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.samples import StopRule, TimeRecord

if TYPE_CHECKING:
    from e4profile.subjects.losses import Loss

_SHORTEST_S = 0.1

COUNT = "count"
"""What is asked in place of a pass where a network is counted and not timed; also the kind of its record."""


@dataclass(frozen=True, kw_only=True)
class TimeSetting:
    """A network, how its pass runs, and how long it is sampled; JSON values alone.

    Attributes:
        network: a card's name, a card file, ``package.module:build`` or ``path/to/file.py:build``.
        arguments: that replace the network's own.
        without: arguments of the card that are left to the topology's defaults.
        inputs: as ``--input`` takes them; a card's own when empty.
        execution: of the group convolutions of a user-defined model.
        name: of the record; the network's own when empty.
        code: a digest of the user's files that built it when it was asked for; empty for a card.
        pass_, mode, device, dtype, batch_size, threads, loss, compile, graphs: as ``PassSetting`` has them.
        min_run_time_s, max_run_time_s: as ``StopRule`` has them; a tenth of a second, or the most, when None.
    """

    network: str
    arguments: dict[str, Any] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    execution: str | None = None
    name: str = ""
    code: str = ""
    pass_: str = "forward"
    mode: str = "eval"
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int | None = None
    threads: int = 1
    loss: str = "auto"
    compile: bool = False
    graphs: bool = False
    min_run_time_s: float | None = None
    max_run_time_s: float = 2.0

    @property
    def described(self) -> str:
        """The setting in a few words, for progress and notes."""
        words = [self.name or self.network, *(f"{name}={value}" for name, value in self.arguments.items())]
        return f"{' '.join(words)}, {self.pass_}"

    @property
    def rule(self) -> StopRule:
        """When enough samples are taken."""
        shortest_s = min(_SHORTEST_S, self.max_run_time_s) if self.min_run_time_s is None else self.min_run_time_s
        return StopRule(min_run_time_s=shortest_s, max_run_time_s=self.max_run_time_s)

    @property
    def longest_s(self) -> float:
        """The most that sampling and its warm-up take, by the rule; a count samples nothing."""
        return 1.25 * self.max_run_time_s

    @property
    def subject(self) -> Subject:
        """The network.

        Raises:
            Whatever resolving it raises.
        """
        found = _as_named(self.network, self.inputs)
        found = found.with_arguments(self.arguments).without_arguments(self.without)
        return found if self.execution is None else found.executed(self.execution)

    @property
    def choice(self) -> PassSetting:
        """How the pass runs.

        Raises:
            Whatever ``PassSetting`` raises, also for a device that is not here.
        """
        loss: Loss = self.loss  # type: ignore[assignment]
        return PassSetting(
            self.pass_, self.mode, self.device, self.dtype, self.batch_size, self.compile, self.graphs, self.threads,
            loss,
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """The setting as JSON values, without those that are the defaults."""
        known = {one.name: one for one in fields(self)}
        values = {name: value for name, value in asdict(self).items() if _default(known[name]) != value}
        return {"pass" if name == "pass_" else name: value for name, value in values.items()}


def _as_named(reference: str, inputs: Sequence[str]) -> Subject:
    """A network as it is named; the file of a user-defined model is imported once for all of its settings."""
    file = Path(reference.rpartition(":")[0] or reference)
    stamp = file.stat().st_mtime_ns if file.is_file() else 0
    return _resolved(reference, tuple(inputs), Path.cwd(), stamp)


@lru_cache(maxsize=64)
def _resolved(reference: str, inputs: tuple[str, ...], _folder: Path, _stamp: int) -> Subject:
    return resolve(reference, inputs)


def _default(one: Any) -> Any:
    return one.default_factory() if callable(one.default_factory) else one.default


def read_setting(values: Mapping[str, Any]) -> TimeSetting:
    """A setting from JSON values.

    Raises:
        SettingError: naming the key, for a wrong type, a missing or an unknown key.
    """
    renamed = {"pass_" if name == "pass" else name: value for name, value in values.items()}
    return from_table(renamed, TimeSetting, "setting: ")


def setting_of(subject: Subject, choice: PassSetting, rule: StopRule, name: str = "") -> TimeSetting:
    """The timing of a network as plain data, from which any process of the same folder builds the same network.

    Raises:
        SettingError: for a network that cannot be named so: a module in hand, arguments that are no JSON values, a loss
            of the user's, or threads that are not given.
    """
    arguments = {key: _recorded_plain(subject, key, value) for key, value in subject.arguments.items()}
    execution = None
    if subject.execution is not None and not subject.accepts("execution"):
        execution = arguments.pop("execution")
    if choice.loss not in LOSSES or choice.threads is None:
        raise SettingError(
            f"{subject.name}: a user-defined loss, or threads that are not given, cannot be sent to a job"
        )
    given = [str(one) for one in subject.specs] if subject.input_given else []
    reference = subject.reference
    own = _as_named(reference, given).arguments
    # a card refuses what was set beside what does not take it, and not what is its own
    arguments = {key: value for key, value in arguments.items()
                 if key not in own or _recorded_plain(subject, key, own[key]) != value}  # fmt: skip
    found = TimeSetting(
        network=reference, arguments=arguments, without=[key for key in own if key not in subject.arguments],
        inputs=given, execution=execution, name=name, code=subject.code_digest, pass_=choice.pass_, mode=choice.mode,
        device=choice.device, dtype=choice.dtype, batch_size=choice.batch_size, threads=choice.threads,
        loss=str(choice.loss), compile=choice.compile, graphs=choice.graphs, min_run_time_s=rule.min_run_time_s,
        max_run_time_s=rule.max_run_time_s,
    )  # fmt: skip
    again = read_setting(json.loads(json.dumps(found.plain()))).subject
    if recorded_arguments(again) != recorded_arguments(subject) or (
        subject.input_given and again.specs != subject.specs
    ):
        raise SettingError(f"{subject.full_name}: what a job is sent builds another network ({again.full_name})")
    return found


def _recorded_plain(subject: Subject, name: str, value: Any) -> Any:
    value = value.alias if isinstance(value, FiniteGroup) else value
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise SettingError(
            f"{subject.name}: {name} (={value!r}) is not a plain value, so it cannot be sent to a job"
        ) from None


def recorded_arguments(subject: Subject) -> dict[str, Any]:
    """What is built, as records hold it: topology, input, arguments, lists as text, and a digest of the user's code."""
    given = {name: value for name, value in subject.arguments.items() if value is not None}
    code = subject.code_digest
    return {
        "network": subject.topology,
        "input": subject.given if subject.input is None or code else "x".join(map(str, subject.shape[1:])),
        **{name: recorded(value) for name, value in given.items()},
        **({"code": code} if code else {}),
    }


def recorded(value: Any) -> str | int | float:
    """The value of an argument as records hold it."""
    if isinstance(value, FiniteGroup):
        return value.alias
    return value if isinstance(value, (str, int, float)) else json.dumps(value, default=str)


def record_of(setting: TimeSetting) -> Record:
    """Time a setting here, or count it.

    Raises:
        Whatever building or running its network raises.
    """
    if setting.pass_ == COUNT:
        return count_of(setting)
    from e4profile.witnesses.timing.measure import measure_time

    subject, choice = setting.subject, setting.choice
    network = subject.build("cpu")
    arguments = recorded_arguments(subject)
    with subject.guarded(choice.batch_size):
        found = measure_time(network, subject.batched, choice, setting.rule, name=setting.name or subject.name)
    if setting.code:
        # the digest of when it was asked for: more files may have been imported by now
        arguments["code"] = setting.code
    return to_record(replace(found, arguments=arguments))


def count_setting(subject: Subject, name: str = "") -> TimeSetting:
    """The count of a network as plain data.

    Raises:
        SettingError: as for ``setting_of``.
    """
    found = setting_of(subject, PassSetting(), StopRule(min_run_time_s=0.0, max_run_time_s=0.0), name)
    return replace(found, pass_=COUNT)


def count_of(setting: TimeSetting) -> Record:
    """Count a network: by its closed form where that is promised, else by a run; or why it cannot be.

    Raises:
        Whatever resolving it raises.
    """
    from e4profile.subjects.guest import UserCodeError
    from e4profile.witnesses.variants import VariantCounter

    subject = setting.subject
    try:
        found = VariantCounter()(subject)
        counts: dict[str, Any] = {"params": found.params, "operations": dict(found.operations),
                                  "notes": list(found.notes), "unknown": list(found.unknown)}  # fmt: skip
    except (SettingError, UserCodeError) as error:
        counts = {"refused": str(error), "details": error.details, "user_code": isinstance(error, UserCodeError)}
    return replace(_count_record(setting, subject), counts=counts, environment=environment())


def _count_record(setting: TimeSetting, subject: Subject) -> Record:
    arguments = recorded_arguments(subject)
    if setting.code:
        arguments["code"] = setting.code
    versions = {"e4profile": own_version(), "torch": torch.__version__, "inputs": " ".join(map(str, subject.specs))}
    return Record(kind=COUNT, card=setting.name or subject.name, arguments=arguments, counts={}, counters=versions)


def run_setting(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Time one setting here and return its record: JSON values in, JSON values out.

    Args:
        setting: ``network``, and what else of ``TimeSetting`` is not the default; ``pass``: forward, backward, step.

    Raises:
        SettingError: for a setting that cannot be.
        MeasurementError: when nothing could be measured.
        UserCodeError: for what a user-defined model raises.
    """
    found: dict[str, Any] = json.loads(record_of(read_setting(setting)).to_line())
    return found


def time_key(
    name: str, arguments: Mapping[str, Any], how: Mapping[str, Any], where: Mapping[str, Any] | None = None
) -> str:
    """What makes two timings the same work: network, arguments, pass and, where it counts, environment."""
    said = {key: str(value) for key, value in {**(where or {}), **how}.items()}
    return record_key("time", name, arguments, said)


_HOW = ("pass_", "mode", "device", "dtype", "batch_size", "compiled", "graphed", "threads")


def key_of_setting(setting: TimeSetting, subject: Subject | None = None) -> str:
    """The key of a setting, whatever machine it runs on."""
    subject = subject or setting.subject
    if setting.pass_ == COUNT:
        return _count_record(setting, subject).key
    arguments = recorded_arguments(subject)
    if setting.code:
        arguments["code"] = setting.code
    how = {**asdict(setting), "compiled": setting.compile, "graphed": setting.graphs}
    how["device"] = setting.device.partition(":")[0]
    how["batch_size"] = setting.batch_size or subject.own_batch or 1
    return time_key(setting.name or subject.name, arguments, {name: how[name] for name in _HOW})


def key_of_record(record: TimeRecord) -> str:
    """The same of a record that was taken."""
    return time_key(record.name, record.arguments, {name: getattr(record, name) for name in _HOW})
