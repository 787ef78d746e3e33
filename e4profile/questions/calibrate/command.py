"""``e4profile calibrate``: the rates of this device, from which a time is predicted without a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.questions import options
from e4profile.questions.columns import table_of_rows
from e4profile.questions.entry import Entry
from e4profile.questions.output import emit, note, waiting
from e4profile.show.tables import Column

if TYPE_CHECKING:
    from e4profile.show.tables import Table
    from e4profile.witnesses.timing.calibration import Calibration, FitError


def calibrate(
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    max_run_time_s: Annotated[float, options.duration("--max-run-time-s", "Time the networks this long.")] = 60.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Five tiny networks: for a first look, not for predictions.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it here, not into the user's cache folder.", metavar="FILE")
    ] = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Time a set of networks on this device and fit rates by kind of operator, for time --predicted.

    It takes about a minute. The file holds the rates, the environment and the error, which is measured by leaving
    networks out of the fit. Without --out it is found again by itself; a file that was named is named again with
    --calibration.
    """
    from e4profile.records.calibrations import check_writable, default_file, write_calibration
    from e4profile.witnesses.timing import calibration, references
    from e4profile.witnesses.timing.passes import device_named, dtype_name

    threads = options.threads_used(threads)
    file = out or default_file(device_named(device).type, dtype_name(dtype), threads)
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
        ],
        columns=(
            Column("operator", "operator", "text", priority=100),
            Column("macs_per_s", "MACs/s", "integer", priority=90),
            Column("bytes_per_s", "bytes/s", "integer", priority=90),
            Column("per_call_s", "per call", "seconds", priority=80),
        ),
    )


def error_notes(found: Calibration) -> list[str]:
    """How far predictions are off, a sentence for each way to leave networks out of the fit."""

    def sentence(what: str, error: FitError) -> str:
        unknown = f"; {error.without_rate} more had operators that no other network has" if error.without_rate else ""
        return (
            f"Error for {what}: {error.mean_percent:.0f}% on average, {error.largest_percent:.0f}% at most, rank "
            f"correlation {error.rank_correlation:.2f} (each of {error.networks} networks predicted by a fit "
            f"without it{unknown})."
        )

    return [
        sentence("other settings of the topologies that were timed", found.setting_error),
        sentence("topologies that were not timed", found.topology_error),
    ]


ENTRY = Entry("measure", 4, calibrate, "Measure the rates that times are predicted from")
