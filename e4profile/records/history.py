"""What each run of a guard counted, commit by commit, in one file that is only ever appended to.

A line is a record of the store (``e4profile.records.store``): one network at one commit. What is damaged, foreign or
cut short stays in the file and is named by whoever reads it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from e4profile.errors import SettingError
from e4profile.records.baseline import ModelCosts, torch_version
from e4profile.records.store import Record, RecordStore
from e4profile.witnesses.environment import environment, same_environment
from e4profile.witnesses.timing.change_points import LEVEL, Step, fewest_runs, steps

KIND = "history"
_SHORT = 10


@dataclass(frozen=True)
class Run:
    """One network in one run of the guard.

    Attributes:
        model: its name.
        commit: short; with a plus where files had changes that are in no commit.
        asked: what was built on which input with which arguments.
        torch: the version of PyTorch.
        costs: exact counts by quantity; of a lower bound none.
        seconds: raw samples of a forward pass; empty where it was not timed.
        environment: where it ran.
    """

    model: str
    commit: str
    asked: str
    torch: str
    costs: Mapping[str, int]
    seconds: Sequence[float] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """A count that was another than in the run before.

    Attributes:
        before, after: the count; None where there was, or is, none.
        why: what else changed between the two runs: what was asked, or PyTorch; empty where neither did.
    """

    model: str
    quantity: str
    commit: str
    before: int | None
    after: int | None
    why: str = ""


@dataclass(frozen=True)
class TimeStep:
    """Where the times of a network stepped, in one environment."""

    model: str
    commit: str
    step: Step
    since: str


@dataclass(frozen=True)
class History:
    """The runs of a file, in order.

    Attributes:
        runs: one per network and run.
        notes: what was read and not used.
    """

    runs: Sequence[Run]
    notes: Sequence[str] = ()

    @property
    def models(self) -> list[str]:
        """The networks, in the order in which they came."""
        return list(dict.fromkeys(run.model for run in self.runs))

    def of(self, model: str) -> list[Run]:
        """The runs of one network."""
        return [run for run in self.runs if run.model == model]

    def moves(self) -> list[Move]:
        """Every count that moved, with the commit at which it did."""
        return [move for model in self.models for move in _moves(self.of(model))]

    def timed(self) -> list[tuple[str, list[Run]]]:
        """The timed runs of each network, by environment: times of different ones are no series."""
        found: list[tuple[str, list[Run]]] = []
        for run in self.runs:
            if not run.seconds:
                continue
            series = [runs for model, runs in found
                      if model == run.model and not same_environment(runs[0].environment, run.environment)]  # fmt: skip
            if series:
                series[0].append(run)
            else:
                found.append((run.model, [run]))
        return found

    @property
    def level(self) -> float:
        """The chance of a false step in one series, so that it is ``LEVEL`` in all of them together."""
        return LEVEL / max(1, len(self.timed()))

    def time_steps(self) -> list[TimeStep]:
        """Where times stepped: a chance of ``LEVEL`` that any is named where none of the series has one."""
        found = []
        for model, runs in self.timed():
            for step in steps([median(run.seconds) for run in runs], self.level):
                found.append(TimeStep(model, runs[step.at].commit, step, runs[step.at - 1].commit))
        return found

    def too_short(self) -> list[str]:
        """Series of times in which no step can be told from chance yet, a sentence each."""
        needed = fewest_runs(self.level)
        return [
            f"{model}: {len(runs)} timed run{'s' if len(runs) > 1 else ''} in one environment; a step can be told from "
            f"chance from {needed} on"
            for model, runs in self.timed()
            if len(runs) < needed
        ]


def _moves(runs: Sequence[Run]) -> Iterator[Move]:
    for before, after in pairwise(runs):
        why = [f"asked for {after.asked}, before {before.asked}"] if after.asked != before.asked else []
        why += [f"torch {after.torch}, before {before.torch}"] if after.torch != before.torch else []
        for quantity in dict.fromkeys((*before.costs, *after.costs)):
            old, new = before.costs.get(quantity), after.costs.get(quantity)
            if old != new:
                yield Move(after.model, quantity, after.commit, old, new, "; ".join(why))


def read_history(file: Path) -> History:
    """The runs that a file holds.

    Raises:
        SettingError: for a file that is not there, cannot be read, or holds no run.
    """
    if not file.exists():
        raise SettingError(f"--history: {file} does not exist; e4profile guard --history {file} creates it")
    store = RecordStore(file)
    runs = []
    notes = []
    for record in store.load():
        if record.kind != KIND:
            notes.append(f"{file.name}: a record of kind {record.kind!r} is not a run of a guard")
            continue
        said, counts = record.arguments, dict(record.counts)
        seconds = counts.pop("seconds", [])
        if not all(type(value) is int for value in counts.values()) or not {"commit", "asked"} <= set(said):
            notes.append(f"{file.name}: the run of {record.card!r} has no whole counts, or no commit")
            continue
        runs.append(Run(record.card, said["commit"], said["asked"], record.counters.get("torch", ""), counts, seconds,
                        record.environment))  # fmt: skip
    if not runs:
        raise SettingError(
            f"--history: {file} holds no run of a guard" + "".join(f"; {one}" for one in store.notes[:1])
        )
    return History(runs, [*store.notes, *dict.fromkeys(notes)])


def append_run(
    store: RecordStore, model: str, commit: str, costs: ModelCosts, seconds: Sequence[float] = (), *, exact: bool = True
) -> None:
    """Add one network of one run.

    Args:
        store: of the history.
        model: its name.
        commit: as ``commit_of`` names it.
        costs: what was counted.
        seconds: raw samples of a forward pass.
        exact: whether the operations are no lower bound; of one only the parameters are kept.

    Raises:
        SettingError: when the file cannot be written, or is of another kind.
    """
    words = ", ".join(f"{name}={value}" for name, value in costs.arguments.items())
    kept = {name: amount for name, amount in costs.costs.items() if exact or name == "params"}
    store.append(
        Record(
            kind=KIND, card=model,
            # the moment keeps apart two runs that count the same
            arguments={"commit": commit, "asked": f"{costs.build}({words}) on {costs.input}",
                       "at": datetime.now(timezone.utc).isoformat()},
            counts={**kept, **({"seconds": list(seconds)} if seconds else {})},
            counters={"torch": torch_version()}, environment=environment(),
        )
    )  # fmt: skip


def commit_of(folder: Path) -> str:
    """The commit that a folder is at, short; with a plus where files that git knows have other changes.

    Raises:
        SettingError: where git does not know.
    """
    head, status = (_git(folder, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno")))
    if head is None or status is None:
        raise SettingError(f"--history: {folder} is at no commit of git: name it with --commit")
    return head[:_SHORT] + ("+" if status else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()
