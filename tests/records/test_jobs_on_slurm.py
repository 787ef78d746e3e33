"""A sweep through an array of a real Slurm whose jobs and controller are killed, against the run of one process."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_here import Killer, Slurm

from e4profile.records.store import RecordStore
from tests.program import Run

pytest.importorskip("submitit")

FULL = bool(os.environ.get("E4PROFILE_SLURM"))
"""200 settings in many jobs (``make slurm``) in place of 20."""

GRID = ["--group", "p4", "--counter", "closed-form", "--no-plots", "-f", "csv"]
SIZES = (
    ["-r", "1,2,4", "-s", "1,2,4", "-k", "3,5", "--width", "4,8,12,16,20,24,28,32,36,40"] if FULL
    else ["-r", "1,2", "-s", "1,2", "-k", "3", "--width", "4,8,12,16"]
)  # fmt: skip
TIMES = ("forward_", "step_", "noisy")


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    found = Slurm(tmp_path / "slurm")
    if found.missing:
        pytest.skip(found.missing)
    yield found
    found.stop()


def without_times(text: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text)))
    return [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in rows]


@pytest.mark.slow("waits")
def test_nothing_is_lost_and_nothing_doubled_whatever_is_killed(run: Run, slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    # the first array in jobs of some settings each, then as many as five minutes hold
    jobs = ["--jobs", "slurm", "--max-run-time-s", 0.01]
    killer = Killer(slurm, folder / "times.jsonl", every=15 if FULL else 3, most=60 if FULL else 3, seed=1)
    killer.start()
    reasons = Counter[str]()
    codes = list[int]()
    while not codes or codes[-1]:
        minutes = ["--job-minutes", 20 * 0.01 / 60] if FULL or not codes else []
        found = run("sweep", *GRID, *SIZES, "--time", "--out", folder, *jobs, *minutes)
        assert found.code in (0, 1), found.err
        codes.append(found.code)
        for row in csv.DictReader(io.StringIO(found.out)):
            failures = filter(None, row.get("failure", "").split("; "))
            reasons.update(one.partition(": job ")[2].partition(": ")[2] for one in failures)
        assert len(codes) < 40
    killer.over.set()
    killer.join()
    settings = without_times(found.out)
    alone = run("sweep", *GRID, *SIZES)
    assert without_times(alone.out) == settings
    assert len(settings) == (200 if FULL else 20)
    store = RecordStore(folder / "times.jsonl")
    kept = Counter((record.card, *sorted(record.arguments.items()), record.counts["pass"]) for record in store.load())
    assert (len(kept), set(kept.values())) == (2 * len(settings), {1})
    assert killer.done["kill"] >= 1
    assert killer.done["cancel"] >= 1
    assert reasons
    if FULL:
        sys.stderr.write(f"\nexit codes {codes}; {dict(killer.done)}; {dict(reasons)}; {store.notes}\n")
