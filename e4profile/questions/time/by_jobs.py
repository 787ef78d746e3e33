"""``e4profile time --jobs``: networks and passes that an array of jobs times into one file of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.errors import SettingError
from e4profile.questions.job_options import time_by_jobs
from e4profile.questions.output import note
from e4profile.questions.time.runs import at_own_batch
from e4profile.questions.time.table import time_table
from e4profile.records.jobs.known import Known
from e4profile.records.jobs.setting import key_of_setting, setting_of
from e4profile.records.store import RecordStore
from e4profile.records.times import from_record

if TYPE_CHECKING:
    from e4profile.records.jobs.executors import Jobs
    from e4profile.show.tables import Table
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.timing.passes import PassSetting
    from e4profile.witnesses.timing.samples import StopRule


def time_networks_by_jobs(
    cards: Sequence[Subject], choices: Sequence[PassSetting], rule: StopRule, device: str, out: Path | None, jobs: Jobs,
    not_by_jobs: Mapping[str, object],
) -> tuple[list[Table], bool]:  # fmt: skip
    """The table of what has been timed, by whichever machine, and whether a timing is missing from it.

    Args:
        cards: networks.
        choices: how each is timed, as on a CPU.
        rule: when to stop.
        device: where the jobs time.
        out: the file of records, whose folder the jobs share.
        jobs: how work becomes jobs.
        not_by_jobs: options and their values that do not go with jobs.

    Raises:
        SettingError: without a file, with one of these options, or when nothing was timed.
    """
    for option, value in not_by_jobs.items():
        if value:
            raise SettingError(f"--jobs times networks one by one: omit {option}")
    if out is None:
        raise SettingError("--jobs: give the file of records in the folder that the jobs share with --out FILE")
    store = RecordStore(out)
    work = []
    for card in cards:
        for choice in choices:
            one = setting_of(card, at_own_batch(choice, card), rule, card.full_name)
            # the device need not be here
            work.append((key_of_setting(one, card), replace(one, device=device)))
    known = Known(store, anywhere=True)
    failed = time_by_jobs(work, known, jobs)
    note(*(f"{setting.described}: {failed[key]}" for key, setting in work if key in failed))
    records = [from_record(record) for key, _ in work if (record := known(key)) is not None]
    if not records:
        raise SettingError(f"no timing of {len(work)} was taken: the lines above say why")
    return [time_table(records, mixed=True)], bool(failed)
