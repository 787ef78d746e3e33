"""The memory of a training step or a forward pass without values: what stays, the peak, the batch that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from e4profile.errors import SettingError, UnknownNameError, positive
from e4profile.subjects.batches import BatchedInputs, ModelInputs
from e4profile.subjects.borrowed import FOR_REAL, dtype_of, whole
from e4profile.subjects.inputs import memory_bytes
from e4profile.subjects.losses import Loss
from e4profile.subjects.stand_ins import Kernels
from e4profile.witnesses.memory.peak import allocator_emulation, forward_emulation
from e4profile.witnesses.memory.saved import saved_for_backward

MOMENTS = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2, "adamw": 2}
"""Elements that an optimiser keeps per parameter: none, a velocity, a mean of squares, two moments (Kingma & Ba 2015;
the decoupled decay of AdamW keeps nothing)."""

_COUNT_STEPS = ("rmsprop", "adam", "adamw")
"""Optimisers of PyTorch with a step counter beside each parameter tensor, a float32."""


@dataclass(frozen=True)
class TrainingState:
    """Bytes that are there whatever the batch.

    Attributes:
        parameter_bytes: the parameters.
        gradient_bytes: one gradient per trainable parameter.
        optimiser_bytes: moments, and step counters (a float32 per parameter tensor).
        optimiser: a name of ``MOMENTS``.
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
        optimiser: a name of ``MOMENTS``, as PyTorch's optimisers keep their state by default.
        dtype: of the parameters.
        tensors: how many trainable parameter tensors there are: some optimisers count steps for each.
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
        MOMENTS[optimiser] * trained_bytes + (optimiser in _COUNT_STEPS) * tensors * torch.float32.itemsize,
        optimiser,
    )


def training_state_of(model: nn.Module, optimiser: str = "sgd", dtype: torch.dtype | None = None) -> TrainingState:
    """The training state of a network, from the shapes of its parameters.

    Args:
        model: on any device.
        optimiser: a name of ``MOMENTS``.
        dtype: of the parameters; the model's own when None.

    Raises:
        UnknownNameError: for an optimiser that does not exist.
    """
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    total = sum(p.numel() for p in parameters)
    return training_state_bytes(
        total, optimiser, dtype or dtype_of(model), tensors=len(trained), frozen=total - sum(p.numel() for p in trained)
    )


@dataclass(frozen=True)
class StepMemory:
    """The memory of one training step, without the optimiser's own temporaries and without workspaces.

    Attributes:
        batch_size: images.
        dtype: of parameters, activations and images.
        state: parameters, gradients and optimiser state.
        buffer_bytes: buffers, for example gather indices and running statistics.
        input_bytes: the images.
        saved_bytes: kept between forward and backward, parameters and input apart.
        saved_constant_bytes: the part of it that does not grow with the batch.
        saved_per_image_bytes: the part that every image adds.
        peak_bytes: the most that forward and backward hold at once beyond what was there before; the gradients
            are part of it.
        loss: what backward starts from.
        notes: which kernels were assumed, or that it ran for real.
    """

    batch_size: int
    dtype: torch.dtype
    state: TrainingState
    buffer_bytes: int
    input_bytes: int
    saved_bytes: int
    saved_constant_bytes: int
    saved_per_image_bytes: int
    peak_bytes: int
    loss: str = ""
    notes: tuple[str, ...] = ()

    @property
    def step_bytes(self) -> int:
        """The most that a training step holds: state without gradients, buffers, input, and the peak."""
        resident = self.state.parameter_bytes + self.state.optimiser_bytes + self.buffer_bytes
        return resident + self.input_bytes + self.peak_bytes


@dataclass(frozen=True)
class ForwardMemory:
    """The memory of a forward pass in evaluation mode without gradients, without workspaces.

    Attributes:
        batch_size: images.
        parameter_bytes: the parameters.
        buffer_bytes: buffers, for example gather indices and running statistics.
        input_bytes: the images.
        kept_bytes: the part of the peak that stays between passes, for example expanded filters.
        peak_bytes: the most that a pass holds at once beyond what was there before.
        notes: which kernels were assumed, or that it ran for real.
    """

    batch_size: int
    parameter_bytes: int
    buffer_bytes: int
    input_bytes: int
    kept_bytes: int
    peak_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def forward_bytes(self) -> int:
        """The most that a forward pass holds: parameters, buffers, input, and the peak."""
        return self.parameter_bytes + self.buffer_bytes + self.input_bytes + self.peak_bytes


class NothingFits(SettingError):
    """A budget below what one image needs.

    Attributes:
        needed_bytes: of the pass with one image.
    """

    def __init__(self, budget_bytes: int, needed_bytes: int) -> None:
        super().__init__(f"budget (={budget_bytes} bytes) is below what one image needs (={needed_bytes} bytes)")
        self.needed_bytes = needed_bytes


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch whose training step, or forward pass, stays within a budget.

    Attributes:
        batch_size: the largest that fits.
        step_bytes: of that batch, at most the budget.
        next_step_bytes: of one image more, above the budget.
        budget_bytes: what there is.
        notes: which kernels were assumed, or that it ran for real.
    """

    batch_size: int
    step_bytes: int
    next_step_bytes: int
    budget_bytes: int
    notes: tuple[str, ...] = ()


def predict(
    builder: Callable[[], nn.Module] | nn.Module,
    input_shape: ModelInputs,
    batch_size: int | None,
    *,
    optimiser: str = "sgd",
    dtype: torch.dtype | None = None,
    loss: Loss = "cross_entropy",
    kernels: Kernels = "cpu",
) -> StepMemory:
    """Predict a training step's memory without allocating any, unless the network cannot run without values.

    Args:
        builder: a network, or a function that builds one (it is called under the meta device).
        input_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        batch_size: B; None leaves the inputs' leading sizes as they are.
        optimiser: "sgd", "momentum" or "adam".
        dtype: of parameters and images; the model's own when None.
        loss: as in ``allocator_emulation``.
        kernels: which are assumed.

    Raises:
        SettingError: for a batch size that is not positive, or a loss that does not fit the output.
        UnknownNameError: for an optimiser or a loss that does not exist.
    """
    if batch_size is not None:
        positive(batch_size=batch_size)
    model = whole(_built(builder), input_shape, batch_size)
    wanted = dtype or dtype_of(model)
    inputs = BatchedInputs.of(input_shape)
    saved = saved_for_backward(model, inputs, batch_size=batch_size, dtype=wanted, kernels=kernels)
    peak = allocator_emulation(model, inputs, batch_size=batch_size, loss=loss, dtype=wanted, kernels=kernels)
    return StepMemory(
        batch_size=saved.batch_size,
        dtype=wanted,
        state=training_state_of(model, optimiser, wanted),
        buffer_bytes=_buffer_bytes(model, wanted),
        input_bytes=_input_bytes(inputs, batch_size, wanted),
        saved_bytes=saved.saved_bytes,
        saved_constant_bytes=saved.constant_bytes,
        saved_per_image_bytes=saved.per_image_bytes,
        peak_bytes=peak.peak_bytes,
        loss=peak.loss,
        notes=tuple(dict.fromkeys((*saved.notes, *peak.notes))),
    )


def predict_step_bytes(
    model: nn.Module,
    input_shape: ModelInputs,
    batch_size: int | None,
    *,
    optimiser: str = "sgd",
    dtype: torch.dtype | None = None,
    loss: Loss = "cross_entropy",
    kernels: Kernels = "cpu",
) -> tuple[int, tuple[str, ...]]:
    """The ``step_bytes`` and the notes of ``predict``, in one pass: what stays for backward is not asked.

    Args:
        model: the network.
        input_shape: as for ``predict``, also the other arguments.
        batch_size: as for ``predict``.
        optimiser: as for ``predict``.
        dtype: as for ``predict``.
        loss: as for ``predict``.
        kernels: as for ``predict``.

    Raises:
        What ``predict`` raises.
    """
    model = whole(model, input_shape, batch_size)
    wanted, inputs = dtype or dtype_of(model), BatchedInputs.of(input_shape)
    state = training_state_of(model, optimiser, wanted)
    peak = allocator_emulation(model, inputs, batch_size=batch_size, loss=loss, dtype=wanted, kernels=kernels)
    resident = state.parameter_bytes + state.optimiser_bytes + _buffer_bytes(model, wanted)
    return resident + _input_bytes(inputs, batch_size, wanted) + peak.peak_bytes, peak.notes


def predict_forward(
    model: nn.Module,
    input_shape: ModelInputs,
    batch_size: int | None,
    *,
    dtype: torch.dtype | None = None,
    kernels: Kernels = "cpu",
) -> ForwardMemory:
    """Predict a forward pass's memory without allocating any, unless the network cannot run without values.

    Args:
        model: the network.
        input_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        batch_size: B; None leaves the inputs' leading sizes as they are.
        dtype: of parameters and images; the model's own when None.
        kernels: which are assumed.

    Raises:
        SettingError: for a batch size that is not positive.
        Whatever the network's forward raises.
    """
    model = whole(model, input_shape, batch_size)
    wanted, inputs = dtype or dtype_of(model), BatchedInputs.of(input_shape)
    peak = forward_emulation(model, inputs, batch_size=batch_size, dtype=wanted, kernels=kernels)
    return ForwardMemory(
        peak.batch_size,
        training_state_of(model, dtype=wanted).parameter_bytes,
        _buffer_bytes(model, wanted),
        _input_bytes(inputs, batch_size, wanted),
        peak.kept_bytes,
        peak.peak_bytes,
        peak.notes,
    )


def largest_batch(
    builder: Callable[[], nn.Module] | nn.Module,
    input_shape: ModelInputs,
    budget_bytes: int,
    *,
    optimiser: str = "sgd",
    dtype: torch.dtype | None = None,
    loss: Loss = "cross_entropy",
    kernels: Kernels = "cpu",
    forward: bool = False,
) -> LargestBatch:
    """The largest batch whose training step needs at most a budget; one image more needs more than that.

    The peak is the maximum over time of sums that are affine in the batch (up to the allocator's rounding), so
    chords point close to the answer; it is then bracketed with the emulation itself.

    Args:
        builder: a network, or a function that builds one (it is called under the meta device).
        input_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        budget_bytes: what there is.
        optimiser: "sgd", "momentum" or "adam".
        dtype: of parameters and images; the model's own when None.
        loss: as in ``allocator_emulation``.
        kernels: which are assumed.
        forward: of a forward pass without gradients instead, which has neither optimiser nor loss.

    Raises:
        NothingFits: when not even one image fits, naming what it needs.
        SettingError: for a network that runs for real, and a batch that this machine's memory cannot hold.
    """
    model = whole(_built(builder), input_shape)
    wanted = dtype or dtype_of(model)
    inputs = BatchedInputs.of(input_shape)
    known: dict[int, int] = {}
    notes: tuple[str, ...] = ()

    def step_bytes(batch_size: int) -> int:
        nonlocal notes
        if batch_size not in known:
            _check_runs(notes, batch_size, known)
            if forward:
                whole_pass = predict_forward(model, inputs, batch_size, dtype=wanted, kernels=kernels)
                known[batch_size], said = whole_pass.forward_bytes, whole_pass.notes
            else:
                known[batch_size], said = predict_step_bytes(
                    model, inputs, batch_size, optimiser=optimiser, dtype=wanted, loss=loss, kernels=kernels
                )
            notes = notes or said
        return known[batch_size]

    # a batch norm over single values refuses one image, so one image is asked about only where two do not fit
    smallest = 2 if step_bytes(2) <= budget_bytes else 1
    if step_bytes(smallest) > budget_bytes:
        raise NothingFits(budget_bytes, step_bytes(1))
    fits = _largest_that_fits(step_bytes, budget_bytes, smallest)
    return LargestBatch(fits, step_bytes(fits), step_bytes(fits + 1), budget_bytes, notes)


def _check_runs(notes: tuple[str, ...], batch_size: int, known: Mapping[int, int]) -> None:
    """Refuse a batch that is to run for real and would need more memory than this machine has."""
    nearest = max(known, default=0)
    needed = known[nearest] * -(-batch_size // nearest) if nearest else 0
    if needed > memory_bytes() and any(note.startswith(FOR_REAL) for note in notes):
        raise SettingError(
            f"batch_size (={batch_size}) may need {needed} bytes, more than this machine's {memory_bytes()}, and the "
            f"network is {notes[0]}: give a smaller budget"
        )


def _largest_that_fits(step_bytes: Callable[[int], int], budget_bytes: int, smallest: int) -> int:
    """The largest argument whose value is at most the budget, for a growing function; the smallest fits."""

    def fits(batch_size: int) -> bool:
        return step_bytes(batch_size) <= budget_bytes

    # three chords of an affine law, whose rounding matters less the longer they are
    first, second = smallest, smallest + 1
    for _ in range(3):
        slope = (step_bytes(second) - step_bytes(first)) / (second - first)
        aim = max(smallest, second + int((budget_bytes - step_bytes(second)) / max(1.0, slope)))
        if aim == second:
            break
        first, second = second, aim
    # outwards from there in doubling strides, then inwards by halves
    lower, upper, stride = second, second + 1, 1
    while fits(upper):
        lower, upper, stride = upper, upper + 2 * stride, 2 * stride
    stride = 1
    while not fits(lower):
        lower, upper, stride = max(smallest, lower - stride), lower, 2 * stride
    while upper - lower > 1:
        middle = (lower + upper) // 2
        lower, upper = (middle, upper) if fits(middle) else (lower, middle)
    return lower


def _built(builder: Callable[[], nn.Module] | nn.Module) -> nn.Module:
    if isinstance(builder, nn.Module):
        return builder
    with torch.device("meta"):
        return builder()


def _input_bytes(inputs: BatchedInputs, batch_size: int | None, dtype: torch.dtype) -> int:
    tensors = inputs.at(batch_size, dtype, "meta").tensors
    return sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors)


def _buffer_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    return sum(b.numel() * (dtype.itemsize if b.is_floating_point() else b.dtype.itemsize) for b in model.buffers())
