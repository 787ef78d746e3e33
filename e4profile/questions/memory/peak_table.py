"""The table of peaks: what each layer of a network holds when it holds most, term by term."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.columns import table_of_rows
from e4profile.questions.memory.rows import check_input, irrep_notes, torch_dtype
from e4profile.show.tables import Column, Table

if TYPE_CHECKING:
    import torch
    from torch import nn

    from e4profile.subjects.batches import ModelInputs
    from e4profile.subjects.subject import Subject


def peak_rows(
    model: nn.Module, inputs: ModelInputs, batch_size: int | None, dtype_name: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows by layer and term, largest term first, and why a layer has none.

    Args:
        model: of layers that state a timeline; a network that is no chain of them runs once on the meta device, which
            says which layers run and on which shapes.
        inputs: the shape of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        batch_size: B; None leaves the inputs' leading sizes as they are.
        dtype_name: of parameters and images.

    Raises:
        SettingError: for a shape that does not fit.
        Whatever the model's forward raises.
    """
    from e4profile.witnesses.memory.layer_peak import moments, no_peak_reason

    dtype = torch_dtype(dtype_name)
    rows: list[dict[str, Any]] = []
    paths_by_reason: dict[str, list[str]] = {}
    layers, whole = _layers(model, inputs, batch_size, dtype)
    for path, module, shape in layers:
        reason = no_peak_reason(module, shape)
        if reason is None:
            try:
                known = moments(module, shape[1:], batch_size=shape[0], dtype=dtype)
            except SettingError as error:  # for example matrices where the closed form takes vectors
                reason = str(error)
        if reason is not None:
            paths_by_reason.setdefault(reason, []).append(path)
            continue
        most = max(known, key=lambda moment: moment.live_bytes)
        rows += [
            {
                "path": path,
                "layer": type(module).__name__,
                "pass": most.phase,
                "step": most.step,
                "term": term,
                "bytes": amount,
                "peak_bytes": most.live_bytes,
            }
            for term, amount in sorted(most.bytes_by_term.items(), key=lambda item: -item[1])
        ]
    reasons = [f"{', '.join(dict.fromkeys(paths))}: {reason}" for reason, paths in paths_by_reason.items()]
    between = "between the layers: a user-defined forward states no timeline of its storages"
    return rows, reasons if whole else [*reasons, between]


def _layers(
    model: nn.Module, inputs: ModelInputs, batch_size: int | None, dtype: torch.dtype
) -> tuple[list[tuple[str, nn.Module, tuple[int, ...]]], bool]:
    """Path, layer and input shape of every layer in order of execution, and whether there is nothing else.

    From the closed form, which knows all that runs; else from what runs, of which only layers are seen.
    """
    from torch import nn

    from e4profile.layers.containers import Chain, Traced, trace
    from e4profile.subjects.batches import BatchedInputs

    shape = BatchedInputs.of(inputs).at(batch_size, dtype, "meta").single_shape
    if shape is not None:
        with suppress(SettingError):
            found = [
                (step.path or type(step.module).__name__, step.module, step.input_shape)
                for step in trace(model, shape)[1]
                # a container that is charged for holds nothing of its own
                if not isinstance(step.module, Chain)
            ]
            return found, True
    found = _layers_that_run(model, inputs, batch_size)
    layers = {part for layer in _outermost(model) for part in layer.modules()}
    return found, all(isinstance(one, nn.Sequential | Traced) for one in model.modules() if one not in layers)


def _layers_that_run(
    model: nn.Module, inputs: ModelInputs, batch_size: int | None
) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    import torch

    from e4profile.subjects.borrowed import borrowed
    from e4profile.witnesses.walk import Call, Watcher, following

    found: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    class Shapes(Watcher):
        def enter(self, call: Call) -> None:
            tensors = (one for one in (*call.inputs, *call.keywords.values()) if isinstance(one, torch.Tensor))
            first = next(tensors, None)
            if first is not None:
                found.append((call.path or type(call.module).__name__, call.module, tuple(first.shape)))

    with (
        following(model, Shapes(), only=_outermost(model)),
        borrowed(model, inputs, batch_size=batch_size) as lent,
        torch.no_grad(),
    ):
        lent.forward()
    return found


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a network, without what is inside a layer with a closed form."""
    from e4profile.layers.base import EquivariantLayer
    from e4profile.layers.stock import as_costed

    children = list(module.children())
    closed = isinstance(module, EquivariantLayer) or as_costed(module) is not None
    # parameters of its own: what its forward does with them is no part's
    if not children or closed or next(module.parameters(recurse=False), None) is not None:
        yield module
        return
    for child in children:
        yield from _outermost(child)


def peak_table(card: Subject, batch_size: int | None, dtype_name: str) -> Table:
    """The same for a network on its own inputs.

    Raises:
        SettingError: for a network none of whose layers states what it holds, with the reasons.
        UserCodeError: for what a user-defined model raises.
    """
    check_input(card, batch_size)
    model = card.build_whole()
    with card.guarded(batch_size):
        rows, reasons = peak_rows(model, card.batched, batch_size or card.own_batch, dtype_name)
    if not rows:
        why = "; ".join(reasons) or "it runs no layer"
        raise SettingError(f"--peaks: nothing in {card.name} states what it holds at its peak: {why}")
    batch = batch_size or card.own_batch
    of = "" if batch is None else f", batch of {batch}"
    return table_of_rows(
        f"{card.title}: the peak of each layer by term{of}, {dtype_name}",
        rows,
        (
            "each layer alone, in the middle of a network: its input and its output's gradient exist before it and "
            "do not count; multiples of 512 bytes, no workspaces",
            *irrep_notes(card, model),
            *(f"no closed form: {reason}" for reason in reasons),
        ),
        columns=(
            Column("step", "while", "text", priority=70),
            Column("peak_bytes", "the layer's peak", "bytes", "peak", 80),
        ),
        priorities={"pass": 60},
    )
