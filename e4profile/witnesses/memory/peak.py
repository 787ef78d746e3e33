"""Peak memory of forward and backward: live storages at the allocator's granularity, or the CUDA allocator's own."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from e4profile.errors import SettingError
from e4profile.subjects.batches import ModelInputs
from e4profile.subjects.borrowed import Borrowed, borrowed, measured, whole
from e4profile.subjects.losses import Loss, loss_of
from e4profile.subjects.stand_ins import Kernels
from e4profile.witnesses.beat import beat

GRANULARITY_BYTES = 512
"""The CUDA caching allocator hands out multiples of this many bytes."""

MIB = 1 << 20


@dataclass(frozen=True)
class PeakMemory:
    """The most memory that a forward and backward pass held at once, beyond what was there before it.

    Attributes:
        peak_bytes: at the peak; parameters, buffers, input and target excluded, gradients included.
        after_forward_bytes: when the loss was computed and backward had not begun.
        after_backward_bytes: at the end: the gradients, the output and the loss.
        peak_operator: the operator whose output made the peak.
        batch_size: images.
        device: where it ran.
        method: how it was measured.
        loss: what backward started from.
        notes: which kernels were assumed, or that it ran for real.
    """

    peak_bytes: int
    after_forward_bytes: int
    after_backward_bytes: int
    peak_operator: str
    batch_size: int
    device: str
    method: str
    loss: str = ""
    notes: tuple[str, ...] = ()

    @property
    def peak_mib(self) -> float:
        """The peak in units of 2**20 bytes."""
        return self.peak_bytes / MIB


class LiveStorages(TorchDispatchMode):
    """Follow every storage that an operator returns, from then until it is freed.

    What an operator allocates inside itself (a convolution's workspace, the blocks of the aggregation) is not
    seen; a view shares its storage and adds nothing.

    Args:
        before: tensors that were there before: their storages are not counted.
        granularity_bytes: each storage is rounded up to a multiple of this.
    """

    def __init__(self, before: Iterable[Tensor] = (), granularity_bytes: int = GRANULARITY_BYTES) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.granularity_bytes = granularity_bytes
        self.live_bytes = 0
        self.peak_bytes = 0
        self.peak_operator = ""
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        for tensor in before:
            self._follow(tensor.untyped_storage(), 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator, then follow what it returned."""
        del types
        beat()
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._follow(storage, -(-storage.nbytes() // self.granularity_bytes) * self.granularity_bytes)
        if self.live_bytes > self.peak_bytes:
            self.peak_bytes, self.peak_operator = self.live_bytes, str(func)
        return result

    def _follow(self, storage: torch.UntypedStorage, size_bytes: int) -> None:
        key = storage._cdata
        if key in self._storages:
            return

        def freed(_: weakref.ref[torch.UntypedStorage]) -> None:
            del self._storages[key]
            self.live_bytes -= size_bytes

        # the storage's Python object lives as long as the storage itself, also when only autograd holds it
        self._storages[key] = weakref.ref(storage, freed)
        self.live_bytes += size_bytes


def allocator_emulation(
    model: nn.Module,
    input_shape: ModelInputs,
    *,
    batch_size: int | None = 2,
    loss: Loss = "cross_entropy",
    train: bool = True,
    device: str | torch.device = "meta",
    dtype: torch.dtype | None = None,
    kernels: Kernels = "cpu",
) -> PeakMemory:
    """Peak of the live storages during one forward and backward pass.

    Every storage that an operator returns counts from then until it is freed, rounded up to 512 bytes;
    workspaces do not count. Parameters, buffers, input and target are excluded, gradients are included. The
    model is left as found.

    Args:
        model: on any device; with ``device="meta"`` nothing is computed and no memory is needed, unless the network
            cannot run without values.
        input_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        batch_size: B; None leaves the inputs' leading sizes as they are.
        loss: "cross_entropy" against class 0, "mean" or "sum" of all outputs, "auto", or a function of the output
            (see ``e4profile.subjects.losses``).
        train: training or evaluation mode.
        device: "cpu" or "meta".
        dtype: of parameters, buffers and images; the model's own when None.
        kernels: which are assumed with ``device="meta"``.

    Raises:
        SettingError: when the model, the device and the loss do not fit together.
    """
    model = whole(model, input_shape, batch_size)

    def emulated(lent: Borrowed) -> PeakMemory:
        with LiveStorages(lent.tensors) as live:
            output = lent.forward()
            value, loss_name = loss_of(output, loss, lent.target)
            after_forward_bytes = live.live_bytes
            value.backward()
            after_backward_bytes = live.live_bytes
        return PeakMemory(
            live.peak_bytes,
            after_forward_bytes,
            after_backward_bytes,
            live.peak_operator,
            lent.batch_size,
            str(device),
            f"live storages, multiples of {live.granularity_bytes} bytes, no workspace",
            loss_name,
        )

    setting: dict[str, Any] = {"batch_size": batch_size, "train": train, "dtype": dtype, "kernels": kernels}
    peak, notes = measured(model, input_shape, emulated, device=device, **setting)
    return replace(peak, notes=notes)


_FUSED_IN_INFERENCE = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


@contextmanager
def _attention_step_by_step() -> Iterator[None]:
    """Without the operators that run a layer of attention whole in inference: what is inside them is not seen."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@dataclass(frozen=True)
class ForwardPeak:
    """The most memory that a forward pass without gradients held at once, beyond what was there before it.

    Attributes:
        peak_bytes: at the peak of the first pass or of a later one; parameters, buffers and input excluded.
        kept_bytes: the part that the network keeps between passes: filters that a layer expands once in evaluation.
        batch_size: images.
        device: where it ran.
        notes: which kernels were assumed, or that it ran for real.
    """

    peak_bytes: int
    kept_bytes: int
    batch_size: int
    device: str
    notes: tuple[str, ...] = ()


def forward_emulation(
    model: nn.Module,
    input_shape: ModelInputs,
    *,
    batch_size: int | None = 2,
    device: str | torch.device = "meta",
    dtype: torch.dtype | None = None,
    kernels: Kernels = "cpu",
) -> ForwardPeak:
    """Peak of the live storages during forward passes in evaluation mode without gradients, as ``allocator_emulation``.

    Two passes run, because what the first one makes for all of them is not there while it runs, and is while the next
    one does. The output of a pass is gone before the next.

    Args:
        model: as for ``allocator_emulation``, also the other arguments.
        input_shape: as for the step.
        batch_size: as for the step.
        device: as for the step.
        dtype: as for the step.
        kernels: as for the step.

    Raises:
        SettingError: when the model and the device do not fit together.
        Whatever the network's forward raises.
    """
    model = whole(model, input_shape, batch_size)

    def emulated(lent: Borrowed) -> ForwardPeak:
        kept_bytes = []
        with torch.no_grad(), _attention_step_by_step(), LiveStorages(lent.tensors) as live:
            for _ in range(2):
                lent.forward()
                kept_bytes.append(live.live_bytes)
        first, second = kept_bytes
        notes = []
        if second > first:
            notes.append(f"keeps {second - first:,} bytes more with every pass: the peak is that of the first two")
        if any(isinstance(part, _FUSED_IN_INFERENCE) for part in lent.model.modules()):
            notes.append("PyTorch's fused attention of inference shows no storages: the peak is that of its steps")
        return ForwardPeak(live.peak_bytes, second, lent.batch_size, str(device), tuple(notes))

    setting: dict[str, Any] = {"batch_size": batch_size, "train": False, "dtype": dtype, "kernels": kernels}
    peak, notes = measured(model, input_shape, emulated, device=device, **setting)
    return replace(peak, notes=(*peak.notes, *notes))


def allocator_peak(
    model: nn.Module,
    input_shape: ModelInputs,
    *,
    batch_size: int = 2,
    loss: Loss = "cross_entropy",
    train: bool = True,
    device: str | torch.device = "cuda",
    dtype: torch.dtype | None = None,
    warm_up: bool = True,
) -> PeakMemory:
    """(peak allocated in forward and backward) - (allocated before), as the allocator counts it.

    Unlike the emulation this includes workspaces. The model is left as found; one that lives elsewhere is
    copied to the device for the measurement.

    Args:
        model: on any device but meta.
        input_shape: of one image, (channels, h, w).
        batch_size: B.
        loss: as in ``allocator_emulation``.
        train: training or evaluation mode.
        device: a CUDA device.
        dtype: of parameters, buffers and images; the model's own when None.
        warm_up: run once before, so that memory which a library takes once and keeps does not count.

    Raises:
        SettingError: where there is no such device.
    """
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        raise SettingError(f"device (={device}) must be an available CUDA device: the allocator there counts")
    model = whole(model, input_shape, batch_size)
    with borrowed(model, input_shape, batch_size=batch_size, train=train, device=device, dtype=dtype) as lent:
        if warm_up:
            _run(lent, loss, device)
            for parameter in lent.parameters.values():
                parameter.grad = None
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before_bytes = _allocated(device)
        after_forward_bytes, after_backward_bytes, loss_name = _run(lent, loss, device)
        statistics = torch.cuda.memory_stats(device)
    return PeakMemory(
        int(statistics["allocated_bytes.all.peak"]) - before_bytes,
        after_forward_bytes - before_bytes,
        after_backward_bytes - before_bytes,
        "",
        batch_size,
        str(device),
        "CUDA caching allocator, workspaces included",
        loss_name,
    )


def _run(lent: Borrowed, loss: Loss, device: torch.device) -> tuple[int, int, str]:
    """Allocated bytes after forward and after backward, and what backward started from."""
    output = lent.forward()
    value, loss_name = loss_of(output, loss, lent.target)
    torch.cuda.synchronize(device)
    after_forward_bytes = _allocated(device)
    value.backward()
    torch.cuda.synchronize(device)
    return after_forward_bytes, _allocated(device), loss_name


def _allocated(device: torch.device) -> int:
    return int(torch.cuda.memory_stats(device)["allocated_bytes.all.current"])
