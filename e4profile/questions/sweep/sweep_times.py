"""Times of a sweep's settings: forward pass and training step of each, kept beside the counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from e4profile.questions.sweep.plans import Setting
from e4profile.questions.sweep.sweeps import baseline_key
from e4profile.records.store import RecordStore
from e4profile.records.times import from_record, to_record
from e4profile.witnesses.environment import environment, same_environment
from e4profile.witnesses.timing.measure import measure_time
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.samples import StopRule, TimeRecord

PASSES = (("forward", "eval"), ("step", "train"))
"""What is timed for every setting: the forward pass in evaluation, the training step in training mode."""

_RULE = StopRule(min_run_time_s=0.1, max_run_time_s=2.0)


def time_settings(
    settings: Sequence[Setting], store: RecordStore, batch_size: int = 1, device: str = "cpu", rule: StopRule = _RULE
) -> Iterator[dict[str, TimeRecord]]:
    """Each setting's records by pass, from the store where it has them of this environment, else measured now.

    Args:
        settings: what is timed.
        store: where the raw samples are kept.
        batch_size: images per pass.
        device: ``cpu`` or ``cuda``.
        rule: how long to sample each pass.

    Raises:
        MeasurementError: when a pass cannot be measured.
    """
    here, known = environment(), {}
    for record in map(from_record, store.load()):
        asked = (record.batch_size, record.device) == (batch_size, device)
        # the record was taken at its own thread count, which it restored afterwards
        if asked and not same_environment(record.environment, {**here, "threads": record.threads}):
            known[record.name, repr(sorted(record.arguments.items())), record.pass_] = record
    for setting in settings:
        records: dict[str, TimeRecord] = {}
        for pass_, mode in PASSES:
            found = known.get((setting.model, repr(sorted(setting.arguments.items())), pass_))
            if found is None:
                how = PassSetting(pass_, mode, device, batch_size=batch_size)
                model, images = setting.subject.build("cpu"), setting.subject.batched
                found = replace(measure_time(model, images, how, rule, name=setting.model), arguments=setting.arguments)
                store.append(to_record(found))
            records[pass_] = found
        yield records


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
