"""Run a network on borrowed tensors, and leave it as it was found: mode, gradients, buffers, hooks, RNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from e4profile.errors import E4ProfileError, SettingError, positive
from e4profile.subjects.as_found import as_found, device_of
from e4profile.subjects.batches import BatchedInputs, ModelInputs
from e4profile.subjects.contents import NOT_ITS_OWN, package_of
from e4profile.subjects.copies import dtype_in, is_unfinished, materialised
from e4profile.subjects.guest import first_sentence, text_of
from e4profile.subjects.inputs import Example
from e4profile.subjects.losses import Loss, loss_of
from e4profile.subjects.refusals import refuse_unrun
from e4profile.subjects.stand_ins import Kernels, StandIns
from e4profile.subjects.told_device import Caches


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
    _stand_ins: StandIns | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Which kernels the stand-ins assumed so far, a sentence each."""
        return () if self._stand_ins is None else self._stand_ins.notes

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
            text = text_of(error)
            # a batch norm of one value: torch names no remedy
            remedy = "; give --batch-size 2 or more" if "more than 1 value per channel" in text else ""
            raise SettingError(f"on inputs of shape {self.example}: {text}{remedy}") from error
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
    kernels: Kernels = "cpu",
) -> Iterator[Borrowed]:
    """Lend a network for one measurement.

    Args:
        model: on any device.
        input_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        batch_size: B; None leaves the inputs' leading sizes as they are.
        train: training or evaluation mode.
        device: where the measurement runs; on the meta device nothing of it is allocated, and the network sees
            stand-ins that say they are on its own device (see ``e4profile.subjects.stand_ins``).
        dtype: of parameters, floating-point buffers and images; the model's own when None.
        kernels: which the stand-ins assume.

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
    stand_ins = StandIns(kernels, device_of(model)) if device.type == "meta" else None

    def stand_in(tensor: Tensor) -> Tensor:
        wanted = dtype_in(tensor, dtype)
        if stand_ins is not None:
            return stand_ins.of(tensor, wanted)
        return tensor.detach().to(device=device, dtype=wanted, copy=True)

    example, target = inputs.at(batch_size, dtype, device), torch.zeros(size, device=device, dtype=torch.int64)
    if stand_ins is not None:
        example, target = example.map(stand_ins.of), stand_ins.of(target)
    own_code = any(package_of(type(part)) not in NOT_ITS_OWN for part in model.modules())
    with (
        torch.enable_grad(),
        Caches() if stand_ins is not None and own_code else nullcontext(),
        as_found(model, stand_in, training=train),
        nullcontext() if stand_ins is None else stand_ins.running(),
    ):
        yield Borrowed(
            model, dict(model.named_parameters()), dict(model.named_buffers()), example, target, size, stand_ins
        )


T = TypeVar("T")
FOR_REAL = "run for real"


def measured(
    model: nn.Module, input_shape: ModelInputs, use: Callable[[Borrowed], T], *, device: str | torch.device, **lent: Any
) -> tuple[T, tuple[str, ...]]:
    """What ``use`` says of a lent network, and notes: which kernels were assumed, or that it ran for real.

    A network that needs values, which the meta device does not have, runs on copies of its tensors on its own device.

    Args:
        model: as for ``borrowed``, also the other arguments.
        input_shape: of the model.
        use: called once, or again for the run for real.
        device: where the measurement runs.
        lent: the other arguments of ``borrowed``.

    Raises:
        Whatever ``use`` and the network's forward raise, for real where they can run so.
    """
    try:
        with borrowed(model, input_shape, device=device, **lent) as one:
            return use(one), one.notes
    except Exception as error:
        # what is wrong for real raises again below, with the values that the message is about
        own = device_of(model)
        refused = isinstance(error, E4ProfileError) and error.__cause__ is None
        if torch.device(device).type != "meta" or own.type == "meta" or refused:
            raise
        reason = first_sentence(error)
    with borrowed(model, input_shape, device=own, **lent) as one:
        return use(one), (f"{FOR_REAL} on {own}, because it cannot run without values ({reason})",)
