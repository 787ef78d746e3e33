"""What networks of a sweep were found to cost, kept beside their times: what a folder holds is read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from e4profile.errors import E4ProfileError
from e4profile.questions.sweep.sweeps import counter_versions
from e4profile.records.jobs.setting import recorded_arguments
from e4profile.records.sharing import share
from e4profile.records.store import Record, RecordStore, record_key
from e4profile.subjects.subject import Subject
from e4profile.witnesses.environment import environment

_KIND = "cost"


class KeptCosts:
    """Costs that networks are asked for one by one, in ``records.jsonl`` of a folder; without a folder none is kept.

    Any number of processes may ask for the same: each network is asked by the one that claims it.

    Attributes:
        asked: how many networks were asked for.
        read_back: of these how many were known.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.store = None if folder is None else RecordStore(folder / "records.jsonl")
        self.asked = self.read_back = 0
        self._known: dict[str, Record] = {}
        if self.store is not None:
            self.store.check_writable()
            self._settled("", self.store.load())

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the records."""
        if self.store is None:
            return []
        back = f"of {self.asked} networks that were asked, {self.read_back} were read back from {self.store.path}"
        return [back] * bool(self.read_back) + self.store.notes

    def each(
        self,
        what: str,
        subjects: Sequence[Subject],
        ask: Callable[[Subject], dict[str, Any]],
        batch_size: int | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Iterator[tuple[int, dict[str, Any] | E4ProfileError]]:
        """The place of each network, with what it costs or why that is not known; what others have claimed comes last.

        Args:
            what: is asked.
            subjects: networks.
            ask: one of them; JSON values.
            batch_size: images; those of the network's own inputs when None.
            progress: told in words which network is asked.
        """
        versions = counter_versions(("closed-form", "dispatch"))
        refused: dict[int, E4ProfileError] = {}

        def depends(one: Subject) -> dict[str, str]:
            return {**versions, "asked": f"{what}, batch of {batch_size or one.batch_size}"}

        def record(place: int) -> Record | None:
            one = subjects[place]
            progress(f"{place + 1} of {len(subjects)}, {one.full_name}")
            try:
                counts = ask(one)
            except E4ProfileError as error:
                refused[place] = error
                return None
            return Record(kind=_KIND, card=one.name, arguments=recorded_arguments(one), counts=counts,
                          counters=depends(one), environment=environment())  # fmt: skip

        places = range(len(subjects))
        found: Iterator[tuple[int, Record, bool]]
        if self.store is None:
            found = ((place, made, False) for place in places if (made := record(place)) is not None)
        else:
            work = [
                (record_key(_KIND, one.name, recorded_arguments(one), depends(one)), place)
                for place, one in enumerate(subjects)
            ]
            found = share(work, self.store, self._settled, record, progress)
        for place, known, resumed in found:
            self.asked += 1
            self.read_back += resumed
            yield place, known.counts
        yield from refused.items()

    def _settled(self, key: str, stored: Sequence[Record]) -> Record | None:
        self._known.update({one.key: one for one in stored if one.kind == _KIND})
        return self._known.get(key)
