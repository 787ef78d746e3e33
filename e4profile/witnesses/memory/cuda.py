"""Peak memory of forward and backward on CUDA, from the caching allocator's own statistics."""

from __future__ import annotations

import torch
from torch import nn

from e4profile.errors import SettingError
from e4profile.subjects.batches import ModelInputs
from e4profile.subjects.borrowed import Borrowed, borrowed
from e4profile.subjects.losses import Loss
from e4profile.witnesses.memory.live import PeakMemory


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
    with borrowed(model, input_shape, batch_size=batch_size, train=train, device=device, dtype=dtype) as lent:
        if warm_up:
            _run(lent, loss, device)
            for parameter in lent.parameters.values():
                parameter.grad = None
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before_bytes = _allocated(device)
        after_forward_bytes, after_backward_bytes = _run(lent, loss, device)
        statistics = torch.cuda.memory_stats(device)
    return PeakMemory(
        int(statistics["allocated_bytes.all.peak"]) - before_bytes,
        after_forward_bytes - before_bytes,
        after_backward_bytes - before_bytes,
        "",
        batch_size,
        str(device),
        "CUDA caching allocator, workspaces included",
    )


def _run(lent: Borrowed, loss: Loss, device: torch.device) -> tuple[int, int]:
    output = lent.forward()
    value = lent.loss(output, loss)
    torch.cuda.synchronize(device)
    after_forward_bytes = _allocated(device)
    value.backward()
    torch.cuda.synchronize(device)
    return after_forward_bytes, _allocated(device)


def _allocated(device: torch.device) -> int:
    return int(torch.cuda.memory_stats(device)["allocated_bytes.all.current"])
