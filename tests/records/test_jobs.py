"""Settings as plain data, and arrays of jobs that are killed: nothing lost, nothing doubled, every failure named."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e4profile.errors import SettingError
from e4profile.layers.operators import OPERATORS
from e4profile.questions.sweep.plans import make_plan
from e4profile.questions.sweep.sweep_times import passes_of
from e4profile.records.jobs import array, executors, known, worker
from e4profile.records.jobs.array import TimedByJobs
from e4profile.records.jobs.executors import Jobs, State
from e4profile.records.jobs.known import Known
from e4profile.records.jobs.setting import (
    TimeSetting,
    key_of_record,
    key_of_setting,
    read_setting,
    run_setting,
    setting_of,
)
from e4profile.records.jobs.worker import run_part
from e4profile.records.store import Record, RecordStore
from e4profile.records.times import from_record
from e4profile.subjects.subject import resolve
from e4profile.witnesses.environment import environment
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.rates import Rate
from e4profile.witnesses.timing.samples import StopRule
from tests.program import Run, says

BRIEF = StopRule(min_run_time_s=0.001, max_run_time_s=0.01)


def test_a_setting_is_plain_data_from_which_the_same_network_is_built(net: str) -> None:
    own = resolve(f"{net}:Net", ["2x3x6x6"])
    found = [one for passes in passes_of(make_plan(["e4net"], ["p4"], slices=[1], kernels=[3])) for _, one in passes]
    found.append(setting_of(own, PassSetting("step", "train", batch_size=4), BRIEF))
    for setting in found:
        assert read_setting(json.loads(json.dumps(setting.plain()))) == setting
    baseline, own_again = found[0].subject, found[-1].subject
    assert "slices" not in baseline.arguments
    assert baseline.argument("layer") == "group"
    assert own_again.specs == own.specs
    with pytest.raises(SettingError, match=r"setting: .*pas"):
        run_setting({"network": "z2cnn", "pas": "forward"})
    with pytest.raises(SettingError, match="not a plain value"):
        setting_of(own.with_arguments({"width": object()}), PassSetting(), BRIEF)


def test_what_is_asked_and_what_was_taken_have_one_key(net: str) -> None:
    for setting in (
        replace(setting_of(resolve("z2cnn"), PassSetting(batch_size=2), BRIEF), name="mine"),
        setting_of(resolve(f"{net}:Net", ["2x3x6x6"]), PassSetting("step", "train"), BRIEF),
    ):
        values = run_setting(setting.plain())
        values.pop("checksum")
        record = Record(**values)
        assert key_of_record(from_record(record)) == key_of_setting(setting)
        assert from_record(record).batch_size == 2


def test_another_file_of_a_model_is_another_setting(net: str) -> None:
    def key() -> str:
        return key_of_setting(setting_of(resolve(f"{net}:Net", ["2x3x6x6"]), PassSetting(), BRIEF))

    before = key()
    assert key() == before
    file = Path(net)
    file.write_text(file.read_text() + "\n# edited\n")
    assert key() != before


class Killed(BaseException):
    """As kill -9: nothing more is written."""


class Cluster:
    """Jobs that run in this process, one at each look at their states, and end where they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ends: Iterator[str]) -> None:
        self.ends, self.measured, self.sent = ends, Counter[str](), 0
        self.queue: dict[str, tuple[Path, int]] = {}
        self.over: dict[str, State] = {}
        self.job = ""
        here = environment()
        for part in (array, known, worker):
            monkeypatch.setattr(part, "environment", lambda: here)
        monkeypatch.setattr(array, "submit", self.submit)
        monkeypatch.setattr(array, "states", self.states)
        monkeypatch.setattr(worker, "record_of", self.record_of)
        monkeypatch.setattr(worker, "this_job", lambda: self.job)
        monkeypatch.setattr(array, "calibration_for", self.not_calibrated)
        monkeypatch.setattr(array.time, "sleep", lambda _: None)
        self.template = run_setting({"network": "z2cnn", "max_run_time_s": 0.0, "min_run_time_s": 0.0})

    def not_calibrated(self, *_: object) -> None:
        raise SettingError("not calibrated")

    def record_of(self, setting: TimeSetting) -> Record:
        if setting.name != "reference":
            end = next(self.ends, "")
            if end == "error":
                raise ValueError("out of memory on the device")
            if end:
                raise Killed(end)
            self.measured[setting.name] += 1
        values = {name: self.template[name] for name in ("kind", "counters", "environment")}
        arguments = {**self.template["arguments"], **setting.arguments}
        return Record(card=setting.name, arguments=arguments, counts=dict(self.template["counts"]), **values)

    def submit(self, jobs: Jobs, plan: Path, parts: int, *_: object) -> list[tuple[str, str]]:
        self.sent += 1
        names = [f"{self.sent}_{part}" for part in range(parts)]
        self.queue |= {name: (plan, part) for part, name in enumerate(names)}
        return [(name, "") for name in names]

    def states(self, _: str, names: Mapping[str, str]) -> dict[str, State]:
        if self.queue:
            self.job = next(iter(self.queue))
            plan, part = self.queue.pop(self.job)
            try:
                run_part(str(plan), part)
                self.over[self.job] = State(False, "it ended early")
            except Killed as end:
                self.over[self.job] = State(False, str(end))
        return {name: self.over.get(name, State(True, "running")) for name in names}


def work_of(count: int) -> list[tuple[str, TimeSetting]]:
    found = [TimeSetting(network="z2cnn", name=f"n{number}") for number in range(count)]
    return [(key_of_setting(one), one) for one in found]


def stored(folder: Path) -> Counter[str]:
    return Counter(record.card for record in RecordStore(folder / "times.jsonl").load())


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.integers(1, 12), st.integers(0, 5),
    st.lists(st.sampled_from(["", "", "", "error", "its node was lost", "it was killed by SIGKILL"]), max_size=40),
)  # fmt: skip
def test_the_same_command_again_finishes_whatever_jobs_end_in(
    tmp_path_factory: pytest.TempPathFactory, count: int, per_job: int, ends: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        cluster = Cluster(patch, iter(ends))
        work, jobs = work_of(count), Jobs("slurm", job_minutes=per_job * 0.1 / 60)
        ran = 0
        while True:
            before = stored(folder)
            running = TimedByJobs(work, Known(RecordStore(folder / "times.jsonl"), anywhere=True), jobs)
            running.submit(lambda _: None)
            came = list(running.wait(lambda _: None))
            after = stored(folder)
            assert len(came) == len(set(came)) == len(after) - len(before)
            missing = {setting.name for _, setting in work} - set(after)
            assert {running.work[key].name for key in running.failed} == missing
            assert all(reason.startswith("job ") for reason in running.failed.values())
            # what failed by itself or ended its job is named so; others were not reached
            named = Counter(reason.partition(": ")[2] for reason in running.failed.values())
            assert set(named) <= {
                "out of memory on the device",
                *(f"{end}{where}" for end in ("its node was lost", "it was killed by SIGKILL")
                  for where in ("", " before it was reached")),
            }  # fmt: skip
            ran += 1
            if not missing:
                break
            assert ran <= len(ends) + 1
        parts = [part.keys for part in running.ledger.parts.values()]
        assert set(sum(parts, ())) == {key for key, _ in work}
        sent = cluster.sent
        TimedByJobs(work, Known(RecordStore(folder / "times.jsonl"), anywhere=True), jobs).submit(lambda _: None)
    assert cluster.sent == sent
    assert set(cluster.measured.values()) == {1}
    assert set(stored(folder).values()) == {1}


def test_settings_are_grouped_so_that_a_job_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, iter(()))
    store = RecordStore(tmp_path / "times.jsonl")
    work = work_of(11)
    lines: list[str] = []
    # 0.1 s each by the stop rule
    TimedByJobs(work, Known(store, anywhere=True), Jobs("slurm", job_minutes=0.3 / 60)).submit(lines.append)
    assert [part for _, part in cluster.queue.values()] == [0, 1, 2]
    assert says("\n".join(lines), "11 timings in 3 jobs of at most 5", "stop rule")
    # on their way: nothing is sent twice
    again = TimedByJobs(work, Known(store, anywhere=True), Jobs("slurm"))
    monkeypatch.setattr(array, "states", lambda _, names: {name: State(True, "pending") for name in names})
    again.submit(lines.append)
    assert len(cluster.queue) == 3
    assert says(again.interrupted(), "3 jobs run on", "scancel 1")


def test_settings_are_grouped_by_what_a_calibration_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, iter(()))
    work, lines = work_of(8), list[str]()
    rates = {kind: Rate(0.0, 0.0, 1.0) for kind in OPERATORS}
    known = Known(RecordStore(tmp_path / "times.jsonl"), anywhere=True)
    for within, jobs in (({}, 1), (rates, 8)):
        monkeypatch.setattr(array, "calibration_for", lambda *_, made=within: (SimpleNamespace(rates=made), ""))
        running = TimedByJobs(work, known, Jobs("print", job_minutes=2 / 60))
        running.submit(lines.append)
        # a second per call: a setting takes all that the rule allows
        assert f"#SBATCH --array=0-{jobs - 1}" in running.script
    assert "by what the stop rule asks at least" in lines[0]
    assert "by what the calibration predicts" in lines[1]
    assert not cluster.queue


def test_a_job_that_is_killed_for_want_of_memory_is_told_by_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(monkeypatch, iter(()))
    running = TimedByJobs(work_of(2), Known(RecordStore(tmp_path / "times.jsonl"), anywhere=True), Jobs("slurm"))
    running.submit(lambda _: None)
    (job,) = cluster.queue
    killed = State(False, "it was killed by SIGKILL")
    monkeypatch.setattr(array, "states", lambda _, names: dict.fromkeys(names, killed))
    (tmp_path / "jobs" / f"{job}_0_log.out").write_text("slurmstepd: error: Exceeded job memory limit\n")
    assert not list(running.wait(lambda _: None))
    assert set(running.failed.values()) == {f"job {job}: it ran out of memory before it was reached"}


def test_a_script_for_sbatch_runs_the_same_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["sweep", "--group", "p4", "-r", "4", "-s", "1", "-k", "3", "--width", "4", "--counter", "closed-form",
             "--no-plots", "--time", "--max-run-time-s", "0.01", "--out", "out"]  # fmt: skip
    printed = run(*asked, "--jobs", "print", "--partition", "gpu", "--timeout-min", "7", "--array-parallelism", "3",
                  "--job-minutes", "0")  # fmt: skip
    assert printed.code == 0
    lines = printed.out.splitlines()
    wanted = {"array=0-3%3", "time=7", "partition=gpu", "exclusive"}
    assert {f"#SBATCH --{option}" for option in wanted} <= set(lines)
    command = shlex.split(lines[-1])
    assert command[:4] == ["exec", sys.executable, "-m", "e4profile.records.jobs"]
    assert command[-1] == "$SLURM_ARRAY_TASK_ID"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    for part in (3, 1, 0, 2, 0):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(part))
        run_part(command[-2], part)
    monkeypatch.setattr(array, "states", lambda _, names: {name: State(False, "it ended") for name in names})
    table = run(*asked, "--jobs", "print", "-f", "csv")
    assert table.code == 0
    assert len(table.out.splitlines()) == 3
    assert says(table.err, "4 of 4 timings were read back")
    assert says(table.err, "reference network z2cnn", "4 jobs")


def test_networks_as_they_are_are_timed_by_jobs_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["time", "z2cnn", "e4net(width=4)", "--pass", "forward,step", "--max-run-time-s", "0.01",
             "--batch-size", "2", "--jobs", "print"]  # fmt: skip
    out = ["--out", "shared/times.jsonl"]
    command = shlex.split(run(*asked, *out).out.splitlines()[-1])
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    run_part(command[-2], 0)
    found = run(*asked, *out, "-f", "json")
    assert found.code == 0
    rows = [(one["network"], one["pass"]) for one in json.loads(found.out)]
    assert rows == [(name, one) for name in ("z2cnn", "e4net width=4") for one in ("forward", "step")]
    # norms of a single image have no variance: the reason comes with the script that asks again
    alone = [*asked[:2], *asked[3:7], "--batch-size", "1", *asked[-2:], *out]
    command = shlex.split(run(*alone).out.splitlines()[-1])
    run_part(command[-2], 0)
    again = run(*alone)
    assert again.out.startswith("#!/bin/bash")
    assert says(again.err, "z2cnn", "step: job 3: ")
    for options, words in (([], "--out FILE"), ([*out, "--against", "z2cnn"], "omit --against")):
        refused = run(*asked, *options)
        assert (refused.code, refused.out) == (2, "")
        assert says(refused.err, words)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C reaches processes otherwise there")
def test_processes_of_this_machine_outlive_a_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    asked: dict[str, Any] = {}
    ignores = "import signal, sys; sys.exit(3 * (signal.getsignal(signal.SIGINT) == signal.SIG_IGN))"

    class LocalExecutor:
        def __init__(self, folder: Path) -> None:
            assert folder == tmp_path

        def update_parameters(self, **parameters: Any) -> None:
            asked.update(parameters)

        def submit(self, *_: object) -> SimpleNamespace:
            begun.append(subprocess.Popen([sys.executable, "-S", "-c", ignores]))
            return SimpleNamespace(job_id=str(begun[-1].pid))

    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(LocalExecutor=LocalExecutor))
    before = signal.getsignal(signal.SIGINT)
    sent = executors.submit(Jobs("local"), tmp_path / "plan.json", 2, 7, "cpu")
    assert signal.getsignal(signal.SIGINT) == before
    assert [one.wait() for one in begun] == [3, 3]
    assert (asked["timeout_min"], asked["gpus_per_node"]) == (7, 0)
    assert [state.live for state in executors.states("local", dict(sent)).values()] == [False, False]


def test_states_of_slurm_in_words() -> None:
    assert [executors._slurm_state(*one) for one in (("RUNNING", "0"), ("REQUEUED", "0"))] == [
        State(True, "running"), State(True, "requeued")
    ]  # fmt: skip
    for state, code, words in (
        ("FAILED", "9", "SIGKILL"), ("FAILED", "768", "exit code 3"), ("FAILED", "3:0", "exit code 3"),
        ("FAILED", "0:9", "SIGKILL"), ("FAILED", "137:0", "SIGKILL"), ("OUT_OF_MEMORY", "0:125", "out of memory"),
        ("NODE_FAIL", "0", "node was lost"), ("TIMEOUT", "0", "time limit"), ("CANCELLED", "15", "cancelled"),
    ):  # fmt: skip
        live, text = executors._slurm_state(state, code)
        assert not live
        assert words in text, state


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_hydra_maps_the_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra")
    page = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
    files = dict(re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL))
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = re.search(r"^python (hydra_time.py .+)$", page, re.MULTILINE)
    assert command is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", command[1].split())
    runpy.run_path("hydra_time.py", run_name="__main__")
    found = [json.loads(file.read_text()) for file in sorted(Path("timed").glob("*/record.json"))]
    assert [(one["card"], one["arguments"]["width"]) for one in found] == [("z2cnn", 4), ("z2cnn", 8)]
    assert all(one["counts"]["seconds"] for one in found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--jobs", "slurm"], ("--time",)),
        (["--gpus", "1"], ("--gpus", "--jobs")),
        (["--time", "--jobs", "slurn"], ("slurn", "slurm")),
        (["--time", "--jobs", "local"], ("submitit", "e4profile[cluster]", "print")),
        (["--time", "--jobs", "print", "--gpus", "0"], ("--gpus (=0)",)),
    ],
)
def test_what_cannot_become_jobs(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: Sequence[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    grid: list[Any] = ["--group", "p4", "-r", "4", "-s", "1", "-k", "3", "--width", "4", "--counter", "closed-form"]
    found = run("sweep", *grid, "--no-plots", *options)
    assert (found.code, found.out) == (2, "")
    assert says(found.err, *words)
