"""The combinations of a network's arguments with what each one costs, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e4profile.conventions import convention
from e4profile.show.tables import Column, Table

if TYPE_CHECKING:
    from e4profile.questions.sweep.variant_sweep import VariantSweep


def variants_table(found: VariantSweep, convention_name: str) -> Table:
    """One row per combination: its arguments, parameters, MACs, and where asked for bytes of a step and seconds."""
    names = list(found.variants[0].setting)
    columns = [Column(name, name, "text", priority=100) for name in names]
    columns += [
        Column("params", "params", "integer", priority=95),
        Column("macs", convention_name, "integer", priority=95),
    ]
    optional = (
        Column("step_bytes", "training step", "bytes", priority=90),
        Column("median_s", "forward", "seconds", priority=90),
    )
    columns += [one for one in optional if any(getattr(row, one.key) is not None for row in found.variants)]
    rows: list[dict[str, Any]] = [
        {
            **{name: str(value) for name, value in one.setting.items()},
            **{column.key: getattr(one, column.key) for column in columns[len(names) :]},
        }
        for one in found.variants
    ]
    noisy = sum(bool(one.noise) for one in found.variants)
    notes = list(found.notes)
    notes += [f"not built: {setting}: {reason}" for setting, reason in found.refused]
    if noisy:
        notes.append(f"noisy: {noisy} of {len(found.variants)} times; see --format json")
    meaning = f"{convention_name}: {convention(convention_name).meaning}"
    return Table(f"{found.model} over {', '.join(names)}", tuple(columns), tuple(rows), tuple(notes), meaning)
