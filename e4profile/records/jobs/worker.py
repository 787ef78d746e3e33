"""Timing settings one after the other, in the command itself or in one job of an array, which leaves word of itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e4profile.errors import E4ProfileError, read_document
from e4profile.records.jobs.executors import this_job
from e4profile.records.jobs.known import LEDGER, SOFTWARE, Known, Ledger
from e4profile.records.jobs.setting import COUNT, TimeSetting, read_setting, record_of
from e4profile.records.sharing import alone, share
from e4profile.records.store import Record, RecordStore
from e4profile.records.times import from_record
from e4profile.witnesses.environment import environment

SCHEMA_VERSION = 1


def time_here(
    work: Sequence[tuple[str, TimeSetting]], known: Known, waiting: Callable[[str], None] = lambda _: None,
    failed: dict[str, str] | None = None,
) -> Iterator[tuple[str, Record]]:  # fmt: skip
    """Keys with their records as settings are timed, here or by others that share the store.

    Processes that time into one store share the settings, and those of one machine take turns, since they would
    disturb each other.

    Args:
        work: keys with what is timed.
        known: the store.
        waiting: told in words when nothing is left but what other processes have claimed.
        failed: takes by key why a setting could not be timed; its error is raised where None is given.
    """

    def measure(asked: tuple[str, TimeSetting]) -> Record | None:
        key, setting = asked
        try:
            return _alone(setting, known.store)
        except E4ProfileError as error:
            if failed is None:
                raise
            failed[key] = _said(error)
            return None

    pairs = [(key, (key, setting)) for key, setting in work]
    for (key, _), record, _ in share(pairs, known.store, known, measure, waiting):
        yield key, record


def _alone(setting: TimeSetting, store: RecordStore) -> Record:
    if setting.pass_ == COUNT:
        return record_of(setting)
    with alone(store, f"times on {setting.device} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"):
        return record_of(setting)


class _TimeLimit(BaseException):
    """The job has to end."""


def run_part(plan: str, part: int) -> None:
    """One job: time the reference network, then each setting of a part of a plan that has no record yet.

    A setting that fails costs no other its turn; the ledger says why.
    """
    with _until_time_limit():
        _run_part(Path(plan), part)


def _run_part(plan: Path, part: int) -> None:
    work = read_plan(plan)
    keys: list[str] = work["parts"][part]
    settings = {key: read_setting(work["settings"][key]) for key in keys}
    pairs = [(key, (key, setting)) for key, setting in settings.items()]
    folder = plan.parent.parent
    ledger, known = Ledger(RecordStore(folder / LEDGER)), Known(RecordStore(folder / work["records"]), anywhere=True)
    job, here = this_job(), environment()

    reference, problem, counts = None, "", work["reference"] is None
    apart = [name for name in SOFTWARE if here[name] != work["software"][name]]
    if apart:
        problem = "; ".join(f"{name} {here[name]!r} there, {work['software'][name]!r} here" for name in apart)
        problem = f"the job runs with other software: {problem}"
    elif not counts:
        try:
            reference = from_record(_alone(read_setting(work["reference"]), known.store))
        except Exception as error:
            problem = f"the reference network cannot run: {_said(error)}"
    ledger.store.append(
        Record(
            kind="part", card=job, arguments={"plan": plan.stem, "part": part},
            counts={"reference_s": [] if reference is None else list(reference.samples.seconds), "keys": keys},
            counters={}, environment=here,
        )
    )  # fmt: skip
    if problem:
        for key in keys:
            ledger.add_failure(key, job, problem)
        raise SystemExit(problem)

    def measure(asked: tuple[str, TimeSetting]) -> Record | None:
        key, setting = asked
        try:
            return _alone(setting, known.store)
        except Exception as error:
            ledger.add_failure(key, job, _said(error))
        except _TimeLimit:
            for one in keys:
                if known(one) is None:
                    ledger.add_failure(one, job, "it reached its time limit")
            raise
        return None

    for _ in share(pairs, known.store, known, measure):
        pass


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def _until_time_limit() -> Iterator[None]:
    """End the block in order where the executor says that a job's time is nearly over, or ends it.

    The signal to end is otherwise kept from jobs by submitit, for those that can be sent again.
    """

    def stop(*_: object) -> None:
        raise _TimeLimit

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    handlers: dict[str, Callable[[int, Any], object]] = {"SIGUSR2": stop, "SIGTERM": end}
    before = {getattr(signal, name): signal.signal(getattr(signal, name), handler)
              for name, handler in handlers.items() if hasattr(signal, name)}  # fmt: skip
    try:
        yield
    except _TimeLimit:
        raise SystemExit("the job reached its time limit") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_plan(file: Path) -> dict[str, Any]:
    """What the jobs of an array are to do.

    Raises:
        SettingError: for a file that is none.
    """
    return read_document(file, "plan of jobs", SCHEMA_VERSION, "submit the jobs anew")
