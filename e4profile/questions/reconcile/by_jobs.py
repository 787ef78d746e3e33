"""``e4profile reconcile --jobs``: the architectures of a big space counted by an array of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.errors import SettingError, some_of
from e4profile.questions.job_options import time_by_jobs
from e4profile.questions.output import note
from e4profile.questions.reconcile.search import Ahead, key_of
from e4profile.records.jobs.known import Known
from e4profile.records.jobs.setting import TimeSetting, count_setting, key_of_setting
from e4profile.records.store import Record, RecordStore
from e4profile.subjects.guest import UserCodeError
from e4profile.witnesses.variants import Counted

if TYPE_CHECKING:
    from e4profile.records.jobs.executors import Jobs
    from e4profile.subjects.subject import Subject


def counting_by_jobs(folder: Path, jobs: Jobs) -> Callable[[Sequence[Subject]], Ahead]:
    """What counts networks by jobs that share a folder, where the counts are kept and read back.

    A network whose job failed is left to the search, which counts it itself; a note says why.
    """

    def count_ahead(subjects: Sequence[Subject]) -> Ahead:
        store = RecordStore(folder / "counts.jsonl")
        store.check_writable()
        work: dict[str, tuple[TimeSetting, Subject]] = {}
        for subject in subjects:
            try:
                one = count_setting(subject)
                work.setdefault(key_of_setting(one, subject), (one, subject))
            except (SettingError, UserCodeError):
                continue  # the search meets the same refusal
        known = Known(store, anywhere=True)
        failed = time_by_jobs([(key, one) for key, (one, _) in work.items()], known, jobs)
        if failed:
            reasons = some_of(list(dict.fromkeys(failed.values())), "; ", 2)
            note(f"{len(failed)} of {len(work)} architectures are counted here: {reasons}")
        records = {key_of(subject): known(key) for key, (_, subject) in work.items()}
        return {key: _told(record) for key, record in records.items() if record is not None}

    return count_ahead


def _told(record: Record) -> Counted | SettingError | UserCodeError:
    counts = record.counts
    if "refused" not in counts:
        return Counted(counts["params"], counts["operations"], tuple(counts["notes"]), tuple(counts["unknown"]))
    error = (UserCodeError if counts["user_code"] else SettingError)(counts["refused"])
    error.details = counts["details"]
    return error
