"""Timings that become an array of jobs, and what is known of them afterwards.

Every job stores its records in the folder that the command reads, setting by setting, under the claims that keep any
two processes apart (``e4profile.records.sharing``): a record that is there is never taken again, whatever became of the
job that took it, and a job that is sent twice does nothing twice. ``jobs.jsonl`` beside the records holds what was
handed over, which jobs began and with which time of a reference network, and what failed for which reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

from e4profile.errors import E4ProfileError, SettingError, replace_file
from e4profile.records.calibrations import calibration_for
from e4profile.records.jobs.executors import (
    OUT_OF_MEMORY,
    UNREACHED,
    Jobs,
    State,
    how_to_end,
    sbatch_script,
    states,
    submit,
)
from e4profile.records.jobs.known import LEDGER, SOFTWARE, Known, Ledger, Part
from e4profile.records.jobs.setting import COUNT, TimeSetting
from e4profile.records.jobs.worker import SCHEMA_VERSION
from e4profile.records.sharing import alone
from e4profile.records.store import Record, RecordStore
from e4profile.records.times import KIND, from_record
from e4profile.witnesses.environment import environment
from e4profile.witnesses.many_settings import Drawn
from e4profile.witnesses.timing.rates import Rate

REFERENCE = "z2cnn"
"""The network that every job times, so that machines can be compared."""

FOLDER = "jobs"
_START_S, _BUILD_S = 300.0, 10.0
"""What a job is allowed besides sampling: to start, and to build each network."""
_WANTED_MEMORY = re.compile("memory limit|oom.?kill", re.IGNORECASE)
_LOG_END = 4_000
_SAY_S = 30.0
"""Between two lines about the jobs that are left."""


def _predicted_s(setting: TimeSetting, rates: Mapping[str, Rate]) -> float | None:
    """Of one pass; None where it is not stated. Backward alone counts as a step, which has it."""
    try:
        subject = setting.subject if setting.batch_size is None else setting.subject.at_batch(setting.batch_size)
        drawn = Drawn(subject.build_to_count(), subject.shape, rates=rates)
        with subject.guarded():
            return float(drawn.predicted_s(step=setting.pass_ != "forward"))
    except E4ProfileError:
        return None


class TimedByJobs:
    """Settings that jobs time: submit what is neither stored nor on its way, wait, and say what failed.

    Attributes:
        failed: by key the reason why a setting has no record.
    """

    def __init__(self, work: Sequence[tuple[str, TimeSetting]], known: Known, jobs: Jobs) -> None:
        self.work, self.known, self.jobs = dict(work), known, jobs
        self.folder = known.store.path.parent
        self.ledger = Ledger(RecordStore(self.folder / LEDGER))
        self.ledger.store.check_writable()
        self.failed: dict[str, str] = {}
        self.script = self.grouped_by = ""
        self.what = "counts" if all(one.pass_ == COUNT for one in self.work.values()) else "timings"
        self._ended: dict[Part, State] = {}
        self._live: dict[Part, State] = {}

    @property
    def pending(self) -> list[str]:
        """The keys that have no record yet."""
        return [key for key in self.work if self.known(key) is None]

    def submit(self, say: Callable[[str], None]) -> None:
        """Hand over what is pending and in no job that may still run; with ``print`` into ``script``.

        Raises:
            SettingError: as ``executors.submit`` says.
        """
        with alone(self.known.store, "submission"):
            self.known("", self.known.store.follow())
            self.ledger.follow()
            printed = self.jobs.how == "print"
            # who gives a script to sbatch may do so where Slurm cannot be asked
            on_their_way = {key for key, _, state in self._jobs_of_pending()
                            if state.live and not (printed and state is UNREACHED)}  # fmt: skip
            keys = [key for key in self.pending if key not in on_their_way]
            if not keys:
                return
            parts = self._parts(keys)
            longest_s = max(sum(self.work[key].longest_s + _BUILD_S for key in part) for part in parts)
            timeout_min = self.jobs.timeout_min or math.ceil((longest_s + _START_S) / 60)
            # a count needs no device, and no node for itself
            device = "" if self.what == "counts" else self.work[keys[0]].device
            plan = self._write_plan(keys, parts)
            say(self._grouped(keys, parts))
            if printed:
                self.script = sbatch_script(self.jobs, plan, len(parts), timeout_min, device)
                return
            sent = submit(self.jobs, plan, len(parts), timeout_min, device)
            self.ledger.store.append(
                Record(kind="array", card=self.jobs.how, arguments={"plan": plan.stem},
                       counts={"jobs": [list(one) for one in sent], "parts": parts}, counters={})
            )  # fmt: skip
            self.ledger.follow()

    def wait(self, say: Callable[[str], None]) -> Iterator[str]:
        """The keys as their records come in, until all have one or no job may still bring any."""
        told, next_s, pause_s, unseen = "", 0.0, 0.5, self.pending
        while unseen:
            self.known("", self.known.store.follow())
            for key in unseen:
                if self.known(key) is not None:
                    pause_s = 0.5
                    yield key
            unseen = self.pending
            found = self._jobs_of_pending()
            # what the last jobs stored between the two looks is not lost
            self.known("", self.known.store.follow())
            live = {part.job: state.text for _, part, state in found if state.live}
            if unseen and (not live or self.jobs.how == "print"):
                break
            text = ", ".join(f"{list(live.values()).count(one)} {one}" for one in dict.fromkeys(live.values()))
            now = time.monotonic()
            if live and text != told and now >= next_s:
                say(f"{len(live)} job{'s' if len(live) > 1 else ''} left: {text}")
                told, next_s = text, now + _SAY_S
            time.sleep(pause_s)
            # a controller with many users is not to be asked every second for hours
            pause_s = min(1.3 * pause_s, 15.0)
        for key in unseen:
            if self.known(key) is not None:
                yield key
        self._name_failures()

    def known_failures(self) -> list[str]:
        """What jobs have said of settings that have no record, a sentence each."""
        return [
            f"{self.work[key].described}: job {job}: {reason}"
            for (key, job), reason in self.ledger.failures.items()
            if key in self.work and self.known(key) is None
        ]

    def interrupted(self) -> str:
        """What becomes of the jobs, for who ended the command."""
        live = list(dict.fromkeys(part.job for _, part, state in self._jobs_of_pending() if state.live))
        if not live:
            return "no job is left"
        they, them = (f"{len(live)} jobs run", "them") if len(live) > 1 else ("1 job runs", "it")
        return f"{they} on; the same command returns to {them}, and {how_to_end(self.jobs.how, live)} ends {them}"

    def reference_notes(self) -> list[str]:
        """How long the reference network took in the jobs, and which jobs were slow."""
        took = {job: (median(seconds), device) for job, seconds, device in self.ledger.began.values() if seconds}
        if not took:
            return []
        middle = median(seconds for seconds, _ in took.values())
        low, high = (bound(seconds for seconds, _ in took.values()) / middle for bound in (min, max))
        devices = ", ".join(dict.fromkeys(device for _, device in took.values()))
        jobs = f"{len(took)} job{'s' if len(took) > 1 else ''}"
        notes = [
            f"reference network {REFERENCE}, forward, timed in {jobs} on {devices}: {low:.2f} to {high:.2f} times its "
            "median"
        ]
        slow = [f"{job} ({seconds / middle:.2f})" for job, (seconds, _) in took.items() if seconds > 1.1 * middle]
        if slow:
            notes.append(f"jobs whose machine was slower than that by more than 10%: {', '.join(slow)}")
        return notes

    def _jobs_of_pending(self) -> list[tuple[str, Part, State]]:
        """Key, job and its state, for every job that was to bring a pending key; the latest job last."""
        pending = set(self.pending)
        wanted = [part for part in self.ledger.parts.values() if pending & set(part.keys)]
        for how in dict.fromkeys(part.how for part in wanted):
            asked = {part.job: part.since for part in wanted if part.how == how and part not in self._ended}
            found = states(how, asked) if asked else {}
            self._ended |= {part: found[part.job] for part in wanted if part.job in found and not found[part.job].live}
            self._live |= {part: found[part.job] for part in wanted if part.job in found}
        return [(key, part, self._ended.get(part) or self._live[part])
                for part in wanted for key in part.keys if key in pending]  # fmt: skip

    def _name_failures(self) -> None:
        """Say of every key without a record which job was to bring it, and what became of the job."""
        self.ledger.follow()
        last = {key: (part, state) for key, part, state in self._jobs_of_pending()}
        for key in self.pending:
            if key not in last:
                self.failed[key] = "no job was given it"
                continue
            part, state = last[key]
            reason = self.ledger.failures.get((key, part.job))
            if state.live:
                reason = state.text
            elif reason is None:
                # stored too, as Slurm forgets
                ended = self._how_it_ended(part, state)
                reason = ended if key == self._at_work(part) else f"{ended} before it was reached"
                self.ledger.add_failure(key, part.job, reason)
            self.failed[key] = f"job {part.job}: {reason}"

    def _how_it_ended(self, part: Part, state: State) -> str:
        """In words: a kill for want of memory, which only Slurm with cgroups has a state for, is told by the log."""
        if "SIGKILL" in state.text:
            logs = self.folder / FOLDER
            for log in (*logs.glob(f"{part.job}_*log.out"), logs / f"{part.job}.log"):
                with suppress(OSError):
                    if _WANTED_MEMORY.search(log.read_text(encoding="utf-8", errors="replace")[-_LOG_END:]):
                        return OUT_OF_MEMORY
        return state.text

    def _at_work(self, part: Part) -> str | None:
        """The setting that a job was at when it ended; None where it never began, or finished all."""
        left = [key for key in part.keys
                if self.known(key) is None and (key, part.job) not in self.ledger.failures]  # fmt: skip
        return left[0] if left and (part.plan, part.number) in self.ledger.began else None

    def _parts(self, keys: Sequence[str]) -> list[list[str]]:
        """Settings grouped so that a job lasts long enough, in as many jobs as run at once on this machine alone.

        Those that were being timed when their job was killed come last, so that they cost no other its turn.
        """
        ends = Counter(self._at_work(part) for part in self.ledger.parts.values())
        ordered = sorted(keys, key=lambda key: ends[key])
        if self.jobs.how == "local":
            count = min(self.jobs.array_parallelism or 1, len(keys))
            return [ordered[at::count] for at in range(count)]
        wanted_s, expected_s = 60 * self.jobs.job_minutes, self._expected_s(ordered)
        parts: list[list[str]] = []
        filled_s = math.inf
        for key in ordered:
            if filled_s >= wanted_s:
                parts.append([])
                filled_s = 0.0
            parts[-1].append(key)
            filled_s += expected_s[key]
        if len(parts) > 1 and filled_s < wanted_s:
            # too short to stay alone
            last = parts.pop()
            parts[-1] += last
        return parts

    def _expected_s(self, keys: Sequence[str]) -> dict[str, float]:
        """How long settings take at least: as timed settings of their networks and passes did, else as is predicted."""
        if self.what == "counts":
            self.grouped_by = "a count takes at most"
            return dict.fromkeys(keys, _BUILD_S / 100)
        took = self._took()
        self.grouped_by = "timed settings took" if took else "the stop rule asks at least"
        rates = None if took else self._rates()
        found = {}
        for key in keys:
            setting = self.work[key]
            known_s = took.get((setting.network, setting.pass_))
            found[key] = setting.rule.min_run_time_s if known_s is None else known_s
            if rates is not None and (pass_s := _predicted_s(setting, rates)) is not None:
                self.grouped_by = "the calibration predicts"
                least = setting.rule.min_samples * pass_s
                found[key] = min(max(found[key], least), setting.rule.max_run_time_s)
        return found

    def _took(self) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], list[float]] = {}
        for key, setting in self.work.items():
            if (record := self.known(key)) is not None and record.kind == KIND:
                samples = from_record(record).samples
                found.setdefault((setting.network, setting.pass_), []).append(
                    sum(samples.seconds) + samples.first_call_s
                )
        return {at: median(seconds) for at, seconds in found.items()}

    def _rates(self) -> Mapping[str, Rate] | None:
        """Of the device, where it was calibrated on this machine."""
        one = next(iter(self.work.values()))
        try:
            return calibration_for(one.device, one.dtype, one.threads)[0].rates
        except SettingError:
            return None

    def _grouped(self, keys: Sequence[str], parts: Sequence[Sequence[str]]) -> str:
        by = f", by what {self.grouped_by}" if self.jobs.how != "local" else ""
        most = max(map(len, parts))
        lasts = f" (a job lasts {self.jobs.job_minutes:g} min or more where there is work for it)" if by else ""
        return (
            f"{len(keys)} {self.what} in {len(parts)} job{'s' if len(parts) > 1 else ''} of at most {most}{by}{lasts}"
        )

    def _write_plan(self, keys: Sequence[str], parts: Sequence[Sequence[str]]) -> Path:
        one = self.work[keys[0]]
        reference = TimeSetting(
            network=REFERENCE, device=one.device, dtype=one.dtype, threads=one.threads, name="reference",
            min_run_time_s=one.min_run_time_s, max_run_time_s=one.max_run_time_s,
        )  # fmt: skip
        here, plain = environment(), None if self.what == "counts" else reference.plain()
        content = {
            "schema": SCHEMA_VERSION, "records": self.known.store.path.name,
            "software": {name: here[name] for name in SOFTWARE}, "reference": plain,
            "settings": {key: self.work[key].plain() for key in keys}, "parts": [list(part) for part in parts],
        }  # fmt: skip
        text = json.dumps(content, indent=1).encode()
        # arrays of the same settings are told apart by when they were sent
        name = hashlib.sha256(text + str(time.time_ns()).encode()).hexdigest()[:12]
        folder = (self.folder / FOLDER).resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / f"{name}.json", text)
        except OSError as error:
            raise SettingError(f"cannot write the plan of the jobs to {folder}: {error.strerror}") from error
        return folder / f"{name}.json"
