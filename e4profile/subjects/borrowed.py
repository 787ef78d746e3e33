"""Run a network on borrowed tensors, and leave it as it was found: mode, gradients, buffers, hooks, RNG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError, positive
from e4profile.subjects.as_found import as_found, device_of, refuse_unrun
from e4profile.subjects.batches import BatchedInputs, ModelInputs
from e4profile.subjects.copies import is_unfinished, materialised
from e4profile.subjects.guest import text_of
from e4profile.subjects.inputs import Example
from e4profile.subjects.losses import Loss, loss_of


@dataclass(frozen=True)
class Borrowed:
    """A network with stand-ins in place of its tensors, ready to run; they collect their own gradients.

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
            output = self.model(*inputs.positional, **inputs.keywords)
        except ValueError as error:
            raise SettingError(f"on inputs of shape {self.example}: {text_of(error)}") from error
        refuse_unrun(output)
        return output

    def loss(self, output: Any, loss: Loss) -> Tensor:
        """A scalar from the output (see ``e4profile.subjects.losses.loss_of``, also for what it raises)."""
        return loss_of(output, loss, self.target)[0]


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of the first parameter that has a floating-point one; float32 where none has."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def whole(model: nn.Module, inputs: ModelInputs, batch_size: int | None = None) -> nn.Module:
    """The network itself, or a copy after a first call where lazy layers wait for one to know their shapes.

    Raises:
        Whatever the network's forward raises.
    """
    if not is_unfinished(model):
        return model
    return materialised(model, BatchedInputs.of(inputs).at(batch_size, dtype_of(model), device_of(model)))


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
    if device.type != "meta" and any(p.is_meta for p in (*model.parameters(), *model.buffers())):
        raise SettingError(f"a model on the meta device has no values to run on {device}; use device='meta'")
    dtype = dtype or dtype_of(model)

    def stand_in(tensor: Tensor) -> Tensor:
        wanted = dtype if tensor.is_floating_point() else tensor.dtype
        if device.type == "meta":
            return torch.empty_like(tensor, device=device, dtype=wanted, requires_grad=False)
        return tensor.detach().to(device=device, dtype=wanted, copy=True)

    with torch.enable_grad(), as_found(model, stand_in, training=train):
        yield Borrowed(
            model,
            dict(model.named_parameters()),
            dict(model.named_buffers()),
            inputs.at(batch_size, dtype, device),
            torch.zeros(size, device=device, dtype=torch.int64),
            size,
        )
