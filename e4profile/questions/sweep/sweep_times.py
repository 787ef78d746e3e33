"""Times of a sweep's settings: forward pass and training step of each, kept beside the counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from e4profile.questions.sweep.plans import Setting
from e4profile.questions.sweep.sweeps import baseline_key
from e4profile.records.sharing import alone, share
from e4profile.records.store import Record, RecordStore, record_key
from e4profile.records.times import KIND, from_record, to_record
from e4profile.witnesses.environment import environment, same_environment
from e4profile.witnesses.timing.measure import measure_time
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
    here, known = environment(), dict[str, Record]()

    def key(card: str, arguments: Mapping[str, Any], pass_: str) -> str:
        # equal for processes whose times may stand in one table, see `settled`
        where = {**here, "e4profile": None, "threads": None, "batch_size": batch_size, "device": device, "pass": pass_}
        return record_key(KIND, card, arguments, {name: str(value) for name, value in where.items()})

    def settled(asked: str, stored: Sequence[Record] = ()) -> Record | None:
        for record, one in ((record, from_record(record)) for record in stored):
            of_this = (one.batch_size, one.device) == (batch_size, device)
            # the record was taken at its own thread count, which it restored afterwards
            if of_this and not same_environment(one.environment, {**here, "threads": one.threads}):
                known[key(one.name, one.arguments, one.pass_)] = record
        return known.get(asked)

    def measure(asked: tuple[Setting, str, str]) -> Record:
        setting, pass_, mode = asked
        how = PassSetting(pass_, mode, device, batch_size=batch_size)
        with alone(store, f"times on {device} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"):
            model, images = setting.subject.build("cpu"), setting.subject.batched
            found = measure_time(model, images, how, rule, name=setting.model)
        return to_record(replace(found, arguments=setting.arguments))

    settled("", store.load())
    work = [
        [(key(setting.model, setting.arguments, pass_), (setting, pass_, mode)) for pass_, mode in PASSES]
        for setting in settings
    ]
    pending = [one for passes in work for one in passes if one[0] not in known]
    done = 0

    def complete() -> Iterator[dict[str, TimeRecord]]:
        nonlocal done
        while done < len(work) and all(asked in known for asked, _ in work[done]):
            yield {pass_: from_record(known[asked]) for asked, (_, pass_, _) in work[done]}
            done += 1

    yield from complete()
    for (setting, pass_, _), record, _ in share(pending, store, settled, measure, waiting):
        known[key(setting.model, setting.arguments, pass_)] = record
        yield from complete()


def time_rows(
    rows: Sequence[Mapping[str, Any]], settings: Sequence[Setting], times: Sequence[Mapping[str, TimeRecord]]
) -> list[dict[str, Any]]:
    """The rows of a sweep with the times beside them; ratios are to the G-CNN of the same group, width and kernel.

    Args:
        rows: as ``Sweep.rows`` gives them, in the order of ``settings``.
        settings: the plan's settings.
        times: their records by pass.
    """
    baselines = {baseline_key(one): records for one, records in zip(settings, times, strict=True) if one.baseline}
    timed = []
    for row, setting, records in zip(rows, settings, times, strict=True):
        forward, step, baseline = records["forward"], records["step"], baselines.get(baseline_key(setting))
        timed.append(
            {
                **row,
                "forward_median_s": forward.median_s,
                "forward_iqr_s": forward.iqr_s,
                "step_median_s": step.median_s,
                "step_iqr_s": step.iqr_s,
                "forward_ratio": None if baseline is None else forward.median_s / baseline["forward"].median_s,
                "step_ratio": None if baseline is None else step.median_s / baseline["step"].median_s,
                "noisy": forward.noisy or step.noisy,
            }
        )
    return timed
