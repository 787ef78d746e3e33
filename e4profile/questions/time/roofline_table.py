"""``e4profile time --roofline``: each layer's ideal time under the device's measured roof, next to what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e4profile.questions import options
from e4profile.questions.columns import table_of_rows
from e4profile.questions.output import Progress, check_columns, check_files, emit, note
from e4profile.questions.time.table import WITNESSES, threads_text
from e4profile.show.tables import Column
from e4profile.witnesses.timing.statistics import quartiles

if TYPE_CHECKING:
    from e4profile.questions.time.roofline import Roofline


_WHOLE = "whole pass"
_COLUMNS = (
    Column("network", "network", "text", priority=20),
    Column("path", "path", "text", priority=95),
    Column("layer", "layer", "text", priority=30),
    Column("macs", "MACs", "integer", priority=60),
    Column("bytes", "bytes", "bytes", priority=50),
    Column("intensity", "MACs per byte", "ratio", "MACs/B", 70),
    Column("bound", "bound", "text", priority=80),
    Column("ideal_s", "ideal", "seconds", priority=75),
    Column("measured_s", "measured", "seconds", priority=90),
    Column("measured_iqr_s", "IQR", "seconds", priority=45),
    Column("achieved_percent", "achieved %", "percent", "ach. %", 92),
    Column("mfu_percent", "MFU %", "percent", "MFU", 55),
    Column("images_per_s", "images per second", "ratio", "images/s", 25),
)


def roofline(
    model: Annotated[str, typer.Argument(help=options.MODEL_HELP, metavar=options.MODEL)],
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    execution: options.Execution = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    batch_size: options.BatchSize = None,
    threads: options.Threads = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Also with the aggregation as unfold, multiply and sum.")
    ] = False,
    max_run_time_s: options.MaxRunTime = 10.0,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure the peaks anew.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write the figure (SVG, PNG, CSV) into a folder.", metavar="FOLDER")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Append a record per network to this file.", metavar="FILE")
    ] = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Arithmetic intensity, bound, ideal and measured time of every layer of a forward pass.

    A user-defined model without a closed form has its MACs from the dispatch counter, and its bytes from what its
    modules hand on. Naming a file or package of yours runs its code.
    """
    from e4profile.questions.figures import file_name, save_beside
    from e4profile.questions.time.figure_roofline import roofline_plot, roofline_record, roofline_rows
    from e4profile.questions.time.roofline import measure_roofline, with_implementation
    from e4profile.records.store import RecordStore
    from e4profile.show.style import check_folder
    from e4profile.witnesses.timing.peaks import cached_peaks
    from e4profile.witnesses.timing.samples import StopRule

    threads = options.threads_used(threads)
    rule = StopRule(min_run_time_s=min(0.5, max_run_time_s), max_run_time_s=max_run_time_s)
    check_columns(*_COLUMNS)
    check_files(out)
    if plot is not None:
        check_folder(plot)
    card = options.one_subject(model, settings, inputs, arguments, execution=execution)
    network, batch = card.build("cpu"), batch_size or card.own_batch
    name = card.full_name
    networks = {name: network}
    if reference:
        networks[f"{name}, reference"] = with_implementation(network, "reference")
    found = []
    with Progress("roofline", len(networks) + 1, quiet=True) as steps:
        peaks = cached_peaks(device, dtype, threads=threads, refresh=refresh)
        steps.step("peaks")
        for label, built in networks.items():
            with card.guarded(batch_size):
                found.append(
                    measure_roofline(
                        built, card.batched, name=label, batch_size=batch, device=device, dtype=dtype, threads=threads,
                        peaks=peaks, rule=rule,
                    )
                )  # fmt: skip
            steps.step(label)
    for text in peaks.notes:
        note(text)
    of = "" if batch is None else f", batch of {batch}"
    table = table_of_rows(
        f"{card.title}: roofline on {peaks.device} in {dtype}{of}, {threads_text(threads)}",
        [row for one in found for row in _rows(one)],
        (*_notes(found), *card.notes),
        keys=[column.key for column in _COLUMNS],
        columns=_COLUMNS,
    )
    records = [roofline_record(one) for one in found]
    if out is not None:
        for record in records:
            RecordStore(out).append(record)
    emit(table, output_format, units)
    stem = f"{file_name('roofline', [name])}-{peaks.device}-{dtype}"
    save_beside(plot, lambda: roofline_plot(stem, card.title, roofline_rows(records)))


def _rows(found: Roofline) -> list[dict[str, object]]:
    """One row per layer, then the whole pass."""
    layers: list[tuple[str, str | None, str | None, int, int, float, float, tuple[float, float] | None]] = [
        (one.traffic.path or "the network itself", one.traffic.layer, one.bound, one.traffic.macs, one.traffic.bytes,
         one.ideal_s, one.measured_s, one.quartiles_s)
        for one in found.layers
    ]  # fmt: skip
    macs, moved = sum(one.traffic.macs for one in found.layers), sum(one.traffic.bytes for one in found.layers)
    whole = found.whole
    layers.append(
        (_WHOLE, None, None, macs + found.other_macs, moved, found.ideal_s, whole.median_s, quartiles(whole.seconds))
    )
    return [
        {
            "network": found.name,
            "path": path,
            "layer": layer,
            "macs": macs,
            "bytes": moved,
            "intensity": macs / moved,
            "bound": bound,
            "ideal_s": ideal_s,
            "measured_s": measured_s,
            "measured_iqr_s": None if spread is None else spread[1] - spread[0],
            "achieved_percent": 100 * ideal_s / measured_s,
            "mfu_percent": 100 * macs / measured_s / found.peaks.macs_per_s,
            "images_per_s": _images_per_s(found) if path == _WHOLE else None,
        }
        for path, layer, bound, macs, moved, ideal_s, measured_s, spread in layers
    ]


def _images_per_s(found: Roofline) -> float | None:
    """Images in a second of such passes; None for inputs that share no leading size."""
    return found.input_shape[0] / found.whole.median_s if len(found.input_shape) > 1 else None


def _notes(found: list[Roofline]) -> list[str]:
    from e4profile.show.numbers import si

    peaks = found[0].peaks
    notes = [
        f"Roof: {si(peaks.macs_per_s, 'MACs/s')} in a matrix product, {si(peaks.bytes_per_s, 'B/s')} in a copy.",
        "MFU: forward MACs per second as a share of that matrix product's; of training: e4profile time --pass step.",
        "Bytes are each input, output and weight once, filters as expanded.",
        *_above_the_roof(found),
    ]
    for one in found:
        between_s = one.whole.median_s - one.layers_s
        summed = f"{one.name}: the layers' times add up to {si(one.layers_s, 's')}"
        if between_s >= 0:
            rest = f"; the remaining {si(between_s, 's')} of the whole pass is time between layers, or noise."
        else:
            rest = (
                f", {si(-between_s, 's')} more than the whole pass takes: timing each layer adds overhead, "
                "which is large for small layers."
            )
        notes.append(summed + rest)
        notes += one.notes
        notes += [f"{one.name} is noisy: {reason}" for reason in one.whole.noise_reasons]
    notes += [f"MACs by {WITNESSES[witness]}." for witness in dict.fromkeys(one.witness for one in found)]
    return notes


def _above_the_roof(found: list[Roofline]) -> list[str]:
    """Why a layer can be faster than its ideal time; a cache only helps what memory bounds."""
    notes = []
    above = [layer for one in found for layer in one.layers if layer.achieved > 1]
    for bound, meaning in (
        ("memory", "read their data from a cache, and the copy did not"),
        (
            "compute",
            "exceed the measured peak: it was measured too low, for example on a busy machine "
            "(--refresh measures it anew), or their convolution runs with fewer products (Winograd) or, in float32 on "
            "CUDA, in TF32",
        ),
    ):
        paths = dict.fromkeys(layer.traffic.path for layer in above if layer.bound == bound)
        if paths:
            named = ", ".join(list(paths)[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
            notes.append(f"Above 100% and bound by {bound} ({named}): these layers {meaning}.")
    return notes
