"""The memory of a training step or a forward pass as rows: by closed form, measured without memory, and per layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from e4profile.errors import SettingError, one_of
from e4profile.questions.columns import table_of_rows
from e4profile.show.numbers import sizes
from e4profile.show.tables import Column, Kind, Table

if TYPE_CHECKING:
    import torch
    from torch import nn

    from e4profile.subjects.losses import Loss
    from e4profile.subjects.stand_ins import Kernels
    from e4profile.subjects.subject import Subject

DTYPES = ("float32", "float64", "bfloat16", "float16")


def torch_dtype(name: str) -> torch.dtype:
    """A floating dtype by name.

    Raises:
        UnknownNameError: with the nearest names.
    """
    import torch

    dtype: torch.dtype = getattr(torch, one_of("dtype", name, DTYPES))
    return dtype


def kernels_of(name: str) -> Kernels:
    """Whose kernels a prediction follows, by name.

    Raises:
        UnknownNameError: with the nearest names.
    """
    from e4profile.subjects.stand_ins import KERNELS

    return cast("Kernels", one_of("device", name, KERNELS))


def check_input(card: Subject, batch_size: int | None) -> None:
    """Refuse an ``--input`` that a network cannot take, by a closed form that is promised: nothing runs.

    Raises:
        SettingError: naming the layer.
    """
    if not (card.costed_whole and card.input_given):
        return
    from e4profile.layers.containers import trace

    shape = (batch_size or card.batch_size, *card.shape[1:])
    try:
        trace(card.build("meta"), shape)
    except SettingError as error:
        raise SettingError(f"{card.name} cannot run on an input {shape}: {error}") from None


def memory_row(
    card: Subject,
    batch_size: int | None,
    optimiser: str,
    dtype_name: str,
    loss: Loss,
    notes: list[str],
    kernels: Kernels = "cpu",
) -> dict[str, Any]:
    """One network at one batch size; where it runs without values nothing is allocated.

    ``saved_formula_bytes`` is the closed form (None where a layer states none), ``saved_measured_bytes`` what
    autograd keeps in a run without values, as the kernels of a device would. Without a batch size the inputs stay as
    they are; where they share no leading size, nothing says what grows with the batch.
    """
    from e4profile.witnesses.memory.closed_form import predict_saved
    from e4profile.witnesses.memory.step import predict

    check_input(card, batch_size)
    dtype, model, batch = torch_dtype(dtype_name), card.build_whole(), batch_size or card.own_batch
    with card.guarded(batch_size):
        step = predict(model, card.batched, batch, optimiser=optimiser, dtype=dtype, loss=loss, kernels=kernels)
    notes += [*(f"{card.full_name}: {said}" for said in step.notes), *loss_notes(card, step.loss, loss)]
    notes += irrep_notes(card, model, kernels)
    grows = batch is not None and step.saved_constant_bytes >= 0
    if batch is not None and not grows:
        more = f"image {batch + 1} adds more than the average of the first {batch}"
        notes.append(f"{card.full_name}: saved bytes grow faster than the batch: {more}")
    formula = None
    if card.input is not None:
        with suppress(SettingError), card.running():
            saved = predict_saved(model, card.input, dtype=dtype, device=kernels)
            formula = saved.saved_bytes(step.batch_size)
    return {
        "agrees": None if formula is None else formula == step.saved_bytes,
        "model": card.full_name,
        "batch_size": batch,
        "step_bytes": step.step_bytes,
        "parameter_bytes": step.state.parameter_bytes,
        "gradient_bytes": step.state.gradient_bytes,
        "optimiser_bytes": step.state.optimiser_bytes,
        "saved_formula_bytes": formula,
        "saved_measured_bytes": step.saved_bytes,
        "saved_constant_bytes": step.saved_constant_bytes if grows else None,
        "saved_per_image_bytes": step.saved_per_image_bytes if grows else None,
        "peak_bytes": step.peak_bytes,
        "input_bytes": step.input_bytes,
        "buffer_bytes": step.buffer_bytes,
    }


def irrep_notes(card: Subject, model: nn.Module, kernels: Kernels = "cpu") -> list[str]:
    """What the peak of a network in the irrep basis depends on besides its sizes."""
    import torch

    from e4profile.layers.execution import may_run_in_irreps

    with card.running():
        may = may_run_in_irreps(model)
    if not may:
        return []
    threads = torch.get_num_threads()
    cpu = f"a CPU with {threads} thread{'s' * (threads > 1)}"
    here = f"irrep basis: maps and coefficients of a step of images count, as {cpu} makes them"
    return [here if kernels == "cpu" else f"{here}; Triton's kernels on {kernels} make others"]


def loss_notes(card: Subject, name: str, loss: Loss) -> list[str]:
    """What backward starts from, where no loss was chosen and it is not cross-entropy."""
    if loss != "auto" or name in ("", "cross_entropy"):
        return []
    return [f"{card.full_name}: the loss is the {name}" + (": --loss chooses another" if " of " in name else "")]


def layer_rows(
    card: Subject, batch_size: int | None, dtype_name: str, kernels: Kernels = "cpu"
) -> list[dict[str, Any]]:
    """What each layer keeps for backward, term by term, at a batch size.

    Raises:
        SettingError: for a layer that states no saved terms, or a network of another input than one tensor.
    """
    from e4profile.witnesses.memory.closed_form import predict_saved

    if card.input is None:
        raise SettingError(f"--layers: {card.name} takes ({card.given}), but a closed form takes one positional tensor")
    batch = batch_size or card.own_batch or 1
    try:
        predicted = predict_saved(card.build_whole(), card.input, dtype=torch_dtype(dtype_name), device=kernels)
    except SettingError as error:
        raise SettingError(f"--layers: {card.name} has no closed form of what it saves: {error}") from None
    return [
        {"path": layer.path, "layer": layer.layer, "term": term, "grows_with_batch": grows, "bytes": amount * times}
        for layer in predicted.layers
        for terms, grows, times in ((layer.per_image_bytes, True, batch), (layer.constant_bytes, False, 1))
        for term, amount in terms.items()
    ]


def forward_row(
    card: Subject, batch_size: int | None, dtype_name: str, notes: list[str], kernels: Kernels = "cpu"
) -> dict[str, Any]:
    """One network's forward pass in evaluation mode without gradients; nothing is allocated as in ``memory_row``."""
    from e4profile.witnesses.memory.step import predict_forward

    check_input(card, batch_size)
    dtype, model, batch = torch_dtype(dtype_name), card.build_whole(), batch_size or card.own_batch
    with card.guarded(batch_size):
        found = predict_forward(model, card.batched, batch, dtype=dtype, kernels=kernels)
    notes += [*(f"{card.full_name}: {said}" for said in found.notes), *irrep_notes(card, model, kernels)]
    return {
        "model": card.full_name,
        "batch_size": batch,
        "forward_bytes": found.forward_bytes,
        "parameter_bytes": found.parameter_bytes,
        "forward_peak_bytes": found.peak_bytes,
        "kept_bytes": found.kept_bytes,
        "input_bytes": found.input_bytes,
        "buffer_bytes": found.buffer_bytes,
    }


def fits_row(
    card: Subject,
    budget_bytes: int,
    optimiser: str,
    dtype_name: str,
    loss: Loss,
    notes: list[str],
    kernels: Kernels = "cpu",
    *,
    forward: bool = False,
) -> dict[str, Any]:
    """The largest batch whose training step, or forward pass, stays within a budget, and what one image more needs.

    The batch is 0 where not even one image fits.

    Raises:
        SettingError: for inputs whose leading sizes are no batch.
    """
    from e4profile.witnesses.memory.step import NothingFits, largest_batch

    check_input(card, None)

    model, inputs, dtype = card.build_whole(), card.batched, torch_dtype(dtype_name)
    card.check_batched("--fits looks for")
    try:
        with card.guarded():
            found = largest_batch(
                model, inputs, budget_bytes, optimiser=optimiser, dtype=dtype, loss=loss, kernels=kernels,
                forward=forward,
            )  # fmt: skip
        notes += [*(f"{card.full_name}: {said}" for said in found.notes), *irrep_notes(card, model, kernels)]
        batch, needed, beyond = found.batch_size, found.step_bytes, found.next_step_bytes
    except NothingFits as error:
        batch, needed, beyond = 0, None, error.needed_bytes
    here, above, _ = _fits_keys(forward=forward)
    return {"model": card.full_name, "batch_size": batch, here: needed, above: beyond, "budget_bytes": budget_bytes}


def _fits_keys(*, forward: bool) -> tuple[str, str, str]:
    what = "forward" if forward else "step"
    return f"{what}_bytes", f"next_{what}_bytes", "budget_bytes"


def fits_table(
    rows: Sequence[dict[str, Any]],
    what: str,
    notes: Sequence[str],
    *,
    exact: bool,
    unit: str = "",
    forward: bool = False,
) -> Table:
    """The rows of ``fits_row``; for people, amounts in the unit that they wrote (see ``show.numbers.sizes``)."""
    kind: Kind = "bytes" if exact else "text"
    amounts = _fits_keys(forward=forward)
    if not exact:
        rows = [{**row, **dict(zip(amounts, sizes([row[key] for key in amounts], unit), strict=True))} for row in rows]
    none = ["largest batch 0: not even one image fits"] if any(row["batch_size"] == 0 for row in rows) else []
    return table_of_rows(
        f"Largest batch of a {'forward pass' if forward else 'training step'}, {what}",
        rows,
        ["without the workspaces of the convolution library; leave room for them", *none, *dict.fromkeys(notes)],
        columns=(
            Column("batch_size", "largest batch", "integer", priority=100),
            Column(amounts[0], "needs", kind, priority=80),
            Column(amounts[1], "one image more", kind, priority=60),
            Column(amounts[2], "budget", kind, priority=40),
        ),
    )


def layer_table(card: Subject, batch_size: int | None, dtype_name: str, kernels: Kernels = "cpu") -> Table:
    """The rows of ``layer_rows``, and their sum.

    Raises:
        Whatever ``layer_rows`` raises.
    """
    rows = layer_rows(card, batch_size, dtype_name, kernels)
    return table_of_rows(
        f"{card.title}: saved for backward by term, batch of {batch_size or card.own_batch}, {dtype_name}",
        rows,
        (
            f"total {sum(row['bytes'] for row in rows):,} bytes",
            "a feature map that several layers keep is counted at the first",
        ),
        keys=("path", "layer", "term", "grows_with_batch", "bytes"),
    )
