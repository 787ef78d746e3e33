"""Times of a sweep: kept with raw samples, read back, measured anew elsewhere, ratios to the right baseline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e4profile.questions.sweep.plans import make_plan
from e4profile.questions.sweep.sweep_times import time_rows, time_settings
from e4profile.questions.sweep.sweeps import Sweep
from e4profile.questions.sweep.table import timed_sweep_table
from e4profile.records.store import RecordStore
from e4profile.witnesses.timing.samples import StopRule

BRIEF = StopRule(min_run_time_s=0.001, max_run_time_s=0.05)


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    plan = make_plan(["e4net"], ["p4"], reductions=[4], slices=[1], kernels=[3], widths=[4])
    store = RecordStore(tmp_path_factory.mktemp("sweep") / "times.jsonl")
    return plan, store, list(time_settings(plan, store, rule=BRIEF))


def test_every_setting_has_both_passes_with_raw_samples(timed):
    plan, store, times = timed
    assert len(times) == len(plan) == 2
    for records in times:
        assert set(records) == {"forward", "step"}
        assert all(len(record.samples.seconds) >= 1 for record in records.values())
    assert len(store.load()) == 4


def test_times_of_this_environment_are_read_back(timed):
    plan, store, times = timed
    again = list(time_settings(plan, store))
    for before, records in zip(times, again, strict=True):
        for pass_, record in records.items():
            assert record.samples.seconds == before[pass_].samples.seconds
    assert len(store.load()) == 4


def test_times_of_another_environment_or_batch_are_not(timed, tmp_path):
    plan, store, _ = timed
    other = RecordStore(tmp_path / "times.jsonl")
    for record in store.load():
        other.append(replace(record, environment={**record.environment, "cpu": "another"}))
    list(time_settings(plan, other, rule=BRIEF))
    assert len(other.load()) == 8
    list(time_settings(plan[:1], store, 2, rule=BRIEF))
    assert len(store.load()) == 6


def test_what_another_process_has_timed_meanwhile_is_read_back(timed, tmp_path):
    plan, _, _ = timed
    path = tmp_path / "times.jsonl"
    first, second = (time_settings(plan, RecordStore(path), rule=BRIEF) for _ in range(2))
    found = [next(first), next(second), next(second), next(first)]
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert len(RecordStore(path).load()) == 4


def test_ratios_are_to_the_baseline_of_the_same_kernel(timed):
    plan, _, times = timed
    running = Sweep(plan)
    assert len(list(running.run())) == 2
    rows = time_rows(running.rows(), plan, times)
    baseline, e4 = rows
    assert baseline["model"] == "e4net-gcnn"
    assert (baseline["forward_ratio"], baseline["step_ratio"]) == (1.0, 1.0)
    assert e4["forward_ratio"] == pytest.approx(e4["forward_median_s"] / baseline["forward_median_s"])
    assert e4["step_ratio"] == pytest.approx(e4["step_median_s"] / baseline["step_median_s"])
    assert set(e4) == {
        *running.rows()[0],
        *(column.key for column in timed_sweep_table(running, rows, 1, "cpu").columns),
    }
