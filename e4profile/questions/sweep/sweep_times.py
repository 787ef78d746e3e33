"""Times of a sweep's settings: forward pass and training step of each, kept beside the counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from e4profile.questions.sweep.plans import Setting
from e4profile.questions.sweep.sweeps import baseline_key
from e4profile.records.jobs.known import Known
from e4profile.records.jobs.setting import TimeSetting, key_of_setting, setting_of
from e4profile.records.jobs.worker import time_here
from e4profile.records.store import RecordStore
from e4profile.records.times import environment_labels, from_record
from e4profile.witnesses.environment import described
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.samples import StopRule, TimeRecord

PASSES = (("forward", "eval"), ("step", "train"))
"""What is timed for every setting: the forward pass in evaluation, the training step in training mode."""

_RULE = StopRule(min_run_time_s=0.1, max_run_time_s=2.0)


def time_settings(
    settings: Sequence[Setting],
    store: RecordStore,
    batch_size: int = 1,
    device: str = "cpu",
    rule: StopRule = _RULE,
    waiting: Callable[[str], None] = lambda _: None,
) -> Iterator[dict[str, TimeRecord]]:
    """Each setting's records by pass, from the store where it has them of this environment, else measured now.

    Processes that time into one store share the passes, and those of one machine take turns, since they would disturb
    each other.

    Args:
        settings: what is timed.
        store: where the raw samples are kept.
        batch_size: images per pass.
        device: ``cpu`` or ``cuda``.
        rule: how long to sample each pass.
        waiting: told in words when nothing is left but what other processes have claimed.

    Raises:
        MeasurementError: when a pass cannot be measured.
    """
    known = Known(store)
    work = passes_of(settings, batch_size, device, rule)
    pending = [one for passes in work for one in passes if known(one[0]) is None]
    timed, done = time_here(pending, known, waiting), 0
    while done < len(work):
        while any(known(key) is None for key, _ in work[done]):
            key, record = next(timed)
            known.records[key] = record
        yield times_of(work[done], known)
        done += 1


Passes = Sequence[tuple[str, TimeSetting]]
"""What is timed of one setting, each pass behind its key."""


def passes_of(
    settings: Sequence[Setting], batch_size: int = 1, device: str = "cpu", rule: StopRule = _RULE
) -> list[Passes]:
    """The passes of every setting.

    Raises:
        SettingError: for a setting that cannot be told to a job.
    """
    found: list[Passes] = []
    for setting in settings:
        passes = []
        for pass_, mode in PASSES:
            choice = PassSetting(pass_, mode, "cpu", batch_size=batch_size)
            one = replace(setting_of(setting.subject, choice, rule, setting.model), device=device)
            passes.append((key_of_setting(one, setting.subject), one))
        found.append(passes)
    return found


def times_of(passes: Passes, known: Known) -> dict[str, TimeRecord]:
    """The records of one setting by pass, of those passes that have one."""
    return {one.pass_: from_record(record) for key, one in passes if (record := known(key)) is not None}


def time_rows(
    rows: Sequence[Mapping[str, Any]],
    settings: Sequence[Setting],
    times: Sequence[Mapping[str, TimeRecord]],
    reasons: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The rows of a sweep with the times beside them; ratios are to the G-CNN of the same group, width and kernel.

    Times of several machines are labelled, and their ratios to a baseline of another machine left out.

    Args:
        rows: as ``Sweep.rows`` gives them, in the order of ``settings``.
        settings: the plan's settings.
        times: their records by pass, of those passes that could be timed.
        reasons: by setting why a pass could not be; empty where all could.
    """
    flat = [record for records in times for record in records.values()]
    labels = dict(
        zip(map(id, flat), environment_labels([one.environment for one in flat], mixed=True), strict=True)
    )  # fmt: skip
    several, failed = any(labels.values()), any(reasons)
    baselines = {baseline_key(one): records for one, records in zip(settings, times, strict=True) if one.baseline}
    timed = []
    for number, (row, setting, records) in enumerate(zip(rows, settings, times, strict=True)):
        baseline = baselines.get(baseline_key(setting), {})
        more: dict[str, Any] = {}
        for pass_, _ in PASSES:
            one, other = records.get(pass_), baseline.get(pass_)
            more[f"{pass_}_median_s"] = None if one is None else one.median_s
            more[f"{pass_}_iqr_s"] = None if one is None else one.iqr_s
            comparable = one is not None and other is not None and labels[id(one)] == labels[id(other)]
            more[f"{pass_}_ratio"] = one.median_s / other.median_s if one and other and comparable else None
        more["noisy"] = any(record.noisy for record in records.values())
        if several:
            more["machine"] = " ".join(dict.fromkeys(labels[id(one)] for one in records.values()))
        if failed:
            more["failure"] = reasons[number] or None
        timed.append({**row, **more})
    return timed


def machine_notes(times: Sequence[Mapping[str, TimeRecord]]) -> list[str]:
    """What the labels of machines stand for; none where all times are of one."""
    flat = [record for records in times for record in records.values()]
    labels = environment_labels([one.environment for one in flat], mixed=True)
    found = {label: described(one.environment) for label, one in zip(labels, flat, strict=True) if label}
    return [f"machine {label}: {text}" for label, text in sorted(found.items())]
