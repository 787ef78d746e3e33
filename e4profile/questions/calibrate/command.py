"""``e4profile calibrate``: the rates of this device, from which a time is predicted without a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.errors import SettingError
from e4profile.questions import options
from e4profile.questions.columns import table_of_rows
from e4profile.questions.entry import Entry
from e4profile.questions.output import check_columns, emit, note, waiting
from e4profile.show.tables import Column

if TYPE_CHECKING:
    from e4profile.show.tables import Table
    from e4profile.witnesses.timing.calibration import Calibration, FitError
    from e4profile.witnesses.timing.rates import Rate


def calibrate(
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    max_run_time_s: Annotated[float, options.duration("--max-run-time-s", "Time the networks this long.")] = 60.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Five tiny networks: for a first look, not for predictions.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the file here; else where commands look for it.", metavar="FILE")
    ] = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Measure how fast this device runs each kind of operator, so that times are predicted without a run.

    It takes about a minute, once per device. Commands that predict find the file by themselves; one that was written
    with --out is named to them with --calibration. It says how far predictions are off, for networks that were left
    out of the fit.
    """
    from e4profile.records.calibrations import check_writable, default_file, write_calibration
    from e4profile.witnesses.timing import calibration, references
    from e4profile.witnesses.timing.passes import device_named, dtype_name

    threads = options.threads_used(threads)
    file = out or default_file(device_named(device).type, dtype_name(dtype), threads)
    check_columns(*_COLUMNS)
    check_writable(file)
    chosen = references.QUICK if quick else references.REFERENCES
    with waiting("calibrate") as told:
        found = calibration.calibrate(
            device, dtype, threads=threads, references=chosen,
            max_run_time_s=min(max_run_time_s, 0.1) if quick else max_run_time_s, told=told,
        )  # fmt: skip
    write_calibration(file, found)
    emit(_table(found), output_format, units)
    note(f"wrote {file}")


_COLUMNS = (
    Column("operator", "operator", "text", priority=100),
    Column("macs_per_s", "MACs/s", "integer", priority=90),
    Column("bytes_per_s", "bytes/s", "integer", priority=90),
    Column("per_call_s", "per call", "seconds", priority=80),
    Column("step_factor", "step / forward", "ratio", "step", 70),
)


def _table(found: Calibration) -> Table:
    """One row per kind of operator."""
    from e4profile.questions.time.table import threads_text

    def per_second(seconds: float) -> int | None:
        return round(1 / seconds) if seconds else None

    rows = [
        {
            "operator": kind,
            "macs_per_s": per_second(rate.s_per_mac),
            "bytes_per_s": per_second(rate.s_per_byte),
            "per_call_s": rate.s_per_call,
            "step_factor": rate.step_factor,
        }
        for kind, rate in sorted(found.rates.items())
    ]
    name = found.environment.get("device" if found.device == "cuda" else "cpu", found.device)
    return table_of_rows(
        f"Rates of {name} in {found.dtype}, {threads_text(found.threads)}",
        rows,
        [
            f"{found.rounds} rounds of {found.networks} networks, timed with {found.clock}.",
            "A time is the sum of max(MACs / rate, bytes / bandwidth) + calls x time per call; an empty cell sets "
            "no bound.",
            *error_notes(found),
            *([] if found.step_setting_error is None else step_notes(found)),
        ],
        columns=_COLUMNS,
    )


def predicting(
    device: str, threads: int | None, file: Path | None, *, steps: bool = False
) -> tuple[Mapping[str, Rate], tuple[str, ...]]:
    """The rates of a device in float32, or of the file that is named, and what a reader of predicted times must know.

    Raises:
        SettingError: where the device was not calibrated, the file is of another one, or knows no training ``steps``.
    """
    from e4profile.records.calibrations import calibration_for

    found, whose = calibration_for(device.partition(":")[0], "float32", threads, file)
    return found.rates, (
        f"Predicted times{f' {whose}' if whose else ''}: no run of the networks is in them.",
        *error_notes(found),
        *(step_notes(found) if steps else ()),
        f"The largest network that was timed has {found.largest_macs:,} MACs.",
    )


def error_notes(found: Calibration) -> list[str]:
    """How far predictions are off, a sentence for each way to leave networks out of the fit."""
    return [
        _sentence("Error for other settings of the topologies that were timed", found.setting_error),
        _sentence("Error for topologies that were not timed", found.topology_error),
    ]


def step_notes(found: Calibration) -> list[str]:
    """The same of training steps.

    Raises:
        SettingError: for a calibration of forward passes alone.
    """
    if found.step_setting_error is None or found.step_topology_error is None:
        raise SettingError(
            "the calibration covers forward passes only, not a training step: measure it anew with: e4profile calibrate"
        )
    return [
        _sentence("Error of a training step for other settings", found.step_setting_error),
        _sentence("Error of a training step for other topologies", found.step_topology_error),
    ]


def _sentence(what: str, error: FitError) -> str:
    unknown = f"; {error.without_rate} more had operators that no other network has" if error.without_rate else ""
    return (
        f"{what}: {error.mean_percent:.0f}% on average, {error.largest_percent:.0f}% at most, rank correlation "
        f"{error.rank_correlation:.2f} (each of {error.networks} networks predicted by a fit without it{unknown})."
    )


ENTRY = Entry("measure", 4, calibrate, "Measure this device once, so that times can be predicted")
