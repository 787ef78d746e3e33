"""``e4profile report --measure``: the networks of the published tables timed on a device, kept among the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.networks.cards import all_cards
from e4profile.questions.job_options import time_by_jobs
from e4profile.questions.output import Progress, note, on_interrupt
from e4profile.questions.published.rows import table_names
from e4profile.questions.report.measured import MEASURED
from e4profile.records.jobs.known import Known
from e4profile.records.jobs.setting import TimeSetting, key_of_setting, setting_of
from e4profile.records.jobs.worker import time_here
from e4profile.records.store import RecordStore
from e4profile.subjects.subject import Subject, of_card
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.samples import StopRule

if TYPE_CHECKING:
    from e4profile.records.jobs.executors import Jobs

PASSES = (("forward", "eval"), ("step", "train"))


def table_networks() -> list[Subject]:
    """Every network of a published table that is built here, with the arguments of its row; each once."""
    tables = table_names()
    subjects = [
        of_card(card).with_arguments(row.arguments)
        for card in all_cards().values()
        for row in card.published
        if row.table in tables
    ]
    return list({one.full_name: one for one in subjects if one.costed_whole}.values())


def time_tables(
    networks: Sequence[Subject], reports: Path, device: str, batch_size: int, max_run_time_s: float, jobs: Jobs | None
) -> list[str]:
    """Time networks into the records of a reports folder; why some could not be, a sentence each.

    What the folder holds of this machine, with jobs of any, is not timed again. With ``print`` the script is written
    and the program ends, where anything is left to time.

    Args:
        networks: in order.
        reports: the folder.
        device: ``cpu`` or ``cuda``.
        batch_size: images of each pass.
        max_run_time_s: of the samples of each pass.
        jobs: how the timings become jobs; None to take them here.
    """
    store = RecordStore(reports / MEASURED / device.partition(":")[0] / "times.jsonl")
    store.check_writable()
    rule = StopRule(min_run_time_s=min(0.1, max_run_time_s), max_run_time_s=max_run_time_s)
    work: list[tuple[str, TimeSetting]] = []
    for network in networks:
        for pass_, mode in PASSES:
            choice = PassSetting(pass_, mode, "cpu", batch_size=batch_size)
            one = setting_of(network, choice, rule, network.full_name)
            # the device need not be here
            work.append((key_of_setting(one, network), replace(one, device=device)))
    known = Known(store, anywhere=jobs is not None)
    failed: dict[str, str] = {}
    words = {key: f"{one.name}, {one.pass_}" for key, one in work}
    if jobs is not None:
        failed = time_by_jobs(work, known, jobs)
    else:
        left = [one for one in work if known(one[0]) is None]
        if len(left) < len(work):
            note(f"of {len(work)} timings, {len(work) - len(left)} were read back from {store.path}")
        remark = f"what was finished is saved in {store.path}; the same command goes on from there"
        with on_interrupt(remark), Progress("measure", len(left)) as progress:
            for key, _ in time_here(left, known, progress.say, failed):
                progress.step(words[key])
    return [f"{words[key]}: {failed[key]}" for key, _ in work if key in failed]
