"""What is known of settings and of the jobs that were to time them: the records of a store, and its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from e4profile.records.jobs.setting import COUNT, key_of_record
from e4profile.records.store import Record, RecordStore
from e4profile.records.times import KIND, from_record
from e4profile.witnesses.environment import environment, same_environment
from e4profile.witnesses.timing.samples import TimeRecord

LEDGER = "jobs.jsonl"
SOFTWARE = ("python", "torch", "default_dtype")
"""What a record of another machine must have been taken with."""


@dataclass
class Known:
    """The records of a store that may be read back, by the key of their settings.

    Attributes:
        anywhere: whether those of other machines with the same software may, as jobs take them.
    """

    store: RecordStore
    anywhere: bool = False

    def __post_init__(self) -> None:
        self._here = environment()
        self.records: dict[str, Record] = {}
        self("", self.store.load())

    def __call__(self, key: str, stored: Sequence[Record] = ()) -> Record | None:
        """The record of a setting, after it was told what was stored meanwhile (see ``share``)."""
        for record in stored:
            if record.kind == COUNT:
                # the same on every machine; its key says of which software
                self.records[record.key] = record
            if record.kind == KIND:
                one = from_record(record)
                if self._fits(one):
                    self.records[key_of_record(one)] = record
        return self.records.get(key)

    def _fits(self, one: TimeRecord) -> bool:
        # the record was taken at its own thread count, which it restored afterwards
        here = {**self._here, "threads": one.threads}
        apart = same_environment(one.environment, here)
        return not (set(apart) & set(SOFTWARE) if self.anywhere else apart)


@dataclass(frozen=True)
class Part:
    """A job that was handed over, with the settings that it is to time, in order.

    Attributes:
        how: where it runs.
        job: its name there.
        since: when it began, for a process of this machine.
        plan, number: which part of which plan it is.
    """

    how: str
    job: str
    since: str
    keys: tuple[str, ...]
    plan: str
    number: int


class Ledger:
    """What ``jobs.jsonl`` says, read on by ``follow``.

    Attributes:
        parts: what was handed over, in order, by plan and number; of a script, what began.
        began: of these the seconds of the reference network and the device.
        failures: by setting and job the reason.
    """

    def __init__(self, store: RecordStore) -> None:
        self.store = store
        self.parts: dict[tuple[str, int], Part] = {}
        self.began: dict[tuple[str, int], tuple[str, list[float], str]] = {}
        self.failures: dict[tuple[str, str], str] = {}
        self._learn(store.load())

    def follow(self) -> None:
        """Learn what was added."""
        self._learn(self.store.follow())

    def _learn(self, records: Sequence[Record]) -> None:
        for one in records:
            said, counts = one.arguments, one.counts
            if one.kind == "array":
                for number, ((job, since), keys) in enumerate(zip(counts["jobs"], counts["parts"], strict=True)):
                    part = Part(one.card, job, since, tuple(keys), said["plan"], number)
                    self.parts[said["plan"], number] = part
            elif one.kind == "part":
                at = (said["plan"], said["part"])
                self.began[at] = (one.card, counts["reference_s"], str(one.environment.get("device")))
                # handed over by a script, which does not know the names of its jobs
                self.parts.setdefault(at, Part("slurm", one.card, "", tuple(counts["keys"]), *at))
            elif one.kind == "failure":
                self.failures[one.card, said["job"]] = counts["reason"]

    def add_failure(self, key: str, job: str, reason: str) -> None:
        """Store why a setting has no record."""
        counts = {"reason": " ".join(reason.split())}
        self.store.append(Record(kind="failure", card=key, arguments={"job": job}, counts=counts, counters={}))
