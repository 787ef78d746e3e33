"""What is timed: one pass of a network, on a copy, so that the network itself stays as it was found."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.counters.dispatch import refuse_unrun
from e4profile.counters.state import random_state_kept
from e4profile.errors import E4ProfileError, SettingError, UnknownNameError, positive
from e4profile.timing.clock import MeasurementError, Work

Pass = Literal["forward", "backward", "step"]
PASSES: tuple[str, ...] = get_args(Pass)
Mode = Literal["eval", "train"]
MODES: tuple[str, ...] = get_args(Mode)

PASS_MEANINGS = {
    "forward": "forward alone; in evaluation mode without gradients, in training mode with the graph for backward",
    "backward": "backward of the loss alone; forward and the gradients' reset are not on the clock",
    "step": "gradients reset to None, forward, loss and backward; no optimiser update, no data loading",
}

DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}


@dataclass(frozen=True)
class Prepared:
    """A pass ready to be timed.

    Attributes:
        work: what the clock takes.
        network: the copy that runs.
        images: (B, channels, h, w) on the device.
        loss: ``cross_entropy`` or ``mean``; empty for a forward pass.
    """

    work: Work
    network: nn.Module
    images: Tensor
    loss: str


def dtype_named(name: str | torch.dtype) -> torch.dtype:
    """A floating-point dtype by name.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if isinstance(name, torch.dtype):
        name = str(name).removeprefix("torch.")
    if name not in DTYPES:
        raise UnknownNameError("dtype", name, DTYPES)
    dtype: torch.dtype = DTYPES[name]
    return dtype


def device_named(device: str | torch.device) -> torch.device:
    """A device that a clock exists for.

    Raises:
        SettingError: for another device, or CUDA where there is none.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise SettingError(f"device (={str(device)!r}) must be 'cpu' or 'cuda'") from None
    if found.type not in ("cpu", "cuda"):
        raise SettingError(f"device (={str(device)!r}) has no clock here; use 'cpu' or 'cuda'")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise SettingError("device (='cuda') is not available: this torch finds no CUDA device")
    return found


@contextmanager
def fixed_threads(threads: int | None) -> Iterator[int]:
    """Run with a number of intra-operator threads and give the old number back; None keeps what is set.

    Raises:
        SettingError: for a number that is not positive, or more than this machine has processors.
    """
    before = torch.get_num_threads()
    if threads is not None:
        positive(threads=threads)
        # what is set already may exceed the processors, and may stay
        most = max(os.cpu_count() or 1, before)
        if threads > most:
            raise SettingError(f"threads (={threads}) must be at most {most}: this machine has no more processors")
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def images_for(
    input: Tensor | Sequence[int], batch_size: int | None, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The images to run on: the given ones moved, or random ones (seed 0) for a shape of one image.

    Raises:
        SettingError: when a batch size contradicts the given images.
    """
    if isinstance(input, Tensor):
        if batch_size is not None and batch_size != input.shape[0]:
            raise SettingError(f"batch_size (={batch_size}) contradicts images of shape {tuple(input.shape)}")
        return input.detach().to(device, dtype)
    batch = 1 if batch_size is None else batch_size
    positive(batch_size=batch)
    generator = torch.Generator().manual_seed(0)
    return torch.randn((batch, *input), generator=generator).to(device, dtype)


@contextmanager
def prepared(
    model: nn.Module,
    input: Tensor | Sequence[int],
    *,
    pass_: str = "forward",
    mode: str = "eval",
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    batch_size: int | None = None,
    compile: bool = False,
) -> Iterator[Prepared]:
    """A pass of a copy of the network, ready to be timed; the random state is kept.

    Raises:
        UnknownNameError: for an unknown pass, mode or dtype.
        SettingError: for a network without values, without anything to differentiate, or a missing device.
        MeasurementError: when torch cannot run the pass: a batch that does not fit, a dtype without a kernel.
    """
    if pass_ not in PASSES:
        raise UnknownNameError("pass", pass_, PASSES)
    if mode not in MODES:
        raise UnknownNameError("mode", mode, MODES)
    where, kind = device_named(device), dtype_named(dtype)
    tensors = (*model.parameters(), *model.buffers())
    if any(tensor.is_meta for tensor in tensors):
        raise SettingError("a network on the meta device has no values to run: build it with build('cpu')")
    if pass_ != "forward" and not any(parameter.requires_grad for parameter in model.parameters()):
        raise SettingError(f"pass (={pass_!r}) needs a parameter that requires a gradient")
    try:
        with random_state_kept():
            torch.manual_seed(0)
            network = copy.deepcopy(model).to(where, kind)
            network.zero_grad(set_to_none=True)
            network.train(mode == "train")
            images = images_for(input, batch_size, where, kind)
            runs: Callable[[Tensor], Tensor] = torch.compile(network) if compile else network
            yield _ready(runs, network, images, pass_, mode)
    except E4ProfileError:
        raise
    except RuntimeError as error:
        # what torch cannot run here (a dtype without a kernel, a batch that does not fit) is an answer, not a crash
        what = f"{pass_} at batch size {_batch(input, batch_size)} in {kind} on {where}"
        raise MeasurementError(f"{what} cannot run: {(str(error).splitlines() or [''])[0]}") from error


def _batch(input: Tensor | Sequence[int], batch_size: int | None) -> int:
    return input.shape[0] if isinstance(input, Tensor) else batch_size or 1


def _ready(
    runs: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor, pass_: str, mode: str
) -> Prepared:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def reset() -> None:
        for parameter in parameters:
            parameter.grad = None

    if pass_ == "forward":

        looked_at = False

        def forward(_: Any) -> Tensor:
            nonlocal looked_at
            with torch.set_grad_enabled(mode == "train"):
                output = runs(images)
            if not looked_at:
                refuse_unrun(output)
                looked_at = True
            return output

        return Prepared(Work(forward), network, images, "")

    was_training = [(module, module.training) for module in network.modules()]
    with random_state_kept(), torch.no_grad():
        network.eval()
        output_shape = tuple(network(images[:1]).shape)
        for module, training in was_training:
            module.training = training
    loss_name = "cross_entropy" if len(output_shape) == 2 else "mean"
    target = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    def loss() -> Tensor:
        with torch.enable_grad():
            output = runs(images)
            return F.cross_entropy(output, target) if loss_name == "cross_entropy" else output.mean()

    def prepare_backward() -> Tensor:
        reset()
        return loss()

    def backward(value: Tensor) -> Tensor:
        value.backward()
        return value

    def step(_: Any) -> Tensor:
        reset()
        return backward(loss())

    work = Work(backward, prepare_backward) if pass_ == "backward" else Work(step)
    return Prepared(work, network, images, loss_name)
