"""The memory of a training step against the batch size: what is constant, what grows, and the peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.figures import Figure
from e4profile.show.style import BLUE, GREY, ORANGE, VERMILION, Plot, around, finish, log_axis, new_figure, value_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from e4profile.subjects.subject import Subject

_DEFAULT_MODELS = ("p4-cnn", "p4-r18", "p4m-r18", "e4net", "p4-e4r18", "p4m-e4r18")
BATCH_SIZES = (2, 8, 32, 128, 512)
"""From two images on: a batch norm over single values refuses one."""


def default_models() -> tuple[str, ...]:
    """Three group-convolutional networks of He et al. 2021, then the E4 networks in their place."""
    return _DEFAULT_MODELS


def memory_rows(networks: Sequence[Subject], batch_sizes: Sequence[int] = BATCH_SIZES) -> list[dict[str, Any]]:
    """One row per network and batch size, in float32, as PyTorch's own bookkeeping has it; nothing is allocated.

    ``constant_bytes`` and ``growing_bytes`` are kept between forward and backward, ``peak_bytes`` is the most that
    both passes hold at once beyond parameters, buffers and input.

    Raises:
        SettingError: for inputs of a user-defined model whose leading sizes are no batch.
        UserCodeError: for what a user-defined model raises.
    """
    return [
        {"model": network.short_name, "batch_size": batch_size, **step}
        for network in networks
        for batch_size, step in zip(batch_sizes, _steps(network, batch_sizes), strict=True)
    ]


def _steps(network: Subject, batch_sizes: Sequence[int]) -> list[dict[str, int]]:
    from e4profile.witnesses.memory.peak import allocator_emulation
    from e4profile.witnesses.memory.saved import saved_for_backward
    from e4profile.witnesses.variants import VariantCounter

    network.check_batched("the figure varies")

    def predicted(fresh: Subject) -> list[dict[str, int]]:
        model = fresh.build_whole()

        def saved(batch_size: int) -> tuple[int, int]:
            found = saved_for_backward(model, fresh.batched, batch_size=batch_size)
            return found.constant_bytes, found.per_image_bytes

        with fresh.guarded():
            laws = {size: saved(size) for size in (batch_sizes[0], batch_sizes[-1])}
            if len(set(laws.values())) > 1:
                laws |= {size: saved(size) for size in batch_sizes[1:-1]}
            peaks = [
                allocator_emulation(model, fresh.batched, batch_size=size, loss="auto").peak_bytes
                for size in batch_sizes
            ]
        # what the smallest and the largest batch keep, those between them keep too
        common = laws[batch_sizes[0]]
        return [
            {"constant_bytes": constant, "growing_bytes": size * per_image, "peak_bytes": peak}
            for size, peak in zip(batch_sizes, peaks, strict=True)
            for constant, per_image in (laws.get(size, common),)
        ]

    return VariantCounter().on_meta(network, predicted)


BYTES_PER_MIB = 2**20
_COLUMNS = 3
_PANEL_INCHES = 1.25
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "constant_bytes": ("saved, constant", {"color": ORANGE}),
    "growing_bytes": ("saved, growing", {"color": BLUE}),
    "peak_bytes": ("peak", {"color": VERMILION, "linestyle": "--", "marker": "o", "markersize": 2.2}),
}


def memory_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """A panel per network on common logarithmic axes; a line marks where the growing part overtakes the constant.

    Args:
        name: of the files.
        rows: with the keys of ``memory_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise SettingError("no memory to draw")
    models = list(dict.fromkeys(row["model"] for row in rows))
    columns = min(_COLUMNS, len(models))
    lines = -(-len(models) // columns)
    figure = new_figure(0.35 + _PANEL_INCHES * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    limits = around([row[key] / BYTES_PER_MIB for row in rows for key in _LINES], 1.8)
    for place, axes in enumerate(grid.flat):
        if place >= len(models):
            axes.set_axis_off()
            continue
        _panel(axes, [row for row in rows if row["model"] == models[place]])
        axes.set_title(models[place])
        if place % columns == 0:
            axes.set_ylabel("MiB (log)")
        if place + columns >= len(models):
            axes.set_xlabel("batch size (log)")
            axes.tick_params(labelbottom=True)
    log_axis(grid[0, 0], "y", *limits)
    handles = [Line2D([], [], label=label, **style) for label, style in _LINES.values()]
    if any(len(axes.get_lines()) > len(_LINES) for axes in grid.flat):
        handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=0.8, label="both parts equal"))
    remarks = [
        "float32, forward and backward of one training step. Saved: kept between the two passes, parameters and input "
        "apart. Peak: the most held at once beyond what was there before, as PyTorch's allocator rounds it. 1 MiB is "
        "2^20 bytes."
    ]
    finish(figure, "Memory", "a training step against its batch", handles, remarks, convention_name=None)
    return Plot(name, figure, list(rows))


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    batches = [row["batch_size"] for row in rows]
    for key, (_, style) in _LINES.items():
        axes.plot(batches, [row[key] / BYTES_PER_MIB for row in rows], **style)
    last = rows[-1]
    equal = last["constant_bytes"] * last["batch_size"] / last["growing_bytes"] if last["growing_bytes"] else None
    if equal is not None and min(batches) < equal < max(batches):
        axes.axvline(equal, color=GREY, linestyle=":", linewidth=0.8, zorder=1)
        axes.annotate(
            f"B = {equal:.0f}", (equal, 1), xycoords=("data", "axes fraction"), xytext=(2, -1),
            textcoords="offset points", color=GREY, va="top",
        )  # fmt: skip
    value_ticks(axes, batches, doubled=True, most=3)


FIGURE = Figure(
    "memory",
    "saved bytes, constant and growing, and peak of a training step against batch size",
    memory_rows,
    memory_plot,
    default_models,
    place=8,
)
