"""``e4profile time --predicted``: a forward pass by named term, from the closed form and a calibration; no run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.errors import SettingError
from e4profile.questions.calibrate.command import error_notes, step_notes
from e4profile.questions.columns import COLUMNS as VOCABULARY
from e4profile.questions.columns import table_of_rows
from e4profile.questions.time.table import threads_text
from e4profile.show.tables import Column, Table

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.timing.calibration import Calibration, FitError
    from e4profile.witnesses.timing.work import Operation

_FAR = 10
"""A network of so many times the MACs of the largest timed one is an extrapolation."""

COLUMNS = (
    Column("network", "network", "text", priority=100),
    VOCABULARY["batch_size"],
    VOCABULARY["term"],
    VOCABULARY["macs"],
    Column("predicted_s", "predicted", "seconds", priority=98),
    Column("time_percent", "time %", "percent", priority=70),
    Column("error_percent", "error %", "percent", "± %", 96),
)


def predicted_table(
    networks: Sequence[Subject], batches: Sequence[int | None], where: tuple[str, str, int | None], file: Path | None,
    *, step: bool = False,
) -> Table:  # fmt: skip
    """A row per network, batch and named term, and the total with its error; None where a time is not stated.

    Args:
        networks: in order.
        batches: of each; None is its own.
        where: device, dtype and threads (None for those of the file, or of PyTorch); a device that a named file is of
            need not be here.
        file: a calibration that was named.
        step: a training step in place of the forward pass.

    Raises:
        SettingError: where the device was not calibrated, or the file is of another one, or of forward passes alone.
    """
    from e4profile.records.calibrations import calibration_for
    from e4profile.witnesses.timing.passes import dtype_named

    device, dtype, threads = where
    calibration, whose = calibration_for(device, dtype, threads, file)
    errors, at_total = error_notes(calibration), calibration.topology_error
    if step:
        errors, at_total = step_notes(calibration), calibration.step_topology_error or at_total
    rows: list[dict[str, object]] = []
    remarks: list[str] = []
    for network in networks:
        for batch in batches:
            try:
                operations = _operations(network, batch, dtype_named(dtype).itemsize)
                found = _terms(calibration, operations, step=step)
            except SettingError as error:
                operations, found = [], {}
                remarks.append(f"{network.full_name}: not stated: {error}.")
            rows += _rows(network, batch or network.own_batch, found, at_total)
            macs = sum(one.macs for one in operations)
            if macs > _FAR * calibration.largest_macs:
                remarks.append(
                    f"{network.full_name}: an extrapolation: {macs:,} MACs, and the largest network that was timed has "
                    f"{calibration.largest_macs:,}."
                )
    name = calibration.environment.get("device" if calibration.device == "cuda" else "cpu", device)
    there = f"{name}, torch {calibration.environment.get('torch')}, {dtype}, {threads_text(calibration.threads)}"
    return table_of_rows(
        f"Predicted time of a {'training step' if step else 'forward pass in evaluation mode'}",
        rows,
        [
            f"Predicted for {there}{f', {whose}' if whose else ''}, without a run.",
            *errors,
            *(["MACs are those of the forward pass."] if step else []),
            "The error at a total is that for topologies that were not timed.",
            *remarks,
        ],
        keys=[column.key for column in COLUMNS],
        columns=COLUMNS,
    )


def _operations(network: Subject, batch: int | None, bytes_per_element: int) -> list[Operation]:
    from e4profile.witnesses.timing.work import forward_operations

    own, *sizes = network.shape
    with network.guarded(batch):
        return forward_operations(network.build_to_count(), (batch or own, *sizes), bytes_per_element)


def _terms(calibration: Calibration, operations: Sequence[Operation], *, step: bool) -> dict[str, tuple[int, float]]:
    """MACs and seconds by named term, in the order of the terms."""
    from e4profile.witnesses.timing.rates import seconds_of
    from e4profile.witnesses.timing.work import NAMED_TERMS

    found: dict[str, tuple[int, float]] = {}
    for one in operations:
        macs, seconds = found.get(one.term, (0, 0.0))
        taken = float(seconds_of(calibration.rates, one.kind, one.macs, one.bytes, one.calls, step=step))
        found[one.term] = macs + one.macs, seconds + taken
    return {term: found[term] for term in NAMED_TERMS if term in found}


def _rows(
    network: Subject, batch: int | None, found: dict[str, tuple[int, float]], error: FitError
) -> list[dict[str, object]]:
    common = {"network": network.full_name, "batch_size": batch}
    macs, seconds = (sum(one[place] for one in found.values()) for place in (0, 1))
    parts: list[dict[str, object]] = [
        {**common, "term": term, "macs": of_term, "predicted_s": taken, "time_percent": 100 * taken / seconds}
        for term, (of_term, taken) in found.items()
    ]
    total = {
        "term": "total",
        "macs": macs if found else None,
        "predicted_s": seconds if found else None,
        "time_percent": 100.0 if found else None,
        "error_percent": error.mean_percent if found else None,
    }
    return [*parts, {**common, **total}]
