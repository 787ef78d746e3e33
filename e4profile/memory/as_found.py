"""Run a network on borrowed tensors, and leave it as it was found: mode, gradients, buffers, hooks, RNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.counters.state import tensors_replaced
from e4profile.errors import SettingError, UnknownNameError, positive

Loss: TypeAlias = Literal["cross_entropy", "sum"] | Callable[[Tensor], Tensor]
LOSSES = ("cross_entropy", "sum")


@dataclass(frozen=True)
class Borrowed:
    """A network with stand-ins for its tensors, ready to run.

    The parameters share the network's memory where the device is the network's own, and collect their own
    gradients; the buffers are copies.

    Attributes:
        model: the network, in the wanted mode.
        parameters: by name.
        buffers: by name.
        images: (B, ...), without gradient.
        target: (B,) class indices.
    """

    model: nn.Module
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    images: Tensor
    target: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that was there before the forward pass."""
        return [*self.parameters.values(), *self.buffers.values(), self.images, self.target]

    def forward(self) -> Tensor:
        """(B, ...) images -> the network's output.

        Raises:
            SettingError: where a part refuses the values, for example a batch norm that gets a single one.
        """
        try:
            with tensors_replaced(self.model, self._lent):
                output: Tensor = self.model(self.images)
        except ValueError as error:
            raise SettingError(f"on inputs of shape {tuple(self.images.shape)}: {error}") from error
        return output

    def _lent(self, tensor: Tensor) -> Tensor:
        return self._by_original[id(tensor)]

    @cached_property
    def _by_original(self) -> dict[int, Tensor]:
        originals = (*self.model.named_parameters(), *self.model.named_buffers())
        lent = {**self.parameters, **self.buffers}
        return {id(tensor): lent[name] for name, tensor in originals}

    def loss(self, output: Tensor, loss: Loss) -> Tensor:
        """A scalar from the output.

        Raises:
            UnknownNameError: for a loss that does not exist.
            SettingError: when the cross-entropy has no class scores (B, classes) to work on.
        """
        if callable(loss):
            return loss(output)
        if loss == "sum":
            return output.sum()
        if loss != "cross_entropy":
            raise UnknownNameError("loss", loss, LOSSES)
        if output.dim() != 2:
            raise SettingError(
                f"loss (='cross_entropy') needs class scores (B, classes), not an output of shape "
                f"{tuple(output.shape)}; use loss='sum'"
            )
        return F.cross_entropy(output, self.target)


@contextmanager
def borrowed(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    batch_size: int,
    train: bool = True,
    device: str | torch.device = "meta",
    dtype: torch.dtype | None = None,
) -> Iterator[Borrowed]:
    """Lend a network for one measurement.

    Args:
        model: on any device; on the meta device nothing of it is allocated.
        input_shape: of one image, (channels, h, w).
        batch_size: B.
        train: training or evaluation mode.
        device: where the measurement runs.
        dtype: of parameters, floating-point buffers and images; the model's own when None.

    Raises:
        SettingError: for a model on the meta device that is asked to run elsewhere.
    """
    positive(batch_size=batch_size)
    device = torch.device(device)
    modes = [(module, module.training) for module in model.modules()]
    if device.type != "meta" and any(p.is_meta for p in (*model.parameters(), *model.buffers())):
        raise SettingError(f"a model on the meta device has no values to run on {device}; use device='meta'")
    cuda_devices = [device] if device.type == "cuda" else []
    dtype = dtype or next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    try:
        with torch.random.fork_rng(devices=cuda_devices), torch.enable_grad():
            if any(mode != train for _, mode in modes):
                model.train(train)
            yield Borrowed(
                model,
                {
                    name: _stand_in(p, device, dtype).requires_grad_(p.requires_grad)
                    for name, p in model.named_parameters()
                },
                {name: _stand_in(b, device, dtype).clone() for name, b in model.named_buffers()},
                torch.zeros((batch_size, *input_shape), device=device, dtype=dtype),
                torch.zeros(batch_size, device=device, dtype=torch.int64),
            )
    finally:
        # parents first, so that a part whose mode differs from its parent's has the last word
        for module, mode in modes:
            if module.training != mode:
                module.train(mode)


def _stand_in(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    if device.type == "meta":
        return torch.empty_like(tensor, device=device, dtype=wanted)
    return tensor.detach().to(device=device, dtype=wanted)
