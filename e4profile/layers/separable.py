"""Separable convolutions over a group: a map over fields and group elements, then a stencil per field.

Lengyel & van Gemert 2021, section 3.2. A group convolution's filter W[o, i, b] (k x k for output field o,
input field i and relative group element b) is restricted to a product of two factors:

* ``g``: W[o, i, b] = p[o, i, b] S[o, i], separable over the group;
* ``gc``: W[o, i, b] = p[o, i, b] S[o], separable over the group and the input fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.conventions import DENSE_AS_FACTORS, EXPANSION, POINTWISE_AT_OUTPUT
from e4profile.errors import SettingError, not_negative, one_of, positive
from e4profile.groups import Group, GroupLike, square_group
from e4profile.layers import operators
from e4profile.layers.base import Dimensions, Sample, Shape, WindowedConv2d
from e4profile.layers.constants import uniform
from e4profile.layers.drawn import is_drawing
from e4profile.layers.execution import EXECUTIONS, TRANSFORMS, SwitchedLayer, irrep_sizes, plain_sizes
from e4profile.layers.execution import Execution as GroupExecution
from e4profile.layers.irrep_peak import IrrepStorages
from e4profile.layers.storages import (
    BIAS_ROWS,
    Step,
    Timeline,
    bias_gradient,
    bias_sum,
    expanded_bias,
    gathered,
    replaced,
    several,
)
from e4profile.layers.summary_tool import CountedAgain
from e4profile.layers.terms import Terms
from e4profile.ops import irrep_operators, irreps
from e4profile.ops.irrep_basis import Window
from e4profile.symbols import (
    A,
    A_rho,
    B,
    c_in,
    c_out,
    c_spatial,
    h,
    h_out,
    has_bias,
    in_irreps,
    is_dense,
    k,
    n_add,
    w,
    w_out,
)

Kind = Literal["g", "gc"]
Execution = Literal["factored", "naive"]


_FACTORED = 1 - is_dense
# a separate stencil per input field: with one input field both kinds are one
_BY_INPUT = several(c_spatial)

# where a permutation moves more than one element past more than one, PyTorch copies
_POINTWISE_COPY = _FACTORED * (_BY_INPUT * several(c_out) + (1 - _BY_INPUT) * several(c_in) * several(A))
_POINTWISE_COPY_BACK = _FACTORED * (1 - _BY_INPUT) * several(c_in) * several(A)
_SPATIAL_COPY = _FACTORED * _BY_INPUT * several(A) * several(c_out)
_SPATIAL_COPY_BACK = _FACTORED * _BY_INPUT * several(A)
_MAPPED_COPY = _FACTORED * _BY_INPUT * several(c_out * A)
_DENSE_COPY = is_dense * several(c_in) * several(A)
# the stencil's gradient is a sum over what the products have and the stencil has not
_OVER_ELEMENTS = is_dense * (1 - (1 - several(A)) * (1 - (1 - _BY_INPUT) * several(c_in)))

_POINTWISE = c_in * c_out * A**2
_SPATIAL = c_spatial * c_out * A * k**2
_MAPPED = B * c_spatial * c_out * A * h * w
_DENSE = c_in * c_out * A**2 * k**2
_PRODUCTS = c_in * c_out * A * k**2

SEPARABLE = Timeline(
    forward=(
        expanded_bias(has_bias, c_out, A),
        Step("act on pointwise weight", {"pointwise rows": _POINTWISE}, when=_FACTORED),
        Step("permute pointwise rows", {"pointwise filters": _POINTWISE}, ("pointwise rows",), when=_POINTWISE_COPY),
        Step("map", {"mapped": _MAPPED}, when=_FACTORED),
        Step("permute mapped", {"mapped, permuted": _MAPPED}, when=_MAPPED_COPY),
        Step("act on stencils", {"spatial rows": _SPATIAL}, when=_FACTORED),
        Step("permute spatial rows", {"spatial filters": _SPATIAL}, ("spatial rows",), when=_SPATIAL_COPY),
        Step("multiply factors", {"products": _PRODUCTS}, when=is_dense),
        Step("act on products", {"dense rows": _DENSE}, when=is_dense),
        Step("permute dense rows", {"dense filters": _DENSE}, ("dense rows",), when=_DENSE_COPY),
        Step("filters are made", frees=("products",), when=is_dense),
        Step("convolve", {"output": B * c_out * A * h_out * w_out}),
        Step("return", frees=("mapped",), when=_MAPPED_COPY),
        Step("return", frees=(BIAS_ROWS,)),
    ),
    backward=(
        Step(
            "convolve, backward: factored",
            {
                "gradient of mapped, permuted": _MAPPED,
                "gradient of spatial filters": _SPATIAL,
                **bias_gradient(has_bias, c_out, A),
            },
            ("mapped, permuted", "mapped", "spatial filters", "spatial rows"),
            when=_FACTORED,
        ),
        Step(
            "permute spatial rows, backward",
            {"gradient of spatial rows": _SPATIAL},
            ("gradient of spatial filters",),
            when=_SPATIAL_COPY_BACK,
        ),
        *gathered(
            "spatial weight",
            c_spatial * c_out * k**2,
            ("gradient of spatial rows", "gradient of spatial filters"),
            _FACTORED,
        ),
        Step(
            "permute mapped, backward",
            {"gradient of mapped": _MAPPED},
            ("gradient of mapped, permuted",),
            when=_MAPPED_COPY,
        ),
        Step(
            "map, backward",
            {"gradient of input": B * c_in * A * h * w, "gradient of pointwise filters": _POINTWISE},
            ("gradient of mapped", "gradient of mapped, permuted", "pointwise filters", "pointwise rows"),
            when=_FACTORED,
        ),
        Step(
            "permute pointwise rows, backward",
            {"gradient of pointwise rows": _POINTWISE},
            ("gradient of pointwise filters",),
            when=_POINTWISE_COPY_BACK,
        ),
        *gathered(
            "pointwise weight",
            c_in * c_out * A,
            ("gradient of pointwise rows", "gradient of pointwise filters"),
            _FACTORED,
        ),
        Step(
            "convolve, backward: dense",
            {
                "gradient of input": B * c_in * A * h * w,
                "gradient of dense filters": _DENSE,
                **bias_gradient(has_bias, c_out, A),
            },
            ("dense filters", "dense rows"),
            when=is_dense,
        ),
        Step(
            "permute dense rows, backward",
            {"gradient of dense rows": _DENSE},
            ("gradient of dense filters",),
            when=_DENSE_COPY,
        ),
        *gathered("products", _PRODUCTS, ("gradient of dense rows", "gradient of dense filters"), is_dense),
        Step("multiply factors, backward: spatial", {"gradient of stencils": _PRODUCTS}, when=is_dense),
        Step("multiply factors, backward: pointwise", {"gradient of taps": _PRODUCTS}, when=is_dense),
        Step(
            "sum over taps",
            {"gradient of pointwise weight": c_in * c_out * A},
            ("gradient of taps",),
            when=is_dense * several(k),
        ),
        Step(
            "sum over elements",
            {"gradient of spatial weight": c_spatial * c_out * k**2},
            ("gradient of stencils",),
            when=_OVER_ELEMENTS,
        ),
        Step("factors are differentiated", frees=("gradient of products",), when=is_dense),
        bias_sum(has_bias, c_out, A),
    ),
)


class SeparableGroupConv2d(SwitchedLayer, WindowedConv2d):
    """Correlate regular fields with a product of a pointwise and a spatial factor, acted on by the group.

    Shapes: (B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out).

    ``execution="factored"`` runs the pointwise factor at input positions, then the k x k factor (with stride
    and padding): ``g`` as a 1x1 grouped by input field and a k x k grouped by output field and element,
    ``gc`` as a dense 1x1 and a depthwise k x k. ``"naive"`` multiplies the factors into one dense filter bank
    in every forward and runs that. Both give the same output. There is one bias per output field.

    ``pointwise_execution`` says how a pointwise factor that runs apart does, see ``GroupConv2d``.

    Raises:
        SettingError: for a group that is not exact on the grid, an unknown kind or execution, or sizes that
            are not positive.
        UnknownNameError: for an unknown execution of the pointwise factor.
    """

    source = "Lengyel & van Gemert 2021, section 3.2 and released code"
    what = "separable group convolution"
    params: Terms = {
        "pointwise weight": c_in * c_out * A,
        "spatial weight": c_spatial * c_out * k**2,
        "bias": has_bias * c_out,
    }
    macs: ClassVar[Terms] = {
        "pointwise": (1 - is_dense) * (1 - in_irreps) * c_in * c_out * A**2 * h * w,
        "pointwise in irreps": in_irreps * c_in * c_out * A_rho * h * w,
        "spatial": (1 - is_dense) * c_spatial * c_out * A * k**2 * h_out * w_out,
        "dense": is_dense * c_in * c_out * A**2 * k**2 * h_out * w_out,
    }
    elements: ClassVar[Terms] = {
        "transform of input": in_irreps * c_in * n_add * h * w,
        "transform of output": in_irreps * c_spatial * c_out * n_add * h * w,
        "transform of weight": in_irreps * c_in * c_out * n_add,
        "filter pre-multiplication": is_dense * c_in * c_out * A * k**2,
        "pointwise charged at output positions": (1 - is_dense)
        * (c_in * c_out)
        * (A**2 * h_out * w_out - ((1 - in_irreps) * A**2 + in_irreps * A_rho) * h * w),
        "dense filters charged as factors": is_dense
        * (c_in * c_out * A**2 + c_spatial * c_out * A * k**2 - c_in * c_out * A**2 * k**2)
        * (h_out * w_out),
    }
    kinds: ClassVar[Mapping[str, str]] = {
        **TRANSFORMS,
        "filter pre-multiplication": EXPANSION,
        "pointwise charged at output positions": POINTWISE_AT_OUTPUT,
        "dense filters charged as factors": DENSE_AS_FACTORS,
    }
    per_forward = frozenset({"filter pre-multiplication", "transform of weight"})
    in_irreps_where = (in_irreps,)
    saved = {"input": c_in * A * h * w, "mapped": (1 - is_dense) * c_spatial * c_out * A * h * w}
    saved_constant = {
        "pointwise filters": (1 - is_dense) * (1 - in_irreps) * c_in * c_out * A**2,
        "pointwise weight by input field": in_irreps * _BY_INPUT * several(c_out) * c_in * c_out * A,
        "spatial filters": (1 - is_dense) * c_spatial * c_out * A * k**2,
        "dense filters": is_dense * c_in * c_out * A**2 * k**2,
    }
    moved = {
        "pointwise": B * (c_in + c_spatial * c_out) * A * h * w + c_in * c_out * A**2,
        "spatial": B * c_out * A * (c_spatial * h * w + h_out * w_out) + c_spatial * c_out * A * k**2,
    }
    peak = SEPARABLE
    printed: ClassVar[Mapping[str, Sequence[str]]] = {
        "params": ("pointwise weight", "spatial weight"),
        "macs": ("pointwise", "spatial"),
    }

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        group: GroupLike,
        kind: Kind = "g",
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
        execution: Execution = "factored",
        pointwise_execution: GroupExecution = "bank",
    ) -> None:
        super().__init__()
        self._set_windows(c_in, c_out, kernel, square_group(group, type(self).__name__), stride, padding)
        self.group.require_exact_on_grid(type(self).__name__)
        if kind not in ("g", "gc"):
            raise SettingError(f"kind (={kind!r}) must be 'g' or 'gc'")
        if execution not in ("factored", "naive"):
            raise SettingError(f"execution (={execution!r}) must be 'factored' or 'naive'")
        self.kind, self.execution = kind, execution
        self.runs_as = {"pointwise": operators.GROUPED if kind == "g" else operators.POINTWISE,
                        "pointwise in irreps": operators.IRREP,
                        "spatial": operators.GROUPED if kind == "g" else operators.DEPTHWISE}  # fmt: skip
        self._pointwise_window = Window(self.group, 1, 1, 0, sections=c_in if kind == "g" else 1)
        if not is_drawing():
            self._pointwise_window.make()
        self.switch(pointwise_execution)
        order = self.group.order
        fields_summed = c_in if kind == "g" else 1
        self.pointwise_weight = uniform((c_out, c_in, order), order * (1 if kind == "g" else c_in))
        self.spatial_weight = uniform((c_out, fields_summed, kernel, kernel), fields_summed * kernel * kernel)
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        bank_of = self.group.filter_bank_index
        # one 1x1 stencil per relative element: [a][b] is a^-1 b
        self.add_table("relative_index", lambda: _flat([[row[0] for row in rows] for rows in bank_of(1)]))
        self.add_table("stencil_index", lambda: _flat(self.group.lifting_index(kernel)), kernel)
        self.add_table("bank_index", lambda: _flat(bank_of(kernel)))

    group: Group
    relative_index: Tensor
    stencil_index: Tensor
    bank_index: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """(B, c_in * A, h, w) -> (B, c_out * A, h_out, w_out)."""
        bias = self._bias_rows
        if self.execution == "naive":
            return F.conv2d(features, self.dense_filters(), bias, self.stride, self.padding)
        channels = self.c_out * self.group.order
        mapped = self._mapped(features)
        if self.kind == "g":
            batch, _, *sizes = mapped.shape
            by_input = mapped.view(batch, self.c_in, channels, *sizes)
            mapped = by_input.transpose(1, 2).reshape(mapped.shape)
        return F.conv2d(mapped, self._spatial_bank(), bias, self.stride, self.padding, groups=channels)

    def _mapped(self, features: Tensor) -> Tensor:
        """Maps of the pointwise factor: input field by input field for ``g``, one per output field and element."""
        order, by_input, sizes = self.group.order, self.kind == "g", plain_sizes(features)
        # a plain convolution says what is wrong with maps that do not fit
        if len(sizes) == 4 and sizes[1] == self.c_in * order and self.in_irreps(sizes):
            weight = self.pointwise_weight.transpose(0, 1).flatten(0, 1)[:, None] if by_input else self.pointwise_weight
            return irrep_operators.convolution(features, weight[..., None, None], self._pointwise_window)
        if by_input:
            filters = self._pointwise_bank().permute(1, 0, 2, 3).reshape(-1, order, 1, 1)
            return F.conv2d(features, filters, groups=self.c_in)
        return F.conv2d(features, self._pointwise_bank().transpose(1, 2).reshape(self.c_out * order, -1, 1, 1))

    def switch(self, execution: GroupExecution) -> None:
        """Run the pointwise factor that way from now on, where it runs apart.

        Raises:
            UnknownNameError: for an execution that does not exist.
        """
        self.pointwise_execution = one_of("execution", execution, EXECUTIONS)

    def in_irreps(self, input_shape: Shape) -> bool:
        """Whether the pointwise factor runs in the irrep basis on an input (B, c_in * A, h, w); by sizes alone."""
        if self.pointwise_execution != "auto" or self.execution == "naive":
            return self.pointwise_execution == "irreps" and self.execution != "naive"
        batch, _, rows, columns = input_shape
        window = self._pointwise_window
        return irreps.pays(window, self.c_in, window.sections * self.c_out, batch * rows * columns)

    def _pointwise_bank(self) -> Tensor:
        """The pointwise factor at a^-1 b: (c_out, c_in, A, A)."""
        order = self.group.order
        relative = self.pointwise_weight.index_select(2, self.relative_index)
        return relative.view(self.c_out, self.c_in, order, order)

    def _spatial_bank(self) -> Tensor:
        """The spatial factor acted on by a: (c_out * A, fields summed, k, k)."""
        order, kernel = self.group.order, self.kernel
        acted = self.spatial_weight.flatten(2).index_select(2, self.stencil_index)
        by_field = acted.view(self.c_out, -1, order, kernel * kernel)
        return by_field.transpose(1, 2).reshape(self.c_out * order, -1, kernel, kernel)

    def dense_filters(self) -> Tensor:
        """The factors multiplied out and acted on by the group: (c_out * A, c_in * A, k, k)."""
        order, kernel = self.group.order, self.kernel
        products = self.pointwise_weight[..., None, None] * self.spatial_weight[:, :, None]
        acted = products.flatten(2).index_select(2, self.bank_index)
        by_field = acted.view(self.c_out, self.c_in, order, order * kernel * kernel)
        # rows (o, a), columns (i, b): the element a comes out from under the input field
        return by_field.transpose(1, 2).reshape(self.c_out * order, self.c_in * order, kernel, kernel)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        naive = self.execution == "naive"
        spatial = self.c_in if self.kind == "g" else 1
        return {
            **super().dimensions(input_shape), c_spatial: spatial, is_dense: int(naive),
            in_irreps: int(self.in_irreps(input_shape)),
            **irrep_sizes(self.group),
        }  # fmt: skip

    def timeline(self, input_shape: Shape, dtype: torch.dtype) -> Timeline | None:
        """The storages with this execution of the pointwise factor on inputs of this shape and dtype on the CPU."""
        whole = self.peak
        if whole is None or not self.in_irreps(input_shape):
            return whole
        window, elements = self._pointwise_window, self.pointwise_weight.numel()
        fields = self.c_in, window.sections * self.c_out
        storages = IrrepStorages(window, fields, input_shape, dtype, of=" of pointwise factor")
        copied, weight = "pointwise weight by input field", "gradient of pointwise weight"
        copies = self.kind == "g" and min(self.c_in, self.c_out) > 1
        mapped = ("gradient of mapped", "gradient of mapped, permuted")
        forward = [Step("pointwise weight by input field", {copied: elements * copies}), *storages.forward("mapped")]
        backward = list(storages.backward("gradient of input", f"gradient of {copied}" if copies else weight, mapped))
        if copies:
            backward += [
                Step("pointwise weight", frees=(copied,)),
                Step("pointwise weight", {weight: elements}, (f"gradient of {copied}",)),
            ]
        back = (
            "map, backward",
            "permute pointwise rows, backward",
            "zeros for pointwise weight",
            "add up pointwise weight",
        )
        return Timeline(
            replaced(whole.forward, ("act on pointwise weight", "permute pointwise rows", "map"), forward),
            replaced(whole.backward, back, backward),
            storages.units,
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        for execution in ("factored", "naive"):
            padded = {"c_in": 2, "c_out": 3, "kernel": 3, "padding": 1, "execution": execution}
            yield Sample(padded, (5, 6))
            biased = {"c_in": 3, "c_out": 2, "kernel": 4, "kind": "gc", "bias": True, "execution": execution}
            yield Sample(biased, (6, 5))
        strided = {"c_in": 3, "c_out": 2, "kernel": 3, "padding": 1, "stride": 2}
        for kind in ("g", "gc"):
            yield Sample({**strided, "kind": kind, "pointwise_execution": "irreps"}, (7, 5))
        yield Sample({"c_in": 2, "c_out": 2, "kernel": 3, "padding": 1, "stride": 2, "kind": "gc"}, (7, 5))
        yield Sample({"c_in": 2, "c_out": 1, "kernel": 3, "padding": 1, "stride": 2, "bias": True}, (7, 8))


def _flat(table: Sequence[Any]) -> Tensor:
    return torch.tensor(table).flatten()


class SeparableConv2d(CountedAgain):
    """The plain counterpart (``c``): 1x1 over channels, then a depthwise k x k, no norm between.

    With ``bias`` both factors have one. Two stock modules in a container, as in the released code.

    Shapes: (B, c_in, h, w) -> (B, c_out, h_out, w_out).

    Raises:
        SettingError: for sizes that are not positive.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = False
    ) -> None:
        positive(c_in=c_in, c_out=c_out, kernel=kernel, stride=stride)
        not_negative(padding=padding)
        super().__init__(
            pointwise=nn.Conv2d(c_in, c_out, 1, bias=bias),
            spatial=nn.Conv2d(c_out, c_out, kernel, stride, padding, groups=c_out, bias=bias),
        )
