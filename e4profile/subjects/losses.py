"""What backward starts from: a scalar made of whatever a forward pass returned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from e4profile.errors import SettingError, UnknownNameError
from e4profile.subjects.guest import UserCodeError

Loss: TypeAlias = Literal["auto", "cross_entropy", "mean", "sum"] | Callable[[Any], Tensor]
LOSSES = ("auto", "cross_entropy", "mean", "sum")

AUTO = (
    "cross-entropy of class 0 for one output (B, classes), the mean of any other single output, the sum of all "
    "floating-point outputs where there are several"
)
"""What the loss ``auto`` is."""


def loss_of(output: Any, loss: Loss, target: Tensor) -> tuple[Tensor, str]:
    """A scalar from the output of a forward pass, and what it is.

    Args:
        output: a tensor, or tensors in tuples, lists, dicts and dataclasses.
        loss: "auto" (see ``AUTO``), "cross_entropy", "mean" or "sum" of all floating-point outputs, or a function
            of the output.
        target: (B,) class indices for the cross-entropy.

    Returns:
        The loss and its name: ``cross_entropy``, ``mean``, ``sum``, ``sum of 3 outputs``, or the function's name.

    Raises:
        UnknownNameError: for a loss that does not exist.
        SettingError: for a loss that does not fit the output, or an output that depends on no parameter.
    """
    if callable(loss):
        return _checked(_called(loss, output), getattr(loss, "__name__", type(loss).__name__))
    if loss not in LOSSES:
        raise UnknownNameError("loss", loss, LOSSES)
    found = [one for one in _tensors(output) if one.is_floating_point()]
    if loss == "cross_entropy" or (loss == "auto" and _are_scores(found, target)):
        if len(found) != 1 or found[0].dim() != 2:
            shapes = ", ".join(str(tuple(one.shape)) for one in found) or "no floating-point tensor"
            raise SettingError(
                f"loss (='cross_entropy') needs class scores (B, classes), not an output of shape {shapes}; "
                "use loss='sum'"
            )
        return F.cross_entropy(found[0], target), "cross_entropy"
    trained = [one for one in found if one.requires_grad]
    if not trained:
        what = "has no floating-point tensor" if not found else "depends on no parameter that requires a gradient"
        raise SettingError(f"loss (={loss!r}): the output {what}, so there is nothing to differentiate")
    kind = loss if loss != "auto" else "mean" if len(trained) == 1 else "sum"
    parts = [one.mean() if kind == "mean" else one.sum() for one in trained]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total, kind if len(parts) == 1 else f"{kind} of {len(parts)} outputs"


def _called(loss: Callable[[Any], Tensor], output: Any) -> Any:
    try:
        return loss(output)
    except UserCodeError as error:
        # a loss that is a module itself would pass for the part of the network in which the error happened
        raise error from None


def _are_scores(found: list[Tensor], target: Tensor) -> bool:
    return len(found) == 1 and found[0].dim() == 2 and found[0].shape[0] == target.shape[0] and found[0].requires_grad


def _checked(value: Any, name: str) -> tuple[Tensor, str]:
    if not isinstance(value, Tensor):
        raise SettingError(f"loss {name} returned {type(value).__name__}, not a tensor")
    if value.numel() != 1 or not value.is_floating_point():
        raise SettingError(f"loss {name} returned {value.dtype} of shape {tuple(value.shape)}, not one real number")
    if not value.requires_grad:
        raise SettingError(f"loss {name} depends on no parameter that requires a gradient")
    return value, name


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from _tensors(item)
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for field in dataclasses.fields(output):
            yield from _tensors(getattr(output, field.name))
