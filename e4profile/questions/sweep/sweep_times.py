"""Times of a sweep's settings: forward pass and training step of each, kept beside the counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

TIME_COLUMNS = (
    "forward_median_s", "forward_iqr_s", "step_median_s", "step_iqr_s", "forward_ratio", "step_ratio", "noisy",
)  # fmt: skip


@dataclass
class SweepTimes:
    """Times of settings, measured now or read back from a store made in this environment.

    Attributes:
        store: where the raw samples are kept.
        batch_size: images per pass.
        device: ``cpu`` or ``cuda``.
        min_run_time_s: sample each pass at least this long.
        max_run_time_s: and at most this long, whatever the noise.
    """

    store: RecordStore | None
    batch_size: int = 1
    device: str = "cpu"
    min_run_time_s: float = 0.1
    max_run_time_s: float = 2.0

    def measure(self, settings: Sequence[Setting]) -> Iterator[tuple[Setting, dict[str, TimeRecord]]]:
        """Each setting with its records by pass; a record of another environment is measured anew.

        Raises:
            MeasurementError: when a pass cannot be measured.
        """
        known = self._known()
        for setting in settings:
            records: dict[str, TimeRecord] = {}
            for pass_, mode in PASSES:
                found = known.get((setting.model, repr(sorted(setting.arguments.items())), pass_))
                records[pass_] = found or self._measure(setting, pass_, mode)
            yield setting, records

    def _measure(self, setting: Setting, pass_: str, mode: str) -> TimeRecord:
        record = measure_time(
            setting.subject.build("cpu"),
            setting.subject.batched,
            PassSetting(pass_, mode, self.device, batch_size=self.batch_size),
            StopRule(min_run_time_s=self.min_run_time_s, max_run_time_s=self.max_run_time_s),
            name=setting.model,
        )
        record = replace(record, arguments=setting.arguments)
        if self.store is not None:
            self.store.append(to_record(record))
        return record

    def _known(self) -> dict[tuple[str, str, str], TimeRecord]:
        if self.store is None:
            return {}
        here = environment()
        known = {}
        for line in self.store.load():
            record = from_record(line)
            key = (record.name, repr(sorted(record.arguments.items())), record.pass_)
            asked = (record.batch_size, record.device) == (self.batch_size, self.device)
            # the record was taken at its own thread count, which it restored afterwards
            if asked and not same_environment(record.environment, {**here, "threads": record.threads}):
                known[key] = record
        return known


def time_rows(
    rows: Sequence[Mapping[str, Any]], settings: Sequence[Setting], times: Mapping[int, Mapping[str, TimeRecord]]
) -> list[dict[str, Any]]:
    """The rows of a sweep with ``TIME_COLUMNS``; ratios are to the G-CNN of the same group, width and kernel.

    Args:
        rows: as ``Sweep.rows`` gives them, in the order of ``settings``.
        settings: the plan's settings.
        times: records by pass, by index of the setting.
    """
    baselines = {baseline_key(one): times[index] for index, one in enumerate(settings) if one.baseline}
    timed = []
    for index, row in enumerate(rows):
        forward, step = times[index]["forward"], times[index]["step"]
        baseline = baselines.get(baseline_key(settings[index]))
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
