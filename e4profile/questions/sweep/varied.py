"""``e4profile sweep MODEL --vary``: every combination of some arguments of one network, a card or one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from e4profile.errors import SettingError
from e4profile.questions.options import target
from e4profile.questions.output import emit, note, stop_interrupted, waiting


def sweep_one_network(
    name: str,
    vary: Sequence[str],
    inputs: list[str] | None,
    arguments: list[str] | None,
    *,
    memory: bool,
    time: bool,
    batch_size: int,
    device: str,
    output_format: str,
    units: str,
) -> None:
    """Count every combination and show one table; exit code 130 where Ctrl-C left some out.

    Raises:
        SettingError: where no argument is named.
    """
    if not vary:
        raise SettingError(f"sweep {name}: name what varies, for example --vary width=8..64..8")
    from e4profile.questions.sweep.variant_sweep import sweep_variants
    from e4profile.questions.sweep.variants_table import variants_table
    from e4profile.witnesses.timing.in_turn import ForwardInTurn

    found_target = target(name, None, inputs, arguments)
    with waiting("sweep") as say:
        found = sweep_variants(
            found_target.card or found_target,
            vary,
            memory_batch_size=batch_size if memory else None,
            timer=ForwardInTurn(device, batch_size) if time else None,
            progress=lambda done, total, what: say(f"{done} of {total} done, {what}"),
        )
    table = variants_table(found, "macs")
    if output_format == "json":
        sys.stdout.write(json.dumps([one.as_object() for one in found.variants], indent=2) + "\n")
    else:
        emit(table, output_format, units)
    if output_format in ("json", "csv"):
        for text in table.notes:
            note(text)
    if found.interrupted:
        stop_interrupted()
