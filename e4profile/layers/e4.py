"""The E4 layer: a dynamic depthwise stencil times an encoded field. He et al. 2021, section 4.1, eq. 12."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.conventions import AGGREGATION, BATCH_NORM, GROUP_NORM, TRANSFORM
from e4profile.errors import SettingError, divisors, positive
from e4profile.groups import GroupLike, as_group, square_group
from e4profile.layers import operators
from e4profile.layers.base import Dimensions, EquivariantLayer, Sample, Shape, check_maps, window_reason, window_size
from e4profile.layers.constants import shifted
from e4profile.layers.e4_peak import E4
from e4profile.layers.execution import Execution, irrep_sizes
from e4profile.layers.group_conv import GroupConv2d
from e4profile.layers.norm import FieldBatchNorm2d, FieldGroupNorm
from e4profile.layers.pointwise import PointwiseConv2d
from e4profile.layers.storages import ACCUMULATE, STATISTICS, Timeline, replaced
from e4profile.ops import aggregate, generate_and_aggregate
from e4profile.symbols import (
    A_K,
    A_V,
    A,
    A_rho,
    B,
    affine_pairs,
    c_in,
    c_out,
    encoder_in_irreps,
    h,
    h_out,
    has_encoder_bias,
    has_encoder_norm,
    has_squeeze_bias,
    is_expanded,
    is_large_encoder,
    is_large_squeeze,
    is_reference,
    is_regrouped,
    is_roomy,
    is_sampled,
    is_sliced,
    k,
    n_add,
    r,
    s,
    squeeze_in_irreps,
    w,
    w_out,
)

Concatenate = Literal["both", "kernel", "encoder", "none"]
Implementation = Literal["auto", "reference"]


class Aggregation(nn.Module):
    """Generate a stencil per position and apply it to the encoded fields: product and sum of eq. 12.

    The two class attributes tell a counter of operators what the products in here are.
    """

    operation_kind = AGGREGATION
    counts_products = True

    def __init__(self, kernel: int, stride: int, implementation: Implementation) -> None:
        super().__init__()
        self.kernel, self.stride, self.implementation = kernel, stride, implementation

    def forward(self, stencils: Tensor, values: Tensor) -> Tensor:
        """(B, A, s, k*k, h_out, w_out), (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out)."""
        return aggregate(stencils, values, self.kernel, self.stride, implementation=self.implementation)

    def generate(self, hidden: Tensor, weight: Tensor, bias: Tensor, values: Tensor) -> Tensor:
        """The same from (B, A, c_in / r, h_out, w_out) hidden maps, without ever holding all the stencils."""
        return generate_and_aggregate(
            hidden, weight, bias, values, self.kernel, self.stride, implementation=self.implementation
        )


class E4Conv2d(EquivariantLayer):
    """The E4 layer: generate a k x k stencil per position and group element, aggregate encoded fields with it.

    Shapes: (B, c_in * A, h, w) -> (B, c_out * A, ceil(h / stride), ceil(w / stride)).

    Args:
        c_in: input fields.
        c_out: output fields.
        kernel: odd stencil size k.
        group: a group exact on the square grid.
        reduction: r; the kernel branch has c_in / r hidden fields.
        slices: s; each stencil is shared by c_out / s consecutive fields.
        channels_per_slice: c_out / s, instead of ``slices``.
        stride: the kernel branch and the aggregation run at every stride-th position.
        concatenate: which branches see all group elements (Table 2).
        encoder_norm: a field batch norm on the encoder branch (the networks as printed have it).
        squeeze_affine: ``"channel"`` is the released networks' norm, which loses equivariance in training.
        implementation: ``"reference"`` runs the aggregation as plain unfold, multiply and sum.
        execution: of the branches that see all group elements, see ``GroupConv2d``.

    Raises:
        SettingError: when reduction does not divide c_in, slices do not divide c_out, kernel is even, ...
    """

    source = "He et al. 2021, eq. 12 and section 4.2"
    params = {
        "encoder": c_in * c_out * A_V,
        "encoder bias": has_encoder_bias * c_out,
        "encoder norm": has_encoder_norm * 2 * c_out,
        "squeeze": c_in * (c_in / r) * A_K,
        "squeeze bias": has_squeeze_bias * c_in / r,
        "squeeze norm": 2 * affine_pairs * c_in / r,
        "generator": (c_in / r) * s * k**2,
        "generator bias": s * k**2,
    }
    macs = {
        "encoder": (1 - encoder_in_irreps) * c_in * c_out * A * A_V * h * w,
        "encoder in irreps": encoder_in_irreps * c_in * c_out * A_rho * h * w,
        "squeeze": (1 - squeeze_in_irreps) * c_in * (c_in / r) * A * A_K * h_out * w_out,
        "squeeze in irreps": squeeze_in_irreps * c_in * (c_in / r) * A_rho * h_out * w_out,
        "generator": (c_in / r) * s * k**2 * A * h_out * w_out,
        "aggregation": c_out * A * k**2 * h_out * w_out,
    }
    elements = {
        "encoder norm": has_encoder_norm * c_out * A * h * w,
        "squeeze norm": (c_in / r) * A * h_out * w_out,
        "encoder transforms": encoder_in_irreps * (c_in + c_out) * n_add * h * w,
        "squeeze transforms": squeeze_in_irreps * (c_in + c_in / r) * n_add * h_out * w_out,
        "transform of weights": c_in * n_add * (encoder_in_irreps * c_out + squeeze_in_irreps * c_in / r),
    }
    per_forward = frozenset({"transform of weights"})
    entry_terms = frozenset({"encoder", "encoder in irreps", "squeeze", "squeeze in irreps"})
    in_irreps_where = (encoder_in_irreps, squeeze_in_irreps)
    kinds = {
        "aggregation": AGGREGATION,
        "encoder norm": BATCH_NORM,
        "squeeze norm": GROUP_NORM,
        **dict.fromkeys(("encoder transforms", "squeeze transforms", "transform of weights"), TRANSFORM),
    }
    saved = {
        "input": c_in * A * h * w,
        "encoded": has_encoder_norm * c_out * A * h * w,
        "values": (1 - is_reference) * c_out * A * h * w,
        "sampled": is_sampled * c_in * A * h_out * w_out,
        "squeezed": (c_in / r) * A * h_out * w_out,
        "squeeze statistics": 2 * c_in / r,
        "hidden": (c_in / r) * A * h_out * w_out,
        "hidden by element": is_reference * is_regrouped * (c_in / r) * A * h_out * w_out,
        "reference stencils": is_reference * A * s * k**2 * h_out * w_out,
        "reference columns": is_reference * c_out * A * k**2 * h_out * w_out,
        # unfold starts from a storage as large as its input
        "reference columns, unused": is_reference * is_roomy * c_out * A * (h * w - k**2 * h_out * w_out),
    }
    saved_constant = {
        "encoder filters": (1 - has_encoder_bias) * (1 - encoder_in_irreps) * c_in * c_out * A**2,
        "encoder norm statistics": has_encoder_norm * 2 * c_out,
        "squeeze filters": (1 - has_squeeze_bias) * (1 - squeeze_in_irreps) * c_in * (c_in / r) * A**2,
        "squeeze affine": is_expanded * (c_in / r) * A,
        "generator filters": A * s * k**2 * c_in / r,
        "generator bias rows": (1 - is_reference) * A * s * k**2,
    }
    saved_as = {
        "encoder norm statistics": STATISTICS,
        "reference stencils": ACCUMULATE,
        "reference columns": ACCUMULATE,
        "reference columns, unused": ACCUMULATE,
    }
    peak = E4
    runs_as = {
        **dict.fromkeys(("encoder", "squeeze"), operators.POINTWISE),
        **dict.fromkeys(("encoder in irreps", "squeeze in irreps"), operators.IRREP),
        "generator": operators.GENERATOR,
    }
    moved = {
        **dict.fromkeys(("encoder", "encoder in irreps"), B * (c_in + c_out) * A * h * w + c_in * c_out * A * A_V),
        **dict.fromkeys(
            ("squeeze", "squeeze in irreps"), B * (c_in + c_in / r) * A * h_out * w_out + c_in * (c_in / r) * A * A_K
        ),
        "generator": A * (B * (c_in / r + s * k**2) * h_out * w_out + s * k**2 * c_in / r),
        "aggregation": B * A * (c_out * h * w + (c_out + s * k**2) * h_out * w_out),
    }
    printed = {
        "params": ("encoder", "squeeze", "generator"),
        "macs": ("encoder", "squeeze", "generator", "aggregation"),
    }

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        group: GroupLike,
        reduction: int = 1,
        slices: int | None = None,
        channels_per_slice: int | None = None,
        stride: int = 1,
        concatenate: Concatenate = "both",
        encoder_norm: bool = False,
        squeeze_affine: Literal["field", "channel"] = "field",
        implementation: Implementation = "auto",
        execution: Execution = "bank",
    ) -> None:
        super().__init__()
        positive(c_in=c_in, c_out=c_out, kernel=kernel, reduction=reduction, stride=stride)
        if kernel % 2 == 0:
            raise SettingError(f"kernel (={kernel}) must be odd: the stencil is centred on a pixel")
        if c_in % reduction:
            raise SettingError(f"reduction (={reduction}) must divide c_in (={c_in}): {divisors(c_in)}")
        if concatenate not in ("both", "kernel", "encoder", "none"):
            raise SettingError(f"concatenate (={concatenate!r}) must be 'both', 'kernel', 'encoder' or 'none'")
        self.group = as_group(group)
        self.group.require_exact_on_grid(type(self).__name__)
        if not self.group.keeps_windows(kernel):
            square_group(self.group, f"{type(self).__name__}, whose stencils use every tap,")
        self.c_in, self.c_out, self.kernel, self.stride = c_in, c_out, kernel, stride
        self.reduction, self.slices = reduction, _slices(c_out, slices, channels_per_slice)
        self.concatenate, self.squeeze_affine = concatenate, squeeze_affine
        hidden = c_in // reduction
        self.encoder = self._branch(c_in, c_out, 1, concatenate in ("both", "encoder"), execution)
        self.encoder_norm = FieldBatchNorm2d(c_out, group=self.group) if encoder_norm else None
        self.squeeze = self._branch(c_in, hidden, stride, concatenate in ("both", "kernel"), execution)
        self.squeeze_norm = FieldGroupNorm(hidden, group=self.group, affine=squeeze_affine)
        taps = kernel * kernel
        self.generator_weight = nn.Parameter(torch.empty(self.slices * taps, hidden))
        nn.init.kaiming_uniform_(self.generator_weight, a=5**0.5)
        self.generator_bias = nn.Parameter(torch.zeros(self.slices * taps))
        self.add_table("generator_rows", lambda: shifted(self.group.lifting_index(kernel), self.slices, taps), kernel)
        self.aggregation = Aggregation(kernel, stride, implementation)

    generator_rows: Tensor

    def _branch(
        self, c_in: int, c_out: int, stride: int, concatenate: bool, execution: Execution
    ) -> GroupConv2d | PointwiseConv2d:
        if concatenate:
            return GroupConv2d(c_in, c_out, 1, group=self.group, stride=stride, execution=execution)
        return PointwiseConv2d(c_in, c_out, group=self.group, stride=stride)

    def _hidden(self, features: Tensor) -> Tensor:
        """(B, c_in * A, h, w) -> the kernel branch's hidden maps (B, A, c_in / r, h_out, w_out), a view."""
        hidden = F.relu(self.squeeze_norm(self.squeeze(features)))
        grouped: Tensor = hidden.unflatten(1, (self.c_in // self.reduction, self.group.order)).transpose(1, 2)
        return grouped

    def _generator(self) -> tuple[Tensor, Tensor]:
        """The generator's weight (A * s * k * k, c_in / r) and bias, rows permuted for each group element.

        Acting on a stencil permutes the generator's rows, so the weights are permuted once and the full-size
        stencils never are.
        """
        rows = self.generator_rows
        return self.generator_weight.index_select(0, rows), self.generator_bias.index_select(0, rows)

    def stencils(self, features: Tensor) -> Tensor:
        """(B, c_in * A, h, w) -> the stencils (B, A, s, k * k, h_out, w_out), each acted on by its element."""
        hidden = self._hidden(features)
        weight, bias = self._generator()
        generated = F.conv2d(hidden.flatten(1, 2), weight[:, :, None, None], bias, groups=self.group.order)
        order, rows, columns = self.group.order, *hidden.shape[3:]
        return generated.reshape(-1, order, self.slices, self.kernel**2, rows, columns)

    @property
    def _apart(self) -> bool:
        """Whether the generator runs on its own, as a grouped convolution.

        So it does for the reference, and while tracing: a tracing counter then sees the convolution that the
        released code has, rather than an operator of ours.
        """
        return self.aggregation.implementation == "reference" or torch._C._get_tracing_state() is not None

    def forward(self, features: Tensor) -> Tensor:
        """(B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out)."""
        values = self.encoder(features)
        if self.encoder_norm is not None:
            values = self.encoder_norm(values)
        values = values.unflatten(1, (self.slices, self.c_out // self.slices, self.group.order))
        if self._apart:
            aggregated: Tensor = self.aggregation(self.stencils(features), values)
        else:
            weight, bias = self._generator()
            rows = self.slices * self.kernel**2
            aggregated = self.aggregation.generate(
                self._hidden(features), weight.unflatten(0, (-1, rows)), bias.unflatten(0, (-1, rows)), values
            )
        return aggregated.flatten(1, 3)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        order = self.group.order
        rows, columns = check_maps(self, input_shape, self.c_in * order)
        encoder, kernel = self.concatenate in ("both", "encoder"), self.concatenate in ("both", "kernel")
        reference = self.aggregation.implementation == "reference"
        return {
            A: order, c_in: self.c_in, c_out: self.c_out, k: self.kernel, r: self.reduction, s: self.slices,
            h: rows, w: columns, h_out: self._strided(rows), w_out: self._strided(columns),
            A_V: order if encoder else 1, A_K: order if kernel else 1,
            has_encoder_bias: int(not encoder), has_squeeze_bias: int(not kernel),
            has_encoder_norm: int(self.encoder_norm is not None),
            affine_pairs: order if self.squeeze_affine == "channel" else 1,
            is_sampled: int(isinstance(self.squeeze, PointwiseConv2d) and self.squeeze.copies_samples(input_shape)),
            is_expanded: int(self.squeeze_affine == "field" and order > 1),
            is_regrouped: +(self.c_in > self.reduction) if order > 1 else 0,
            is_sliced: int(not kernel and self.stride > 1),
            is_large_encoder: +_is_large(self.encoder), is_large_squeeze: +_is_large(self.squeeze),
            encoder_in_irreps: _in_irreps(self.encoder, input_shape),
            squeeze_in_irreps: _in_irreps(self.squeeze, input_shape),
            **irrep_sizes(self.group),
            is_reference: int(reference),
            is_roomy: +(self.kernel**2 * self._strided(rows) * self._strided(columns) < rows * columns),
        }  # fmt: skip

    def _strided(self, size: int) -> int:
        return window_size(size, self.kernel, self.stride, (self.kernel - 1) // 2, "E4 layer")

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out)."""
        rows, columns = check_maps(self, input_shape, self.c_in * self.group.order)
        return (input_shape[0], self.c_out * self.group.order, self._strided(rows), self._strided(columns))

    def timeline(self, input_shape: Shape, dtype: torch.dtype) -> Timeline | None:
        """The storages with these executions of the branches on inputs of this shape and dtype on the CPU."""
        whole = self.peak
        if whole is None:
            return None
        values = "values" if self.encoder_norm is None else "encoded"
        of_values = ("gradient of values", "gradient of encoded", "wide gradient of values")
        branches = (
            ("encoder", "encode", self.encoder, values, of_values),
            ("squeeze", "squeeze", self.squeeze, "squeezed", ("gradient of squeezed",)),
        )
        forward, backward, units = whole.forward, whole.backward, dict(whole.units)
        for name, step, branch, output, gradient in branches:
            if not isinstance(branch, GroupConv2d) or not branch.in_irreps(input_shape):
                continue
            storages = branch.irrep_storages(input_shape, dtype, f" of {name}")
            made = f"gradient of input by {name}", f"gradient of {name} weight"
            forward = replaced(forward, (f"expand {name} filters", step), storages.forward(output))
            by_bank = (f"{step}, backward", f"fold {name} weight", f"zeros for {name} weight", f"add up {name} weight")
            backward = replaced(backward, by_bank, storages.backward(*made, gradient))
            units |= storages.units
        return Timeline(forward, backward, units)

    def no_peak_on(self, input_shape: Shape) -> str | None:
        """Why the peak is not the timeline's on this input, or None."""
        reasons = ((name, part.no_peak_on(input_shape)) for name, part in self._branches)
        return next((f"{name}: {reason}" for name, reason in reasons if reason is not None), None)

    @property
    def _branches(self) -> tuple[tuple[str, GroupConv2d | PointwiseConv2d], ...]:
        return ("encoder", self.encoder), ("squeeze", self.squeeze)

    def inexact_on(self, input_shape: Shape) -> str | None:
        """Why this layer is not exactly equivariant on this input, or None."""
        return self.squeeze_norm.inexact_on(input_shape) or window_reason(
            self.group, input_shape[-2:], self.kernel, self.stride, (self.kernel - 1) // 2, what="stencils"
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 2, "c_out": 4, "kernel": 3, "slices": 2}, (5, 6))
        yield Sample({"c_in": 4, "c_out": 6, "kernel": 5, "reduction": 2, "channels_per_slice": 2}, (4, 4))
        yield Sample({"c_in": 2, "c_out": 2, "kernel": 3, "stride": 2, "encoder_norm": True}, (7, 5))
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "concatenate": "kernel"}, (4, 5))
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 1, "concatenate": "encoder"}, (3, 5))
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 7, "concatenate": "none"}, (5, 4))
        yield Sample({"c_in": 2, "c_out": 2, "kernel": 3, "implementation": "reference"}, (4, 5))
        yield Sample({"c_in": 2, "c_out": 2, "kernel": 3, "squeeze_affine": "channel"}, (4, 4))
        yield Sample({"c_in": 2, "c_out": 4, "kernel": 3, "stride": 2, "execution": "irreps"}, (7, 5))
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "concatenate": "kernel", "execution": "irreps"}, (4, 5))


def _is_large(branch: GroupConv2d | PointwiseConv2d) -> bool:
    return isinstance(branch, GroupConv2d) and branch.bank.is_large


def _in_irreps(branch: GroupConv2d | PointwiseConv2d, input_shape: Shape) -> int:
    return int(isinstance(branch, GroupConv2d) and branch.in_irreps(input_shape))


def _slices(c_out: int, slices: int | None, channels_per_slice: int | None) -> int:
    """Slices from either way of saying it.

    Raises:
        SettingError: when both disagree or neither divides c_out.
    """
    if channels_per_slice is not None:
        positive(channels_per_slice=channels_per_slice)
        if c_out % channels_per_slice:
            raise SettingError(
                f"channels_per_slice (={channels_per_slice}) must divide c_out (={c_out}): {divisors(c_out)}"
            )
        if slices is not None and slices * channels_per_slice != c_out:
            raise SettingError(
                f"slices (={slices}) * channels_per_slice (={channels_per_slice}) must equal c_out (={c_out})"
            )
        return c_out // channels_per_slice
    slices = 1 if slices is None else slices
    positive(slices=slices)
    if c_out % slices:
        raise SettingError(f"slices (={slices}) must divide c_out (={c_out}): {divisors(c_out)}")
    return slices
