"""A timer of forward passes that remembers: what a folder holds is read back, the rest sampled in turn or by jobs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.questions.output import note
from e4profile.records.jobs.known import Known
from e4profile.records.jobs.setting import TimeSetting, key_of_setting, recorded_arguments, setting_of
from e4profile.records.sharing import alone
from e4profile.records.store import RecordStore
from e4profile.records.times import from_record, to_record
from e4profile.subjects.subject import Subject
from e4profile.witnesses.environment import environment
from e4profile.witnesses.timing.in_turn import ForwardInTurn
from e4profile.witnesses.timing.measure import clock_for
from e4profile.witnesses.timing.passes import PassSetting, fixed_threads
from e4profile.witnesses.timing.samples import Samples, StopRule, TimeRecord

if TYPE_CHECKING:
    from e4profile.records.jobs.executors import Jobs

IN_TURN = 25
"""Networks that are sampled in turn and then stored; a command that is killed loses no more."""


class KeptTimes:
    """Forward passes in evaluation mode, kept in ``times.jsonl`` of a folder.

    Attributes:
        failed: why networks could not be timed by jobs, a sentence each.
    """

    def __init__(
        self, folder: Path, device: str, max_run_time_s: float, jobs: Jobs | None = None, threads: int = 1
    ) -> None:
        self._store = RecordStore(folder / "times.jsonl")
        self._device, self._jobs, self._threads = device, jobs, threads
        self._rule = StopRule(min_run_time_s=min(0.1, max_run_time_s), max_run_time_s=max_run_time_s)
        # jobs run where the device is, which need not be here
        self._in_turn = None if jobs is not None else ForwardInTurn(device, max_run_time_s, threads)
        self.failed: list[str] = []

    def __call__(self, subjects: Sequence[Subject], *, brief: bool = False) -> list[Samples]:
        """Samples per network; none, and the reason in ``stopped_because``, where a job failed.

        Raises:
            UserCodeError: for what a user-defined model raises here.
            MeasurementError: for a network that torch cannot run here.
        """
        self._store.check_writable()
        known = Known(self._store, anywhere=self._jobs is not None)
        settings = [self._setting(one) for one in subjects]
        keys = [key_of_setting(setting, one) for setting, one in zip(settings, subjects, strict=True)]
        reasons: dict[str, str] = {}
        if self._jobs is not None:
            from e4profile.questions.job_options import time_by_jobs

            reasons = time_by_jobs(list(zip(keys, settings, strict=True)), known, self._jobs)
            self.failed += [f"{one.full_name}: {reasons[key]}"
                            for key, one in zip(keys, subjects, strict=True) if key in reasons]  # fmt: skip
        else:
            self._sample(dict(zip(keys, subjects, strict=True)), known, brief=brief)
        note(*self._store.notes)
        return [_samples(known, key, reasons.get(key, "")) for key in keys]

    def _setting(self, subject: Subject) -> TimeSetting:
        choice = PassSetting("forward", "eval", "cpu", batch_size=subject.own_batch, threads=self._threads)
        found = setting_of(subject, choice, self._rule)
        # the device need not be here
        return TimeSetting(**{**vars(found), "device": self._device})

    def _sample(self, subjects: dict[str, Subject], known: Known, *, brief: bool) -> None:
        """Sample what is not known in turn, while no other process of this machine that shares the folder samples."""
        assert self._in_turn is not None
        with alone(self._store, f"times on {self._device} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"):
            known("", self._store.follow())
            left = [key for key in subjects if known(key) is None]
            if len(left) < len(subjects):
                back = f"{len(subjects) - len(left)} were read back from {self._store.path}"
                note(f"of {len(subjects)} times, {back}{': not in turn with the others' if left else ''}")
            for start in range(0, len(left), IN_TURN):
                turn = left[start : start + IN_TURN]
                found = self._in_turn([subjects[key] for key in turn], brief=brief)
                for key, samples in zip(turn, found, strict=True):
                    self._store.append(to_record(self._record(subjects[key], samples)))
            known("", self._store.follow())

    def _record(self, subject: Subject, samples: Samples) -> TimeRecord:
        with fixed_threads(self._threads):
            where = environment()
        shapes = [tuple(tensor.shape) for tensor in subject.example("meta").tensors if tensor.dim()]
        return TimeRecord(
            name=subject.name, pass_="forward", mode="eval", loss="", device=self._device.partition(":")[0],
            dtype="float32", input_shape=shapes[0] if subject.own_batch is not None else (1,), compiled=False,
            graphed=False, threads=self._threads, clock=clock_for(self._device).name, samples=samples,
            environment=where, arguments=recorded_arguments(subject),
        )  # fmt: skip


def _samples(known: Known, key: str, reason: str) -> Samples:
    record = known(key)
    if record is None:
        return Samples((), 0, 0.0, 0, False, "failed", reason)
    return from_record(record).samples
