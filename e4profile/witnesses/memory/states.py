"""Memory that a training holds between steps: parameters, gradients, optimiser state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from e4profile.errors import SettingError, UnknownNameError

MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2}
"""Elements that an optimiser keeps per parameter: none, a velocity, two moments (Kingma & Ba 2015)."""

_STEP_BYTES = {"sgd": 0, "momentum": 0, "adam": torch.float32.itemsize}


@dataclass(frozen=True)
class TrainingState:
    """Bytes that are there whatever the batch.

    Attributes:
        parameter_bytes: the parameters.
        gradient_bytes: one gradient per trainable parameter.
        optimiser_bytes: moments, and Adam's step counter (a float32 per parameter tensor).
        optimiser: "sgd", "momentum" or "adam".
    """

    parameter_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    optimiser: str

    @property
    def state_bytes(self) -> int:
        """All of it."""
        return self.parameter_bytes + self.gradient_bytes + self.optimiser_bytes


def training_state_bytes(
    params: int, optimiser: str = "sgd", dtype: torch.dtype = torch.float32, *, tensors: int = 0, frozen: int = 0
) -> TrainingState:
    """Parameters, gradients and optimiser state, all in one dtype.

    Args:
        params: number of parameters, the frozen ones included.
        optimiser: "sgd", "momentum" or "adam", as PyTorch's optimisers keep their state.
        dtype: of the parameters.
        tensors: how many trainable parameter tensors there are: Adam counts steps for each.
        frozen: parameters without gradient.

    Raises:
        UnknownNameError: for an optimiser that does not exist.
        SettingError: for counts that are negative or do not fit together.
    """
    if optimiser not in MOMENTS:
        raise UnknownNameError("optimiser", optimiser, MOMENTS)
    if tensors < 0 or not 0 <= frozen <= params:
        raise SettingError(
            f"params (={params}), frozen (={frozen}) and tensors (={tensors}) must be counts, frozen <= params"
        )
    trained_bytes = (params - frozen) * dtype.itemsize
    return TrainingState(
        params * dtype.itemsize,
        trained_bytes,
        MOMENTS[optimiser] * trained_bytes + tensors * _STEP_BYTES[optimiser],
        optimiser,
    )


def training_state_of(model: nn.Module, optimiser: str = "sgd", dtype: torch.dtype | None = None) -> TrainingState:
    """The training state of a network, from the shapes of its parameters.

    Args:
        model: on any device.
        optimiser: "sgd", "momentum" or "adam".
        dtype: of the parameters; the model's own when None.

    Raises:
        UnknownNameError: for an optimiser that does not exist.
    """
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    total = sum(p.numel() for p in parameters)
    return training_state_bytes(
        total,
        optimiser,
        dtype or next((p.dtype for p in parameters if p.is_floating_point()), torch.float32),
        tensors=len(trained),
        frozen=total - sum(p.numel() for p in trained),
    )
