"""A real Slurm for tests, and a thread that kills its jobs and its controller at random."""

from __future__ import annotations

import os
import platform
import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "slurm_here.sh"


class Slurm:
    """A controller and a node whose state lies in a folder; ``missing`` says why there are none."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.looked = folder, 0.0
        started = self._script("start")
        self.missing = started.stderr.strip() if started.returncode else ""
        self.variables = dict(line.split("=", 1) for line in started.stdout.splitlines())
        os.environ.update(self.variables)

    def _script(self, what: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", SCRIPT, what, self.folder], capture_output=True, text=True, check=False)

    def running(self) -> list[str]:
        asked = ["squeue", "--noheader", "--array", "--states=running", "--format=%i"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()

    def processes(self, job: str) -> list[int]:
        """The Python processes of a job, as the system knows them."""
        array, _, task = job.partition("_")
        wanted = {f"SLURM_ARRAY_JOB_ID={array}".encode(), f"SLURM_ARRAY_TASK_ID={task}".encode()}
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = set((folder / "environ").read_bytes().split(b"\0"))
                is_python = b"python" in (folder / "cmdline").read_bytes().split(b"\0")[0]
            except OSError:
                continue
            if wanted <= variables and is_python:
                found.append(int(folder.name))
        return found

    def resume(self) -> None:
        """Take the node back that a controller drained which was killed before it wrote down what it had started."""
        if time.monotonic() - self.looked > 2:
            self.looked = time.monotonic()
            state = ["sinfo", "--noheader", "--format=%T"]
            if "drain" in subprocess.run(state, capture_output=True, text=True, check=False).stdout:
                update = ["scontrol", "update", f"NodeName={platform.node().partition('.')[0]}", "State=RESUME"]
                subprocess.run(update, check=False)

    def restart(self) -> None:
        restarted = self._script("restart")
        assert restarted.returncode == 0, restarted.stderr

    def stop(self) -> None:
        self._script("stop")
        for name in self.variables:
            del os.environ[name]


class Killer(threading.Thread):
    """Until ``over``: after so many records each, cancel a job, kill its process, or kill the controller."""

    def __init__(self, slurm: Slurm, records: Path, every: int, most: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.slurm, self.records, self.every, self.most = slurm, records, every, most
        self.chance, self.over, self.done = random.Random(seed), threading.Event(), Counter[str]()
        self.todo = ["kill", "cancel", "restart"]

    def run(self) -> None:
        due = 2
        while not self.over.wait(0.05):
            stored = self.records.read_bytes().count(b"\n") if self.records.exists() else 0
            if stored >= due and self.done.total() < self.most and self._kill(self.todo[self.done.total() % 3]):
                due = stored + 1 + self.chance.randrange(self.every)
            self.slurm.resume()

    def _kill(self, what: str) -> bool:
        """Whether there was something to kill."""
        if what == "restart":
            self.slurm.restart()
        else:
            jobs = self.slurm.running()
            processes = self.slurm.processes(jobs[0]) if jobs else []
            if not processes:
                return False
            if what == "cancel":
                subprocess.run(["scancel", jobs[0]], check=False)
            else:
                os.kill(processes[-1], 9)
        self.done[what] += 1
        return True
