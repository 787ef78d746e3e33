"""What autograd keeps between forward and backward: exact bytes, one storage counted once, by module."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from e4profile.subjects.batches import BatchedInputs, ModelInputs
from e4profile.subjects.borrowed import Borrowed, measured, whole
from e4profile.subjects.stand_ins import Kernels
from e4profile.witnesses.beat import beat
from e4profile.witnesses.walk import Walk, following

Origin: TypeAlias = Literal["activation", "parameter", "buffer", "input"]


@dataclass(frozen=True)
class SavedStorage:
    """One storage that autograd keeps.

    Attributes:
        path: the innermost module that ran when it was first saved.
        shape: of the tensor that was saved first; the storage can be larger.
        dtype: of that tensor.
        saved_bytes: of the whole storage.
        origin: whether the storage was there before the forward pass, and as what.
        times: how often it was saved.
    """

    path: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    saved_bytes: int
    origin: Origin
    times: int


@dataclass(frozen=True)
class SavedByModule:
    """What one module saved first, as constant + batch * per_image."""

    path: str
    layer: str
    constant_bytes: int
    per_image_bytes: int


@dataclass(frozen=True)
class SavedMemory:
    """What a forward pass saves for backward, beyond parameters, buffers and the input.

    Attributes:
        saved_bytes: at this batch size; ``constant_bytes + batch_size * per_image_bytes``.
        constant_bytes: the part that does not grow with the batch: expanded filter banks, norm statistics.
        per_image_bytes: the growth from this batch size to the next.
        parameter_bytes: parameters that autograd refers to; they exist anyway.
        buffer_bytes: buffers that autograd refers to; they exist anyway.
        input_bytes: the input, where autograd refers to it.
        batch_size: images.
        dtype: of parameters and images.
        device: where it ran.
        storages: every storage at this batch size, in the order in which it was saved.
        modules: by module, in the order in which it first saved something.
        notes: which kernels were assumed, or that it ran for real.
    """

    saved_bytes: int
    constant_bytes: int
    per_image_bytes: int
    parameter_bytes: int
    buffer_bytes: int
    input_bytes: int
    batch_size: int
    dtype: torch.dtype
    device: str
    storages: tuple[SavedStorage, ...]
    modules: tuple[SavedByModule, ...]
    notes: tuple[str, ...] = ()


def saved_for_backward(
    model: nn.Module,
    input_shape: ModelInputs,
    *,
    batch_size: int | None = 1,
    dtype: torch.dtype | None = None,
    train: bool = True,
    device: str | torch.device = "meta",
    kernels: Kernels = "cpu",
) -> SavedMemory:
    """Bytes that the forward pass of a network saves for backward, by saved-tensor hooks.

    The loss is not part of it. The forward pass runs at this batch size and at the next, which tells what
    grows with the batch from what does not. The model is left as found.

    Args:
        model: on any device; with ``device="meta"`` nothing is computed and no memory is needed, unless the network
            cannot run without values.
        input_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        batch_size: B; None leaves the inputs' leading sizes as they are. Where these are no batch, everything counts as
            constant.
        dtype: of parameters, floating-point buffers and images; the model's own when None.
        train: training or evaluation mode.
        device: where the forward pass runs.
        kernels: which are assumed with ``device="meta"``.

    Raises:
        SettingError: when the model and the device do not fit together.
    """
    setting: dict[str, Any] = {"dtype": dtype, "train": train, "device": device, "kernels": kernels}
    inputs = BatchedInputs.of(input_shape)
    model = whole(model, inputs, batch_size)
    batch_size = inputs.batch_size if batch_size is None else batch_size
    here, notes = measured(model, inputs, _storages, batch_size=batch_size, **setting)
    # inputs without a common leading size know no other batch
    at_next = here
    if batch_size is not None:
        at_next, _ = measured(model, inputs, _storages, batch_size=batch_size + 1, **setting)
    batch_size = batch_size or 1
    now, then = _by_path(here), _by_path(at_next)
    names = dict(model.named_modules())
    modules = tuple(
        SavedByModule(
            path,
            type(names[path]).__name__,
            now.get(path, 0) - batch_size * (then.get(path, 0) - now.get(path, 0)),
            then.get(path, 0) - now.get(path, 0),
        )
        for path in dict.fromkeys((*now, *then))
    )
    wanted = dtype or next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return SavedMemory(
        saved_bytes=sum(now.values()),
        constant_bytes=sum(module.constant_bytes for module in modules),
        per_image_bytes=sum(module.per_image_bytes for module in modules),
        parameter_bytes=_of(here, "parameter"),
        buffer_bytes=_of(here, "buffer"),
        input_bytes=_of(here, "input"),
        batch_size=batch_size,
        dtype=wanted,
        device=str(device),
        storages=tuple(here),
        modules=modules,
        notes=notes,
    )


def _of(storages: Iterable[SavedStorage], origin: Origin) -> int:
    return sum(storage.saved_bytes for storage in storages if storage.origin == origin)


def _by_path(storages: Iterable[SavedStorage]) -> dict[str, int]:
    by_path: dict[str, int] = {}
    for storage in storages:
        if storage.origin == "activation":
            by_path[storage.path] = by_path.get(storage.path, 0) + storage.saved_bytes
    return by_path


def _storages(lent: Borrowed) -> list[SavedStorage]:
    with following(lent.model) as walk:
        ledger = _Ledger(lent, walk)
        with saved_tensors_hooks(ledger.pack, ledger.unpack):
            lent.forward()
    return ledger.storages


class _Ledger:
    """Writes down every storage that autograd saves, and keeps it alive so that no address is met twice."""

    def __init__(self, lent: Borrowed, walk: Walk) -> None:
        self._walk = walk
        self._origins: dict[int, Origin] = {t.untyped_storage()._cdata: "input" for t in lent.example.tensors}
        self._origins |= {t.untyped_storage()._cdata: "buffer" for t in lent.buffers.values()}
        self._origins |= {t.untyped_storage()._cdata: "parameter" for t in lent.parameters.values()}
        self._alive: list[torch.UntypedStorage] = []
        self._entries: dict[int, SavedStorage] = {}

    @property
    def storages(self) -> list[SavedStorage]:
        return list(self._entries.values())

    def pack(self, tensor: Tensor) -> None:
        beat()
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._entries.get(key)
        if known is None:
            self._alive.append(storage)
        self._entries[key] = SavedStorage(
            path=known.path if known else self._walk.path,
            shape=known.shape if known else tuple(tensor.shape),
            dtype=known.dtype if known else tensor.dtype,
            saved_bytes=storage.nbytes(),
            origin=self._origins.get(key, "activation"),
            times=known.times + 1 if known else 1,
        )

    @staticmethod
    def unpack(_: None) -> Tensor:
        raise RuntimeError("only the forward pass is measured: nothing was kept for backward")
