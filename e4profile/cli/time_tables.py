"""The tables of ``e4profile time`` on the terminal: profiling and writing breakdowns one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.cli.output import emit, note
from e4profile.render.tables import Table
from e4profile.tables.times import breakdown_table, comparison_table, threads_text, time_table

if TYPE_CHECKING:
    from e4profile.targets import Subject
    from e4profile.timing import Setting, StopRule

__all__ = ["breakdown_table", "comparison_table", "emit_breakdown", "threads_text", "time_table"]


def emit_breakdown(
    cards: Sequence[Subject],
    choices: Sequence[Setting],
    rule: StopRule,
    output_format: str,
    units: str,
    out: Path | None = None,
) -> list[Table]:
    """Profile each network at each setting, write a table for each and return them; ``out`` keeps the records.

    Raises:
        SettingError: for several tables in a format that holds one.
    """
    from e4profile.breakdown import measure_breakdown
    from e4profile.errors import SettingError
    from e4profile.targets import guarded

    if len(cards) * len(choices) > 1 and output_format in ("json", "csv"):
        raise SettingError(
            f"--breakdown gives a table per network and setting, and {output_format} holds one: ask for one"
        )
    tables = []
    for card in cards:
        network = card.build("cpu")
        for choice in choices:
            note(f"{card.name}: {choice.pass_}, {choice.mode}, batch of {choice.batch_size}")
            with guarded(card):
                found = measure_breakdown(
                    network, card.input, name=card.name, pass_=choice.pass_, mode=choice.mode,
                    batch_size=choice.batch_size or 1, device=choice.device, dtype=choice.dtype,
                    threads=choice.threads, rule=rule,
                )  # fmt: skip
            if out is not None:
                from e4profile.environment import environment
                from e4profile.figures.share import breakdown_record
                from e4profile.records import RecordStore

                RecordStore(out).append(
                    breakdown_record(found, choice.device, choice.dtype, choice.threads, environment())
                )
            tables.append(breakdown_table(found))
            emit(tables[-1], output_format, units)
    return tables
