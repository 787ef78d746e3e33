"""Attentive group convolutions: responses gated by channel and by place. Romero et al. 2020, section 4.

Names: o output field, s output element, i input field, t input element (a lifting layer has no t).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from e4profile.conventions import ATTENTION
from e4profile.errors import SettingError, positive
from e4profile.groups import Group, GroupLike, square_group
from e4profile.layers import operators
from e4profile.layers.base import Dimensions, Sample, Shape, WindowedConv2d
from e4profile.layers.constants import uniform
from e4profile.layers.terms import Term, Terms
from e4profile.symbols import A, B, c_in, c_out, h, h_out, k, k_gate, r, w, w_out


def _params(sources: Term) -> Terms:
    """Parameters, with ``sources`` input elements t."""
    return {
        "kernel": c_in * c_out * sources * k**2,
        "channel gate": 2 * c_in * (c_in / r) * c_out * sources,
        "spatial gate": 2 * k_gate**2 * c_out * sources,
    }


def _macs(sources: Term) -> Terms:
    """Forward MACs of one image."""
    return {
        "convolution": k**2 * c_in * c_out * A * sources * h_out * w_out,
        "channel gate": 4 * c_in * (c_in / r) * c_out * A * sources,
        "spatial gate": 2 * k_gate**2 * c_out * A * sources * h_out * w_out,
    }


def _moved(sources: Term) -> Terms:
    """Elements that each term reads and writes, for a batch of B."""
    gates = B * c_out * A * sources * h_out * w_out
    return {
        "convolution": B * c_in * sources * h * w + c_in * gates,
        # maxima, means and products of the responses, one after another
        "channel gate": 12 * c_in * gates,
        "spatial gate": 3 * gates,
    }


def _saved(sources: Term) -> Terms:
    """Elements kept for backward per image: the responses and the gates are tensors over i, t, o and s."""
    gates = c_out * A * sources
    return {
        "input": c_in * sources * h * w,
        "responses": c_in * gates * h_out * w_out,
        "response maxima": c_in * gates,
        "channel statistics": 2 * c_in * gates,
        "channel gate, hidden": 2 * (c_in / r) * gates,
        "channel gate": c_in * gates,
        "gated responses": c_in * gates * h_out * w_out,
        "gated maxima": gates * h_out * w_out,
        "spatial statistics": 2 * gates * h_out * w_out,
        "spatial gate": gates * h_out * w_out,
    }


def _saved_constant(sources: Term) -> Terms:
    """Elements kept for backward whatever the batch: the weights as every output element has them."""
    return {
        "filters": c_in * c_out * A * sources * k**2,
        "channel gate weights": 2 * c_in * (c_in / r) * c_out * A * sources,
        "spatial gate filters": 2 * k_gate**2 * c_out * A * sources,
    }


class _AttentiveConv2d(WindowedConv2d):
    """What lifting and group layer share; they differ in the input elements t.

    1. Responses, not yet summed over i and t: r[o,s,i,t] = (s W)[o,i,s^-1 t] correlated with x[i,t].
    2. Channel gate g[o,s,i,t]: a two-layer network over i, per output field o, of the spatial mean and the
       spatial maximum of r; its weights are taken at s^-1 t and the two results are added before the sigmoid.
    3. Spatial gate S[o,s,t]: the mean and the maximum of g r over i, correlated with a kernel that turns as W
       does, then the sigmoid.
    4. Output y[o,s] = measure * sum over i and t of (1 - S g) r.
    """

    source = "Romero et al. 2020, Attentive Group Equivariant Convolutional Networks, section 4"
    what = "attentive convolution"
    operation_kind: ClassVar[str] = ATTENTION
    kinds = {"channel gate": ATTENTION}
    runs_as = {"convolution": operators.DEPTHWISE, "channel gate": operators.GATE, "spatial gate": operators.GROUPED}
    calls = {"channel gate": 30}
    entry_terms = frozenset({"convolution"})

    group: Group
    stencil_index: Tensor
    element_index: Tensor
    gate_stencil_index: Tensor

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        group: GroupLike,
        padding: int = 0,
        reduction: int = 1,
        gate_kernel: int = 7,
    ) -> None:
        super().__init__()
        self._set_windows(c_in, c_out, kernel, square_group(group, type(self).__name__), padding=padding)
        self.group.require_exact_on_grid(type(self).__name__)
        positive(reduction=reduction, gate_kernel=gate_kernel)
        if c_in % reduction:
            raise SettingError(f"reduction (={reduction}) must divide c_in (={c_in})")
        if gate_kernel % 2 == 0:
            raise SettingError(f"gate_kernel (={gate_kernel}) must be odd: the gate keeps the map's size")
        self.reduction, self.gate_kernel, self.bias = reduction, gate_kernel, None
        hidden, sources = c_in // reduction, self._sources
        self.weight = uniform((c_out, c_in, sources, kernel, kernel), c_in * sources * kernel**2)
        self.channel_squeeze = uniform((c_out, hidden, c_in, sources), c_in)
        self.channel_excite = uniform((c_out, c_in, hidden, sources), hidden)
        gate_shape = (c_out, 2, sources, gate_kernel, gate_kernel)
        self.spatial_gate = uniform(gate_shape, 2 * sources * gate_kernel**2)
        self.add_table("stencil_index", lambda: self._index(kernel), kernel)
        self.add_table("element_index", lambda: self._index(1))
        self.add_table("gate_stencil_index", lambda: self._index(gate_kernel), gate_kernel)

    @property
    def _sources(self) -> int:
        """Input elements t."""
        return self._channels(self.field_in)

    @property
    def _measure(self) -> float:
        """What one input element weighs in the sum over t."""
        raise TypeError(f"{type(self).__name__} must define _measure")

    def _index(self, kernel: int) -> Tensor:
        """[s, t, tap]: where the weight for output element s and input element t stands."""
        raise TypeError(f"{type(self).__name__} must define _index(kernel), not only for kernel={kernel}")

    def _turned(self, weight: Tensor, index: Tensor) -> Tensor:
        """(.., .., sources * taps) stored weights -> (.., .., A, sources, taps), for every output element."""
        return weight.index_select(2, index.flatten()).view(*weight.shape[:2], *index.shape)

    def _responses(self, features: Tensor) -> Tensor:
        """(B, c_in * sources, h, w) -> (B, i, t, o, s, h_out, w_out)."""
        filters = self._turned(self.weight.flatten(2), self.stencil_index).permute(1, 3, 0, 2, 4)
        planes = self.c_in * self._sources
        filters = filters.reshape(-1, 1, self.kernel, self.kernel)
        responses = F.conv2d(features, filters, padding=self.padding, groups=planes)
        batch, _, rows, columns = responses.shape
        return responses.view(batch, self.c_in, self._sources, self.c_out, self.group.order, rows, columns)

    def _channel_gate(self, responses: Tensor) -> Tensor:
        """(B, i, t, o, s, y, x) -> (B, i, t, o, s, 1, 1)."""
        statistics = torch.stack((responses.mean((-2, -1)), responses.amax((-2, -1))))
        per_gate = statistics.permute(4, 5, 3, 0, 1, 2)
        rows = per_gate.reshape(per_gate.shape[:3].numel(), 2 * responses.shape[0], self.c_in)
        inner = torch.bmm(rows, self._per_gate(self.channel_squeeze)).relu()
        outer = torch.bmm(inner, self._per_gate(self.channel_excite))
        gate = outer.view(per_gate.shape).sum(3).sigmoid()
        return gate.permute(3, 4, 2, 0, 1)[..., None, None]

    def _per_gate(self, weight: Tensor) -> Tensor:
        """(o, out, in, sources) stored weights -> (o * s * t, in, out)."""
        c_out, outputs, inputs, _ = weight.shape
        turned = self._turned(weight.flatten(0, 1), self.element_index)
        by_element = turned.view(c_out, outputs, inputs, self.group.order, self._sources)
        return by_element.permute(0, 3, 4, 2, 1).reshape(-1, inputs, outputs)

    def _spatial_gate(self, gated: Tensor) -> Tensor:
        """(B, i, t, o, s, y, x) -> (B, 1, t, o, s, y, x)."""
        statistics = torch.stack((gated.mean(1), gated.amax(1)), 4)
        filters = self._turned(self.spatial_gate.flatten(2), self.gate_stencil_index).permute(3, 0, 2, 1, 4)
        planes = self._sources * self.c_out * self.group.order
        filters = filters.reshape(planes, 2, self.gate_kernel, self.gate_kernel)
        logits = F.conv2d(statistics.flatten(1, 4), filters, padding=self.gate_kernel // 2, groups=planes)
        return logits.sigmoid().reshape(gated[:, :1].shape)

    def forward(self, features: Tensor) -> Tensor:
        """(B, c_in, h, w) or (B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out)."""
        responses = self._responses(features)
        gated = self._channel_gate(responses) * responses
        kept = responses - self._spatial_gate(gated) * gated
        return self._measure * kept.sum((1, 2)).flatten(1, 2)

    def no_peak_on(self, input_shape: Shape) -> str | None:
        """Why no timeline is stated."""
        del input_shape
        return (
            "its timeline is not stated: it would have about sixty storages, copies that exist only where a size is "
            "one, and gradients of the responses along four paths"
        )

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        return {**super().dimensions(input_shape), r: self.reduction, k_gate: self.gate_kernel}


class AttentiveLiftingConv2d(_AttentiveConv2d):
    """The attentive convolution from images to regular fields.

    The channel gate's weights are shared by all output elements.
    Shapes: (B, c_in, h, w) -> (B, c_out * A, h_out, w_out).

    Raises:
        SettingError: for a group that is not exact on the grid, a reduction that does not divide c_in, an
            even gate kernel, or sizes that are not positive.
    """

    field_in = "trivial"
    params = _params(1)
    macs = _macs(1)
    moved = _moved(1)
    saved = _saved(1)
    saved_constant = _saved_constant(1)

    @property
    def _measure(self) -> float:
        return 1.0

    def _index(self, kernel: int) -> Tensor:
        return torch.tensor(self.group.lifting_index(kernel))[:, None]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 1, "c_out": 2, "kernel": 3, "gate_kernel": 5}, (6, 5))
        yield Sample({"c_in": 4, "c_out": 3, "kernel": 2, "padding": 1, "reduction": 2, "gate_kernel": 3}, (4, 4))


class AttentiveGroupConv2d(_AttentiveConv2d):
    """The attentive convolution between regular fields.

    The sum over input elements carries the angle between neighbouring rotations (2 pi / 4 for C4).
    Shapes: (B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out).

    Raises:
        SettingError: for a group that is not exact on the grid, a reduction that does not divide c_in, an
            even gate kernel, or sizes that are not positive.
    """

    params = _params(A)
    macs = _macs(A)
    moved = _moved(A)
    saved = _saved(A)
    saved_constant = _saved_constant(A)

    @property
    def _measure(self) -> float:
        return 2 * math.pi / self.group.rotations

    def _index(self, kernel: int) -> Tensor:
        return torch.tensor(self.group.filter_bank_index(kernel))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "gate_kernel": 5}, (6, 5))
        yield Sample({"c_in": 4, "c_out": 2, "kernel": 4, "padding": 1, "reduction": 2, "gate_kernel": 3}, (4, 4))
