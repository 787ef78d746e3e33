"""Where jobs run: how an array is handed over, and what became of each of its jobs.

Jobs go through submitit, the optional extra ``cluster``. What became of them is asked of Slurm itself, whose answer
needs no accounting database.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from e4profile.errors import SettingError
from e4profile.records.claims import begun, runs

EXECUTORS = ("slurm", "local", "print")


class State(NamedTuple):
    """What is known of a job: whether it may still store something, and in a few words what it does or how it ended."""

    live: bool
    text: str


UNREACHED = State(True, "Slurm does not answer")
"""Of jobs that may run or may not: whoever waits for them goes on waiting."""


@dataclass(frozen=True)
class Jobs:
    """How work becomes jobs.

    Attributes:
        how: ``slurm``, ``local`` (processes of this machine) or ``print`` (a script for sbatch).
        partition: of Slurm; its default when None.
        gpus: of each job; one where the device is a GPU, when None.
        array_parallelism: jobs that run at once.
        timeout_min: of each job; long enough for what its settings may take, when None.
        job_minutes: that a job lasts at least, where there is work for so long.
    """

    how: str
    partition: str | None = None
    gpus: int | None = None
    array_parallelism: int | None = None
    timeout_min: int | None = None
    job_minutes: float = 5.0

    def gpus_of(self, device: str) -> int:
        """The GPUs that a job is given."""
        return int(device.startswith("cuda")) if self.gpus is None else self.gpus


OUT_OF_MEMORY = "it ran out of memory"
_SLURM_ENDED = {
    "BOOT_FAIL": "its node failed to start", "CANCELLED": "it was cancelled", "COMPLETED": "it ended early",
    "DEADLINE": "its deadline passed", "FAILED": "it failed", "NODE_FAIL": "its node was lost",
    "OUT_OF_MEMORY": OUT_OF_MEMORY, "PREEMPTED": "it was preempted", "REVOKED": "it was revoked",
    "TIMEOUT": "it reached its time limit",
}  # fmt: skip


def submit(jobs: Jobs, plan: Path, parts: int, timeout_min: int, device: str) -> list[tuple[str, str]]:
    """Hand over an array; the name of each job, and for a process of this machine when it began.

    Raises:
        SettingError: without submitit or Slurm, or for what sbatch refuses.
    """
    submitit = _submitit(jobs.how)
    from e4profile.records.jobs.worker import run_part

    places: tuple[list[str], list[int]] = [str(plan)] * parts, list(range(parts))
    if jobs.how == "local":
        executor = submitit.LocalExecutor(plan.parent)
        found = []
        with _interrupts_ignored():
            for place, part in zip(*places, strict=True):
                gpus = jobs.gpus_of(device)
                mine = tuple(gpu % max(_gpus_here(), 1) for gpu in range(part * gpus, (part + 1) * gpus))
                executor.update_parameters(timeout_min=timeout_min, gpus_per_node=gpus, visible_gpus=mine)
                found.append(executor.submit(run_part, place, part).job_id)
        return [(one, begun(int(one))) for one in found]
    if shutil.which("sbatch") is None:
        raise SettingError("--jobs slurm: no sbatch here: run it where jobs are submitted, or write --jobs print")
    executor = submitit.SlurmExecutor(plan.parent)
    executor.update_parameters(**_slurm_parameters(jobs, timeout_min, device))
    try:
        return [(job.job_id, "") for job in executor.map_array(run_part, *places)]
    except Exception as error:
        # submitit raises its own kinds, and what the command said is in them
        said = " ".join(str(error).split())
        raise SettingError(f"--jobs slurm: sbatch refused the jobs: {said}") from error


def _submitit(how: str) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise SettingError(
            f"--jobs {how} needs submitit: pip install 'e4profile[cluster]'; --jobs print writes a script for sbatch"
        ) from error
    return submitit


def _slurm_parameters(jobs: Jobs, timeout_min: int, device: str) -> dict[str, Any]:
    gpus = jobs.gpus_of(device)
    return {
        "job_name": "e4profile", "time": timeout_min, "use_srun": False, "stderr_to_stdout": True,
        **({} if jobs.partition is None else {"partition": jobs.partition}),
        **({} if jobs.array_parallelism is None else {"array_parallelism": jobs.array_parallelism}),
        # one exclusive device each: a GPU, or the whole node where its processor is timed
        **({"gpus_per_node": gpus} if gpus else {"exclusive": True} if device else {}),
    }  # fmt: skip


def sbatch_script(jobs: Jobs, plan: Path, parts: int, timeout_min: int, device: str) -> str:
    """The same array as a script for sbatch, which needs no submitit."""
    gpus = jobs.gpus_of(device)
    at_once = "" if jobs.array_parallelism is None else f"%{jobs.array_parallelism}"
    options = [
        "job-name=e4profile", f"array=0-{parts - 1}{at_once}", f"time={timeout_min}",
        *([] if jobs.partition is None else [f"partition={jobs.partition}"]),
        *([f"gpus-per-node={gpus}"] if gpus else ["exclusive"] if device else []),
        f"chdir={Path.cwd()}", f"output={plan.parent / '%A_%a.log'}",
    ]  # fmt: skip
    lines = [f"#SBATCH --{shlex.quote(option) if ' ' in option else option}" for option in options]
    command = shlex.join([sys.executable, "-m", "e4profile.records.jobs", str(plan)])
    return "\n".join(["#!/bin/bash", *lines, f'exec {command} "$SLURM_ARRAY_TASK_ID"', ""])


def this_job() -> str:
    """The name of the job that this process is."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    if array and task:
        return f"{array}_{task}"
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("SUBMITIT_LOCAL_JOB_ID") or str(os.getpid())


def states(how: str, names: Mapping[str, str]) -> dict[str, State]:
    """What became of each job; one that does not answer may still run.

    Args:
        how: where it runs.
        names: of the jobs, with when they began.
    """
    if how == "local":
        return {
            one: State(True, "running") if runs(int(one), since) else State(False, "it ended early or was killed")
            for one, since in names.items()
        }
    found: dict[str, State] = {}
    for main in dict.fromkeys(name.partition("_")[0] for name in names):
        found |= _slurm_states(main)
    gone = State(False, "it ended, and Slurm no longer knows how")
    unreached = found.get("")
    return {name: found.get(name) or unreached or gone for name in names}


_FORMAT = "JobArrayID:64,State:24,exit_code:16"
_ACCOUNT = "JobID,State,ExitCode"


def _slurm_states(main: str) -> dict[str, State]:
    """States of an array's jobs; under the empty name what is said of all where the controller does not answer."""
    asked = _run(["squeue", "--noheader", "--array", "--states=all", "--jobs", main, "--Format", _FORMAT])
    if asked is None or (asked.returncode and "Invalid job id" not in asked.stderr):
        return {"": UNREACHED}
    lines = [line.split() for line in asked.stdout.splitlines()]
    if not lines:
        # forgotten some minutes after it ended; the accounting database, where there is one, remembers
        kept = _run(["sacct", "--noheader", "--parsable2", "--allocations", "--array", "--jobs", main, "-o", _ACCOUNT])
        known = [] if kept is None or kept.returncode else [line.split("|") for line in kept.stdout.splitlines()]
        lines = [[name, state.split()[0], code] for name, state, code in known]
    return {name: _slurm_state(state, code) for name, state, code in lines}


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _slurm_state(state: str, code: str) -> State:
    """From Slurm's words: the code is the status of ``wait`` by squeue, ``exit code:signal`` by sacct."""
    if state not in _SLURM_ENDED:
        return State(True, state.lower())
    if state != "FAILED":
        return State(False, _SLURM_ENDED[state])
    first, mark, second = code.partition(":")
    exit_code, number = (int(first), int(second)) if mark else (int(first) >> 8, int(first) & 127)
    # a shell says 128 more than the signal that ended its program
    killed = number or max(exit_code - 128, 0)
    return State(False, f"it was killed by {_signal(killed)}" if killed else f"it failed with exit code {exit_code}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def how_to_end(how: str, names: Iterable[str]) -> str:
    """The command that ends jobs, for who does not want to come back."""
    if how == "local":
        return f"kill {' '.join(names)}"
    return f"scancel {' '.join(dict.fromkeys(re.sub('_.*', '', name) for name in names))}"


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes that begin meanwhile outlive a Ctrl-C of the terminal, which reaches every process in it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()
