"""The table of peaks: what each layer of a network holds when it holds most, term by term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.memory_table import torch_dtype

if TYPE_CHECKING:
    from torch import nn

    from e4profile.render.columns import Table
    from e4profile.targets import Target

COLUMNS = ("path", "layer", "pass", "step", "term", "bytes", "peak_bytes")


def peak_rows(
    model: nn.Module, input_shape: tuple[int, ...], batch_size: int, dtype_name: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows with the keys of ``COLUMNS`` by layer and term, largest term first, and why a layer has none.

    Args:
        model: of layers with a closed form.
        input_shape: of one image, (channels, h, w).
        batch_size: B.
        dtype_name: of parameters and images.

    Raises:
        SettingError: for a layer without a closed form, or a shape that does not fit.
    """
    from e4profile.layers.containers import Chain, trace
    from e4profile.memory import moments, no_peak_reason

    dtype = torch_dtype(dtype_name)
    rows: list[dict[str, Any]] = []
    paths_by_reason: dict[str, list[str]] = {}
    for step in trace(model, (batch_size, *input_shape))[1]:
        if isinstance(step.module, Chain):
            continue  # a container that is charged for, but holds nothing of its own
        path = step.path or type(step.module).__name__
        reason = no_peak_reason(step.module, step.input_shape)
        if reason is not None:
            paths_by_reason.setdefault(reason, []).append(path)
            continue
        known = moments(step.module, step.input_shape[1:], batch_size=batch_size, dtype=dtype)
        most = max(known, key=lambda moment: moment.live_bytes)
        rows += [
            {
                "path": path,
                "layer": type(step.module).__name__,
                "pass": most.phase,
                "step": most.step,
                "term": term,
                "bytes": amount,
                "peak_bytes": most.live_bytes,
            }
            for term, amount in sorted(most.bytes_by_term.items(), key=lambda item: -item[1])
        ]
    return rows, [f"{', '.join(paths)}: {reason}" for reason, paths in paths_by_reason.items()]


def peak_table(card: Target, batch_size: int | None, dtype_name: str) -> Table:
    """The same for a card or a model of one's own of one input tensor.

    Raises:
        SettingError: for a network of another input than one tensor, or a layer without a closed form.
    """
    from e4profile.render.columns import Column, Table

    if card.input is None:
        given = " ".join(map(str, card.specs))
        raise SettingError(
            f"--peaks: {card.name} takes ({given}), but a closed form one positional input tensor"
        )
    batch = batch_size or card.own_batch or 1
    rows, reasons = peak_rows(card.build("meta"), card.input, batch, dtype_name)
    known = {
        "path": Column("path", "path", "text", priority=100),
        "layer": Column("layer", "layer", "text", priority=50),
        "pass": Column("pass", "pass", "text", priority=60),
        "step": Column("step", "while", "text", priority=70),
        "term": Column("term", "term", "text", priority=90),
        "bytes": Column("bytes", "bytes", "bytes", priority=95),
        "peak_bytes": Column("peak_bytes", "the layer's peak", "bytes", "peak", 80),
    }
    return Table(
        title=f"{card.title}: the peak of each layer by term, batch of {batch}, {dtype_name}",
        columns=tuple(known[key] for key in COLUMNS),
        rows=tuple(rows),
        notes=(
            "each layer alone, in the middle of a network: its input and its output's gradient are there before and "
            "do not count; multiples of 512 bytes, no workspaces",
            *(f"no closed form: {reason}" for reason in reasons),
        ),
    )
