"""Work shared by any number of processes that write one store, each setting done by one of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from e4profile.records.claims import Claims, place
from e4profile.records.store import Record, RecordStore

_POLL_S = 0.2
"""Between two looks at what other processes have claimed."""

T = TypeVar("T")


def share(
    work: Sequence[tuple[str, T]],
    store: RecordStore,
    settled: Callable[[str, list[Record]], Record | None],
    measure: Callable[[T], Record | None],
    waiting: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[T, Record, bool]]:
    """Each setting with its record and whether that was read back: the same settings in every process.

    Those that another process has claimed come later, when that has stored them, has given them up or is dead.

    Args:
        work: settings, each behind the key that all processes know it by.
        store: where the records are; what it holds so far has been read.
        settled: gives the record of a key that is not to be measured, after it was told what was stored meanwhile.
        measure: gives the record of a setting, or None for one that cannot exist, which is left out.
        waiting: told in words when nothing is left but what other processes have claimed.
    """
    pending, told = list(work), len(work) + 1
    with Claims(store.path.parent / "claims") as claims:
        while pending:
            claimed = []
            for key, setting in pending:
                if not claims.take(key):
                    claimed.append((key, setting))
                    continue
                record, resumed = settled(key, store.follow()), True
                if record is None and (measured := measure(setting)) is not None:
                    # it was stored meanwhile if this process was suspended and taken for dead
                    record = settled(key, store.follow())
                    if record is None:
                        store.append(measured)
                        record, resumed = measured, False
                if record is None:
                    claims.give_back(key)
                    continue
                claims.finish(key)
                yield setting, record, resumed
            if len(claimed) == len(pending):
                if len(claimed) < told:
                    told = len(claimed)
                    left = f"{told} setting{'s' if told > 1 else ''}"
                    waiting(f"waiting for {left} that other processes have claimed in {claims.folder}")
                time.sleep(_POLL_S)
            pending = claimed
        claims.clear({key for key, _ in work})


@contextmanager
def alone(store: RecordStore, what: str) -> Iterator[None]:
    """Run while no other process of this machine that writes the same store runs the same: they take turns."""
    turn = hashlib.sha256(f"{place()} {what}".encode()).hexdigest()
    with Claims(store.path.parent / "claims") as claims:
        while not claims.take(turn):
            time.sleep(_POLL_S)
        yield
        claims.finish(turn)
