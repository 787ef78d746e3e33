"""The peak of a single layer's forward and backward: by closed form, and measured on live storages.

The setting of both: a layer in the middle of a network. Its input and its output's gradient exist before and do not
count; its output stays, and the gradients of its input and its parameters are kept. Workspaces inside an operator do
not count, unless asked for: then those of the package's own fused operator do, on the CPU. The closed form is the
layer's ``Timeline``, evaluated; it runs nothing and reads no tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.layers.base import Dimensions, EquivariantLayer
from e4profile.layers.e4 import E4Conv2d
from e4profile.layers.stock import STOCK, as_costed, stock_no_peak
from e4profile.layers.storages import COMPUTE, Step, unit_bytes
from e4profile.layers.terms import evaluate, value
from e4profile.ops import generated
from e4profile.subjects.borrowed import borrowed
from e4profile.symbols import B
from e4profile.witnesses.memory.fused_workspace import FusedSizes, backward_at_most, forward_at_most
from e4profile.witnesses.memory.peak import GRANULARITY_BYTES, LiveStorages

END = "end"
"""The last moment of a pass, when what its last step frees is gone."""


@dataclass(frozen=True)
class LayerPeak:
    """Live bytes of one layer's training step.

    Attributes:
        forward_peak_bytes: the most in forward.
        after_forward_bytes: between forward and backward: what is saved for backward, and the output.
        backward_peak_bytes: the most in backward.
        after_backward_bytes: the output and the gradients.
    """

    forward_peak_bytes: int
    after_forward_bytes: int
    backward_peak_bytes: int
    after_backward_bytes: int

    @property
    def peak_bytes(self) -> int:
        """The most at any time."""
        return max(self.forward_peak_bytes, self.backward_peak_bytes)


@dataclass(frozen=True)
class Moment:
    """What is live while a step runs.

    Attributes:
        phase: "forward" or "backward".
        step: the name of the step, or ``END``.
        bytes_by_term: of every live storage by its name, rounded up.
    """

    phase: str
    step: str
    bytes_by_term: Mapping[str, int]

    @property
    def live_bytes(self) -> int:
        """All of it."""
        return sum(self.bytes_by_term.values())


_Inside: TypeAlias = Callable[[FusedSizes, torch.dtype, int], dict[str, int]]
_WORKSPACES: Mapping[tuple[str, str], _Inside] = {
    ("forward", "generate and aggregate"): forward_at_most,
    ("backward", "generate and aggregate, backward"): backward_at_most,
}


class _InsideOperators(LiveStorages):
    """Follows what the CPU kernels of the fused operator make, too."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.e4profile.generate_aggregate.default:
            hidden, weight, bias, values, kernel, stride, _ = args
            with self:
                return generated.forward(hidden, weight, bias, values, kernel, stride)
        if func is torch.ops.e4profile.generate_aggregate_backward.default:
            grad, hidden, weight, bias, values, kernel, stride, _, needs = args
            with self:
                return generated.backward(grad, (hidden, weight, bias, values), kernel, stride, needs)
        return super().__torch_dispatch__(func, types, args, kwargs)


def no_peak_reason(layer: nn.Module, input_shape: Sequence[int]) -> str | None:
    """Why no closed form of the peak holds for a layer on inputs (B, channels, h, w), or None where one does."""
    if not isinstance(layer, EquivariantLayer):
        return stock_no_peak(layer)
    # a subclass may make other storages, so it has to state its own timeline
    said = layer.no_peak_on(tuple(input_shape))
    if said is None and "peak" not in vars(type(layer)):
        return f"{type(layer).__name__} states no timeline of its storages"
    return said


def moments(
    layer: nn.Module,
    input_shape: Sequence[int],
    *,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
    granularity_bytes: int = GRANULARITY_BYTES,
    workspace: bool = False,
) -> tuple[Moment, ...]:
    """What is live at every step of a layer's forward and backward, by name.

    Args:
        layer: with a timeline.
        input_shape: of one image, (channels, h, w).
        batch_size: B.
        dtype: of parameters and images.
        granularity_bytes: each storage is rounded up to a multiple of this.
        workspace: whether to count what the fused operator holds inside itself on the CPU.

    Raises:
        SettingError: where no closed form holds, with the reason, or for a shape that does not fit.
    """
    positive(batch_size=batch_size, granularity_bytes=granularity_bytes)
    shape = (batch_size, *(int(size) for size in input_shape))
    reason = no_peak_reason(layer, shape)
    if reason is not None:
        raise SettingError(f"no closed form of the peak: {reason}")
    timeline = layer.timeline(shape, dtype) if isinstance(layer, EquivariantLayer) else STOCK[type(layer)].peak
    form = as_costed(layer)
    assert timeline is not None
    assert form is not None
    values = {**form.dimensions(shape), B: batch_size}
    live: dict[str, int] = {}
    found = []
    for phase, steps in (("forward", timeline.forward), ("backward", timeline.backward)):
        for step in steps:
            if not _exists(step, values, dtype):
                continue
            for name, elements in evaluate(step.makes, values).items():
                size_bytes = elements * unit_bytes(timeline.units.get(name, COMPUTE), dtype)
                if size_bytes:
                    live[name] = live.get(name, 0) + -(-size_bytes // granularity_bytes) * granularity_bytes
            at_most = dict(live)
            inside = _WORKSPACES.get((phase, step.name))
            if workspace and inside is not None and isinstance(layer, E4Conv2d):
                # the operator's own storages, its results among them
                at_most = {name: size for name, size in live.items() if name not in step.makes}
                at_most |= inside(FusedSizes.of(layer, shape), dtype, granularity_bytes)
            found.append(Moment(phase, step.name, at_most))
            for name in step.frees:
                live.pop(name, None)
        found.append(Moment(phase, END, dict(live)))
    return tuple(found)


def _exists(step: Step, values: Dimensions, dtype: torch.dtype) -> bool:
    if step.halves is not None and step.halves != (dtype.itemsize < torch.float32.itemsize):
        return False
    return value(step.when, values) == 1


def predict_layer_peak(
    layer: nn.Module,
    input_shape: Sequence[int],
    *,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
    granularity_bytes: int = GRANULARITY_BYTES,
    workspace: bool = False,
) -> LayerPeak:
    """The closed form of ``measure_layer_peak``: the arguments and errors of ``moments``."""
    known = moments(
        layer, input_shape, batch_size=batch_size, dtype=dtype, granularity_bytes=granularity_bytes, workspace=workspace
    )
    forward = [moment.live_bytes for moment in known if moment.phase == "forward"]
    backward = [moment.live_bytes for moment in known if moment.phase == "backward"]
    return LayerPeak(max(forward), forward[-1], max(backward), backward[-1])


def measure_layer_peak(
    layer: nn.Module,
    input_shape: Sequence[int],
    *,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
    granularity_bytes: int = GRANULARITY_BYTES,
    device: str | torch.device = "cpu",
    workspace: bool = False,
) -> LayerPeak:
    """Live storages during one forward and backward of a layer, in training.

    Args:
        layer: on any device; it is left as it was found.
        input_shape: of one image, (channels, h, w).
        batch_size: B.
        dtype: of parameters and images.
        granularity_bytes: each storage is rounded up to a multiple of this.
        device: "cpu", or "meta" for a run without memory.
        workspace: whether to look inside the fused operator, too; it has such a workspace on the CPU.

    Raises:
        SettingError: for a batch size that is not positive, or a workspace on another device.
    """
    positive(batch_size=batch_size, granularity_bytes=granularity_bytes)
    if workspace and torch.device(device).type != "cpu":
        raise SettingError(f"workspace on device (={device}): the fused operator's blocks are the CPU's")
    with borrowed(layer, input_shape, batch_size=batch_size, device=device, dtype=dtype) as lent:
        (features,) = lent.example.tensors
        features.requires_grad_()
        with torch.no_grad():
            gradient = torch.zeros_like(layer(features))
        follow = _InsideOperators if workspace else LiveStorages
        live = follow([*lent.tensors, gradient], granularity_bytes)
        with live:
            output = layer(features)
        forward_peak_bytes, after_forward_bytes = live.peak_bytes, live.live_bytes
        live.peak_bytes = live.live_bytes
        with live:
            torch.autograd.backward(output, gradient)
        return LayerPeak(forward_peak_bytes, after_forward_bytes, live.peak_bytes, live.live_bytes)
