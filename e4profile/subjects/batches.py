"""What a network is called with at any batch size: images of one shape, or several inputs, keywords, dicts, values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from e4profile.errors import SettingError, positive
from e4profile.subjects.inputs import Example, InputSpec, example_from_specs, with_batch


@dataclass(frozen=True)
class BatchedInputs:
    """The inputs of one call, which can be made again for another batch, dtype or device.

    The batch is the leading size of every tensor, where all of them have the same.

    Attributes:
        specs: shapes, with values made from a seed.
        given: the inputs themselves, in place of ``specs``.
    """

    specs: tuple[InputSpec, ...] = ()
    given: Example | None = None

    @classmethod
    def of(cls, inputs: ModelInputs) -> BatchedInputs:
        """Inputs of a library call: the shape of one image without the batch, images, or an example."""
        if isinstance(inputs, BatchedInputs):
            return inputs
        if isinstance(inputs, Example):
            return cls(given=inputs)
        if isinstance(inputs, Tensor):
            return cls(given=Example((inputs,)))
        return cls((InputSpec(shape=(1, *(int(size) for size in inputs))),))

    @property
    def batch_size(self) -> int | None:
        """The leading size that all tensors share; None where they differ, or where there is no tensor."""
        leading = {shape[0] for shape in self._shapes if shape}
        return leading.pop() if len(leading) == 1 else None

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        if self.given is not None:
            return [tuple(tensor.shape) for tensor in self.given.tensors]
        return [spec.shape for spec in self.specs if spec.shape is not None]

    def at(self, batch_size: int | None, dtype: torch.dtype, device: torch.device | str = "cpu") -> Example:
        """The inputs of one call; on the meta device nothing is allocated.

        Args:
            batch_size: in place of every tensor's leading size; None leaves each as it is.
            dtype: of floating-point tensors whose specification names none.
            device: where the tensors are.

        Raises:
            SettingError: when the tensors' leading sizes are no batch (see ``batch_size``), or it is not positive.
        """
        where = torch.device(device)
        if self.given is None:
            specs = self.specs if batch_size is None else with_batch(self.specs, batch_size)
            return example_from_specs(specs, dtype, device=where)
        example = self.given if batch_size is None else self.given_at(batch_size)
        return example.map(lambda tensor: _moved(tensor, where, dtype))

    def given_at(self, batch_size: int) -> Example:
        """The inputs themselves for another batch: the first images, repeated where there are too few.

        Raises:
            SettingError: when the tensors' leading sizes are no batch, or it is not positive.
        """
        positive(batch_size=batch_size)
        if self.batch_size is None:
            shapes = ", ".join(map(str, self._shapes)) or "no tensors"
            raise SettingError(f"batch_size (={batch_size}) cannot replace the leading size of inputs of {shapes}")
        assert self.given is not None
        return self.given.map(lambda tensor: _rows(tensor, batch_size) if tensor.dim() else tensor)


ModelInputs: TypeAlias = Tensor | Sequence[int] | Example | BatchedInputs
"""The shape of one image without the batch, images with it, an example, or inputs for any batch."""


def _rows(tensor: Tensor, batch_size: int) -> Tensor:
    """The first rows, repeated where there are too few."""
    if tensor.is_meta:
        return tensor.new_empty((batch_size, *tensor.shape[1:]))
    return tensor[torch.arange(batch_size, device=tensor.device) % tensor.shape[0]]


def _moved(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    if device.type == "meta":
        return torch.empty_like(tensor, device=device, dtype=wanted, requires_grad=False)
    return tensor.detach().to(device, wanted, copy=True)
