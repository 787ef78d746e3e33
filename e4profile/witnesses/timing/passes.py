"""What is timed: one pass of a network, on a copy, so that the network itself stays as it was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError, one_of, positive
from e4profile.subjects.as_found import as_found, set_mode
from e4profile.subjects.batches import BatchedInputs, ModelInputs
from e4profile.subjects.borrowed import whole
from e4profile.subjects.copies import copied, in_dtype
from e4profile.subjects.guest import text_of
from e4profile.subjects.inputs import Example
from e4profile.subjects.losses import LOSSES, Loss, loss_of
from e4profile.subjects.refusals import refuse_unrun
from e4profile.witnesses.timing.clock import MeasurementError, Work

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
class PassSetting:
    """How a pass is run.

    Attributes:
        pass_: ``forward``, ``backward`` or ``step``; ``PASS_MEANINGS`` says what is on the clock.
        mode: ``eval`` or ``train``.
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        batch_size: images per pass: the leading size of every tensor; None leaves the inputs as they are.
        compile: apply ``torch.compile`` first; the first call's time is kept apart.
        graphs: replay CUDA graphs.
        threads: intra-operator threads; None keeps what is set.
        loss: what backward starts from (see ``e4profile.subjects.losses.loss_of``).

    Raises:
        UnknownNameError: for an unknown pass, mode, dtype or loss.
        SettingError: for a value that cannot be, or a device that is not there.
    """

    pass_: str = "forward"
    mode: str = "eval"
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int | None = None
    compile: bool = False
    graphs: bool = False
    threads: int | None = 1
    loss: Loss = "auto"

    def __post_init__(self) -> None:
        for what, name, known in (("pass", self.pass_, PASSES), ("mode", self.mode, MODES)):
            one_of(what, name, known)
        if not callable(self.loss) and self.loss not in LOSSES:
            raise UnknownNameError("loss", self.loss, LOSSES)
        object.__setattr__(self, "dtype", dtype_name(self.dtype))
        given = {"batch_size": self.batch_size, "threads": self.threads}
        positive(**{name: value for name, value in given.items() if value is not None})
        if device_named(self.device).type != "cuda" and self.graphs:
            raise SettingError(f"graphs need device 'cuda', not {self.device!r}")


@dataclass(frozen=True)
class Prepared:
    """A pass ready to be timed.

    Attributes:
        work: what the clock takes.
        network: the copy that runs.
        example: the inputs of one call, on the device.
        setting: how it runs.
        threads: the intra-operator threads that it has.
        losses: what backward starts from, by name; known after the first call, empty for a forward pass.
    """

    work: Work
    network: nn.Module
    example: Example
    setting: PassSetting
    threads: int
    losses: dict[str, None]

    @property
    def loss(self) -> str:
        """What backward starts from (see ``e4profile.subjects.losses.loss_of``); empty for a forward pass."""
        return next(iter(self.losses), "")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of the first tensor among the inputs; (1,) where they share no leading size that could be the batch."""
        shapes = [tuple(tensor.shape) for tensor in self.example.tensors if tensor.dim()]
        return shapes[0] if len({shape[0] for shape in shapes}) == 1 else (1,)


def dtype_named(name: str | torch.dtype) -> torch.dtype:
    """A floating-point dtype by name.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if isinstance(name, torch.dtype):
        name = str(name).removeprefix("torch.")
    one_of("dtype", name, DTYPES)
    dtype: torch.dtype = DTYPES[name]
    return dtype


def dtype_name(dtype: str | torch.dtype) -> str:
    """The name of a floating-point dtype; the errors of ``dtype_named``."""
    return str(dtype_named(dtype)).removeprefix("torch.")


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
        raise SettingError(f"device (={str(device)!r}) is not available: this torch finds no CUDA device")
    if found.type == "cuda" and found.index is not None and found.index >= torch.cuda.device_count():
        most = torch.cuda.device_count() - 1
        raise SettingError(f"device (={str(device)!r}) is not available: this torch finds cuda:0 to cuda:{most}")
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


@contextmanager
def prepared(model: nn.Module, input: ModelInputs, setting: PassSetting | None = None) -> Iterator[Prepared]:
    """A pass of a copy of the network, ready to be timed, on the setting's threads; the random state is kept.

    Raises:
        SettingError: for a network without values or without anything to differentiate; for a batch size that the
            inputs cannot have, an output that has not run, or a loss that does not fit it.
        MeasurementError: when torch cannot run the pass: a batch that does not fit, a dtype without a kernel.
    """
    setting = setting or PassSetting()
    where, kind, batch_size = device_named(setting.device), dtype_named(setting.dtype), setting.batch_size
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise SettingError("a network on the meta device has no values to run: build it with build('cpu')")
    if setting.pass_ != "forward" and not any(parameter.requires_grad for parameter in model.parameters()):
        raise SettingError(f"pass (={setting.pass_!r}) needs a parameter that requires a gradient")
    if isinstance(input, Tensor) and batch_size not in (None, input.shape[0]):
        raise SettingError(f"batch_size (={batch_size}) contradicts images of shape {tuple(input.shape)}")
    inputs = BatchedInputs.of(input)
    model = whole(model, inputs, batch_size)
    batch = batch_size or inputs.batch_size or 1
    try:
        with fixed_threads(setting.threads) as threads, as_found(model):
            torch.manual_seed(0)
            network = in_dtype(copied(model), kind, where)
            network.zero_grad(set_to_none=True)
            set_mode(network, setting.mode == "train")
            example = inputs.at(batch_size, kind, where)
            runs: Callable[..., Any] = torch.compile(network) if setting.compile else network
            losses: dict[str, None] = {}
            work = _work(runs, network, example, batch, setting, losses)
            if setting.graphs:
                from e4profile.witnesses.timing.cuda import graphed

                work = graphed(work, where)
            yield Prepared(work, network, example, setting, threads, losses)
    except E4ProfileError:
        raise
    except (RuntimeError, ValueError, MemoryError) as error:
        # what torch cannot run here (a dtype without a kernel, a batch that does not fit) is an answer, not a crash
        what = f"{setting.pass_} at batch size {batch} in {kind} on {where}"
        raise MeasurementError(f"{what} cannot run: {(text_of(error).splitlines() or [''])[0]}") from error


def _work(  # noqa: PLR0917 - one caller
    runs: Callable[..., Any], network: nn.Module, example: Example, batch: int, setting: PassSetting,
    losses: dict[str, None],
) -> Work:  # fmt: skip
    """The pass as a piece of work; writes the name of its loss down as soon as it is known."""
    looked_at: list[bool] = []

    def output_of(inputs: Example) -> Any:
        output = runs(*inputs.positional, **inputs.keywords)
        if not looked_at:
            refuse_unrun(output)
            looked_at.append(True)
        return output

    if setting.pass_ == "forward":

        def forward(inputs: Example) -> Any:
            with torch.set_grad_enabled(setting.mode == "train"):
                return output_of(inputs)

        return Work(forward, example.fresh)

    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    target = torch.zeros(batch, dtype=torch.int64, device=parameters[0].device)

    def loss_at(inputs: Example) -> Tensor:
        with torch.enable_grad():
            value, name = loss_of(output_of(inputs), setting.loss, target)
        losses.setdefault(name)
        return value

    def reset() -> None:
        for parameter in parameters:
            parameter.grad = None

    def backward(value: Tensor) -> Tensor:
        value.backward()
        return value

    def before_backward() -> Tensor:
        reset()
        return loss_at(example.fresh())

    def step(inputs: Example) -> Tensor:
        reset()
        return backward(loss_at(inputs))

    return Work(backward, before_backward) if setting.pass_ == "backward" else Work(step, example.fresh)
