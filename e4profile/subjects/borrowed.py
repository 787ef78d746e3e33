"""Run a network on borrowed tensors, and leave it as it was found: mode, gradients, buffers, hooks, RNG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError, positive
from e4profile.subjects.as_found import refuse_unrun, tensors_replaced
from e4profile.subjects.batches import BatchedInputs, ModelInputs
from e4profile.subjects.guest import text_of
from e4profile.subjects.inputs import Example
from e4profile.subjects.losses import Loss, loss_of


@dataclass(frozen=True)
class Borrowed:
    """A network with stand-ins for its tensors, ready to run.

    The parameters share the network's memory where the device is the network's own, and collect their own
    gradients; the buffers are copies.

    Attributes:
        model: the network, in the wanted mode.
        parameters: by name.
        buffers: by name.
        example: the inputs of one call, without gradient.
        target: (B,) class indices.
        batch_size: the inputs' common leading size; 1 where they have none.
    """

    model: nn.Module
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    example: Example
    target: Tensor
    batch_size: int

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that was there before the forward pass."""
        return [*self.parameters.values(), *self.buffers.values(), *self.example.tensors, self.target]

    def forward(self) -> Any:
        """The network's output on the inputs.

        Raises:
            SettingError: where a part refuses the values, for example a batch norm that gets a single one, or for an
                output that has not run.
        """
        inputs = self.example.fresh()
        try:
            with tensors_replaced(self.model, self._lent):
                output = self.model(*inputs.positional, **inputs.keywords)
        except ValueError as error:
            raise SettingError(f"on inputs of shape {self.example}: {text_of(error)}") from error
        refuse_unrun(output)
        return output

    def _lent(self, tensor: Tensor) -> Tensor:
        return self._by_original[id(tensor)]

    @cached_property
    def _by_original(self) -> dict[int, Tensor]:
        originals = (*self.model.named_parameters(), *self.model.named_buffers())
        lent = {**self.parameters, **self.buffers}
        return {id(tensor): lent[name] for name, tensor in originals}

    def loss(self, output: Any, loss: Loss) -> Tensor:
        """A scalar from the output (see ``e4profile.subjects.losses.loss_of``, also for what it raises)."""
        return loss_of(output, loss, self.target)[0]


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of the first parameter that has a floating-point one; float32 where none has."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


@contextmanager
def borrowed(
    model: nn.Module,
    input_shape: ModelInputs,
    *,
    batch_size: int | None,
    train: bool = True,
    device: str | torch.device = "meta",
    dtype: torch.dtype | None = None,
) -> Iterator[Borrowed]:
    """Lend a network for one measurement.

    Args:
        model: on any device; on the meta device nothing of it is allocated.
        input_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        batch_size: B; None leaves the inputs' leading sizes as they are.
        train: training or evaluation mode.
        device: where the measurement runs.
        dtype: of parameters, floating-point buffers and images; the model's own when None.

    Raises:
        SettingError: for a model on the meta device that is asked to run elsewhere.
    """
    if batch_size is not None:
        positive(batch_size=batch_size)
    inputs = BatchedInputs.of(input_shape)
    size = batch_size or inputs.batch_size or 1
    device = torch.device(device)
    modes = [(module, module.training) for module in model.modules()]
    if device.type != "meta" and any(p.is_meta for p in (*model.parameters(), *model.buffers())):
        raise SettingError(f"a model on the meta device has no values to run on {device}; use device='meta'")
    cuda_devices = [device] if device.type == "cuda" else []
    dtype = dtype or dtype_of(model)
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
                inputs.at(batch_size, dtype, device),
                torch.zeros(size, device=device, dtype=torch.int64),
                size,
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
