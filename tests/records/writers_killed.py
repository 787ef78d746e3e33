"""Writers that share one store, killed at random and replaced: a program of its own, since it forks.

Arguments: a folder, how many writers at once, how many kills, a seed. Writes JSON: what was found.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import e4profile.records.store as store_module
from e4profile.records import claims
from e4profile.records.sharing import share
from e4profile.records.store import Record, RecordStore

SETTINGS = 30
LINE = "x" * 3_000


def setting(number: int) -> Record:
    return Record(card="c", arguments={"n": number}, counts={"macs": number, "more": LINE}, counters={})


def in_pieces(descriptor: int, data: bytes, write: Callable[[int, bytes], int] = os.write) -> int:
    """As a disk that is slow, so that a kill leaves half of a line."""
    written = 0
    for piece in (data[:-1_000], data[-1_000:]):
        written += write(descriptor, piece)
        time.sleep(0.0003)
    return written


def write(folder: Path) -> NoReturn:
    """The whole work as one process does it."""
    store, known = RecordStore(folder / "records.jsonl"), dict[str, Record]()

    def settled(key: str, stored: list[Record]) -> Record | None:
        known.update({record.key: record for record in stored})
        return known.get(key)

    begun = os.open(folder / "begun", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def measure(record: Record) -> Record:
        os.write(begun, b"%d %d\n" % (os.getpid(), record.arguments["n"]))
        time.sleep(0.001)
        return record

    store_module.os = SimpleNamespace(**{**vars(os), "write": in_pieces})  # type: ignore[assignment]
    settled("", store.load())
    work = [(record.key, record) for record in map(setting, range(SETTINGS))]
    found = [record for record, *_ in share(work, store, settled, measure)]
    os._exit(0 if len(found) == SETTINGS else 1)


def start(folder: Path) -> int:
    process = os.fork()
    if not process:
        try:
            write(folder)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(2)
    return process


def round_of_kills(folder: Path, writers: int, kills: int, chance: random.Random) -> Counter[str]:
    """What was found when the work was done: kills, settings lost or done twice, lines by what they are."""
    folder.mkdir()
    alive = {start(folder) for _ in range(writers)}
    begun, killed, next_kill = folder / "begun", set[int](), 0
    try:
        while alive:
            for process in sorted(alive):
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    alive.remove(process)
                    assert status == 0, f"a writer ended with {os.waitstatus_to_exitcode(status)}"
            time.sleep(0.001 * chance.random())
            if alive and len(killed) < kills and begun.exists() and begun.stat().st_size >= next_kill:
                victim = chance.choice(sorted(alive))
                os.kill(victim, signal.SIGKILL)
                os.waitpid(victim, 0)
                alive.remove(victim)
                alive.add(start(folder))
                killed.add(victim)
                # up to three settings later: also before the next one is begun
                next_kill = begun.stat().st_size + chance.choice((0, 1, 10, 25))
    finally:
        for process in alive:
            os.kill(process, signal.SIGKILL)
    store = RecordStore(folder / "records.jsonl")
    kept = Counter(record.arguments["n"] for record in store.load())
    text = store.path.read_bytes()
    found = Counter(
        kills=len(killed),
        lost=len(set(range(SETTINGS)) - set(kept)),
        doubled=sum(kept.values()) - len(kept),
        unnamed=text.count(b"\n") - sum(kept.values()) - len(store.notes),
        claims=(folder / "claims").exists(),
        twice=_done_twice(begun.read_text(), killed),
    )
    for note in store.notes:
        found["cut" if "cut short" in note else "doubled" if "doubles" in note else "damaged"] += 1
    return found


def _done_twice(begun: str, killed: set[int]) -> int:
    """Settings measured again although whoever had begun them before was not killed at it."""
    by_process: dict[int, list[int]] = {}
    for line in begun.splitlines():
        process, number = map(int, line.split())
        by_process.setdefault(process, []).append(number)
    ended = Counter[int]()
    for process, numbers in by_process.items():
        ended.update(numbers[:-1] if process in killed else numbers)
    return sum(ended.values()) - len(ended)


def main(folder: str, writers: str, kills: str, seed: str) -> None:
    claims.EMPTY_S = 0.2
    chance, found = random.Random(int(seed)), Counter[str]()
    while found["kills"] < int(kills):
        found["rounds"] += 1
        found += round_of_kills(Path(folder, str(found["rounds"])), int(writers), int(kills) - found["kills"], chance)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    assert "torch" not in sys.modules
    main(*sys.argv[1:])
