"""The steerable convolution between fields of C_n or D_n. Weiler & Cesa 2019, section 2 and appendix.

A kernel between regular fields satisfies kappa(g x) = rho_out(g) kappa(x) rho_in(g)^-1 exactly when

    kappa(x)[g, h] = f_{g^-1 h}(g^-1 x)

for one free function f_u per relative element u. Each f_u is a combination of Gaussian rings times circular
harmonics, sampled on rotated grids; a rotation maps the span of one ring's harmonics of one frequency onto itself,
so the span belongs to every group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.conventions import EXPANSION, EXPANSION_REFERENCE, MAC_KINDS
from e4profile.errors import SettingError, UnknownNameError, positive
from e4profile.groups import Group, GroupLike, square_group
from e4profile.layers import operators
from e4profile.layers.base import Dimensions, Sample, Shape
from e4profile.layers.constants import shifted
from e4profile.layers.execution import (
    TRANSFORMS,
    Execution,
    IrrepLayer,
    irrep_products,
    lifting_products,
    lifting_transforms,
    transforms,
)
from e4profile.layers.storages import (
    BIAS_ROWS,
    CONVERTED,
    INDEX,
    Step,
    Timeline,
    bias_gradient,
    bias_sum,
    expanded_bias,
    gathered,
)
from e4profile.layers.terms import evaluate
from e4profile.symbols import (
    A_in,
    A_out,
    A_rel,
    B,
    c_in,
    c_out,
    h,
    h_out,
    has_bias,
    in_irreps,
    is_lifting,
    k,
    n_cosets,
    n_grids,
    n_k,
    w,
    w_out,
)

FieldName = Literal["trivial", "regular"]


_SIGMA_CENTRE, _SIGMA_INNER, _SIGMA_OUTERMOST = 0.005, 0.6, 0.4


class KernelFunction(NamedTuple):
    """exp(-(|x| - radius)^2 / (2 sigma^2)) times cos(frequency a), or sin where ``odd``.

    The angle a is measured from the upright axis, which is the axis of the left-right mirror: cosines are
    even under that mirror and sines odd. Functions of positive frequency are 0 at the origin.
    """

    radius: int
    sigma: float
    frequency: int
    odd: bool


class Rings(NamedTuple):
    """How the functions of a kernel are chosen.

    Attributes:
        cutoff: the highest frequency of a ring, in units of pi times its radius; None tapers the rings, fewer on the
            outermost one.
        sigma: the width of every ring, in pixels; None gives the middle, the inner rings and the outermost one theirs.
    """

    cutoff: float | None = None
    sigma: float | None = None


_TAPERED = Rings()


def highest_frequency(radius: int, outermost: int, cutoff: float | None = None) -> int:
    """The band limit of one ring, in pixels: what a ring of this radius can carry without aliasing."""
    if cutoff is not None:
        return int(cutoff * math.pi * radius)
    if radius == outermost:
        return min(2 * radius, 2)
    return min(2 * radius, 2 * radius - (radius + 1) % 2)


@lru_cache(maxsize=64)
def kernel_functions(
    kernel: int, invariant_under: Group | None = None, rings: Rings = _TAPERED
) -> tuple[KernelFunction, ...]:
    """The functions that span the kernels of size ``kernel``: 1, 6, 11, 18, 31 for sizes 1, 3, 5, 7, 9.

    With a ``cutoff`` of 1 they are 1, 8, 21, 40, 65.

    Args:
        kernel: odd kernel size k; the rings have radii 0 .. k // 2.
        invariant_under: keep only the functions with f(g^-1 x) = f(x) for every element of this group, which
            are the kernels between trivial fields.
        rings: how they are chosen.

    Raises:
        SettingError: for an even kernel, or more functions than taps.
    """
    positive(kernel=kernel)
    if kernel % 2 == 0:
        raise SettingError(f"kernel (={kernel}) must be odd: the rings of a kernel sit around one pixel")
    outermost = kernel // 2
    functions = []
    for radius in range(outermost + 1):
        sigma = _SIGMA_CENTRE if radius == 0 else _SIGMA_OUTERMOST if radius == outermost else _SIGMA_INNER
        sigma = sigma if rings.sigma is None else rings.sigma
        for frequency in range(max(highest_frequency(radius, outermost, rings.cutoff), 0) + 1):
            for odd in (False, True) if frequency else (False,):
                functions.append(KernelFunction(radius, sigma, frequency, odd))
    if len(functions) > kernel**2:
        raise SettingError(
            f"cutoff (={rings.cutoff}) gives {len(functions)} functions for the {kernel**2} taps of kernel (={kernel})"
        )
    if invariant_under is None:
        return tuple(functions)
    group = invariant_under
    return tuple(one for one in functions if one.frequency % group.rotations == 0 and not (one.odd and group.mirrors))


def evaluate_functions(functions: tuple[KernelFunction, ...], points: Tensor) -> Tensor:
    """The values of the functions at points of the plane.

    Args:
        functions: n of them.
        points: (..., 2) as (x, y), x to the right and y up, in pixels.

    Returns:
        (..., n) in the points' dtype.
    """
    x, y = points.unbind(-1)
    distance, angle = torch.hypot(x, y), torch.atan2(x, y)
    # an angle means nothing at the origin, and a kernel that varied with it there would not be steerable
    away = (distance > 0).to(points.dtype)
    values = []
    for one in functions:
        ring = torch.exp(-((distance - one.radius) ** 2) / (2 * one.sigma**2))
        harmonic = torch.sin(one.frequency * angle) if one.odd else torch.cos(one.frequency * angle)
        values.append(ring * harmonic * away if one.frequency else ring)
    return torch.stack(values, -1)


def grid_points(kernel: int) -> Tensor:
    """The points (k * k, 2) of a kernel's taps in row-major order, float64 on the CPU."""
    middle = (kernel - 1) / 2
    points = [(column - middle, middle - row) for row in range(kernel) for column in range(kernel)]
    return torch.tensor(points, dtype=torch.float64, device="cpu")


def acted(group: Group, element: int, points: Tensor) -> Tensor:
    """The points (..., 2) moved by a group element."""
    matrix = torch.tensor(group.matrix(element), dtype=points.dtype, device=points.device)
    # sums of two products written out, so that quarter turns of whole pixels stay exact
    return torch.stack([(row * points).sum(-1) for row in matrix.unbind()], -1)


@lru_cache(maxsize=256)
def sampled_basis(group: Group, kernel: int, rotated: bool, invariant: bool = False, rings: Rings = _TAPERED) -> Tensor:
    """Every function at every tap of the kernel's grid, seen from every group element.

    Computed once per setting and shared by every layer; it must not be written to.

    Args:
        group: the group.
        kernel: odd kernel size k.
        rotated: sample at g^-1 x for all elements g, in element order; else at x alone.
        invariant: only the functions invariant under the group.
        rings: how the functions are chosen.

    Returns:
        (n, elements * k * k), float64 on the CPU.

    Raises:
        SettingError: for an even kernel.
    """
    functions = kernel_functions(kernel, group if invariant else None, rings)
    grid = grid_points(kernel)
    elements = group.elements if rotated else range(1)
    moved = torch.stack([acted(group, group.inverse(element), grid) for element in elements])
    return evaluate_functions(functions, moved.flatten(0, 1)).T.contiguous()


@lru_cache(maxsize=256)
def pair_index(group: Group, kernel: int, from_regular: bool, to_regular: bool) -> Tensor:
    """Where the taps of one field pair's kernel stand among the sampled free functions.

    Returns:
        (A_out, A_in, k * k), int64 on the CPU: indices into the samples (relative elements, rotated grids,
        k * k) of f, flattened. A_out is A for a regular output field and 1 for a trivial one; A_in by the same rule.
    """
    taps = torch.arange(kernel * kernel, device="cpu")
    grids = group.order if from_regular or to_regular else 1
    rows = []
    for g in group.elements if to_regular else range(1):
        blocks = []
        for other in group.elements if from_regular else range(1):
            # a trivial side has one channel for all elements: the other side alone decides
            relative = group.product(group.inverse(g), other) if from_regular and to_regular else 0
            grid = g if to_regular else other
            blocks.append((relative * grids + grid) * kernel * kernel + taps)
        rows.append(torch.stack(blocks))
    return torch.stack(rows)


_SAMPLES = c_in * c_out * A_rel * n_grids * k**2
_FILTERS = c_in * A_in * c_out * A_out * k**2

STEERABLE = Timeline(
    forward=(
        expanded_bias(has_bias, c_out, A_out),
        Step("convert basis", {"sampled basis": n_k * n_grids * k**2}),
        Step("sample kernels", {"sampled kernels": _SAMPLES}),
        Step("place samples", {"filters": _FILTERS}, ("sampled kernels",)),
        Step("convolve", {"output": B * c_out * A_out * h_out * w_out}, (BIAS_ROWS,)),
    ),
    backward=(
        Step(
            "convolve, backward",
            {
                "gradient of input": B * c_in * A_in * h * w,
                "gradient of filters": _FILTERS,
                **bias_gradient(has_bias, c_out, A_out),
            },
            ("filters",),
        ),
        *gathered("sampled kernels", _SAMPLES, ("gradient of filters",)),
        Step(
            "sample kernels, backward",
            {"gradient of weight": c_in * c_out * A_rel * n_k},
            ("gradient of sampled kernels", "sampled basis"),
        ),
        bias_sum(has_bias, c_out, A_out),
    ),
    units={"sampled basis": CONVERTED},
)


class SteerableConv2d(IrrepLayer):
    """Correlate fields with kernels that are combinations of ring harmonics, seen from every group element.

    Between regular fields the kernel is kappa(x)[g, h] = f_{g^-1 h}(g^-1 x); towards or from a trivial field
    it is f(g^-1 x); between trivial fields it is f(x) with an invariant f. A training forward samples every f
    on every rotated grid with one matrix product and places the samples in the dense filters; evaluation
    keeps the filters (see ``FilterBankLayer``) and is a plain convolution.

    Any C_n or D_n is accepted. Elements that map the pixel grid onto itself act exactly; the others only as
    well as a k x k sample of the kernel allows.

    Shapes: (B, c_in * A_in, h, w) -> (B, c_out * A_out, h_out, w_out), where A_in and A_out are A for regular
    fields and 1 for trivial ones.

    Raises:
        SettingError: for an even kernel, sizes that are not positive, or a cutoff of more functions than taps.
        UnknownNameError: for a field type other than 'regular' and 'trivial'.
    """

    source = "Weiler & Cesa 2019, section 2; Cesa, Lang & Weiler 2022 (the reference library)"
    what = "steerable convolution"
    operation_kind = EXPANSION
    params = {"weight": c_in * c_out * A_rel * n_k, "bias": has_bias * c_out}
    macs = {
        "convolution": (1 - in_irreps) * c_in * A_in * c_out * A_out * k**2 * h_out * w_out,
        "irrep products": (1 - is_lifting) * irrep_products(h_out * w_out)
        + is_lifting * lifting_products(h_out * w_out),
    }
    elements = {
        name: (1 - is_lifting) * term + is_lifting * lifting_transforms(h_out * w_out)[name]
        for name, term in transforms(h_out * w_out).items()
    } | {
        "expansion": c_in * A_in * c_out * A_out * k**2 * n_k,
        "expansion by the reference library": c_in * A_in * c_out * A_out * k**2 * A_rel * n_k,
    }
    kinds = {**TRANSFORMS, "expansion": EXPANSION, "expansion by the reference library": EXPANSION_REFERENCE}
    per_forward = frozenset({"expansion", "expansion by the reference library", "transform of weight"})
    entry_terms = frozenset(macs)
    runs_as = {"irrep products": operators.IRREP}
    printed = {"params": ("weight",), "macs": ("convolution",)}
    saved = {"input": c_in * A_in * h * w}
    saved_constant = {
        "filters": (1 - in_irreps) * c_in * A_in * c_out * A_out * k**2,
        "index of the gathered weight": in_irreps * c_in * A_in * n_cosets * k**2,
        "gathered weight": in_irreps * c_in * A_in * c_out * n_cosets * k**2,
        "sampled basis": n_k * n_grids * k**2,
    }
    saved_as = {"sampled basis": CONVERTED, "index of the gathered weight": INDEX}
    peak = STEERABLE
    kept = {"dense filters": c_in * A_in * c_out * A_out * k**2}
    """Elements that evaluation mode keeps between forwards."""

    group: Group
    basis_bits: Tensor

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        group: GroupLike,
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
        field_in: FieldName = "regular",
        field_out: FieldName = "regular",
        cutoff: float | None = None,
        sigma: float | None = None,
        execution: Execution = "bank",
    ) -> None:
        super().__init__()
        self.rings = Rings(cutoff, sigma)
        self._set_windows(c_in, c_out, kernel, square_group(group, type(self).__name__), stride, padding)
        for field in (field_in, field_out):
            if field not in ("trivial", "regular"):
                raise UnknownNameError("field type", field, ("trivial", "regular"))
        self.field_in, self.field_out, self.execution = field_in, field_out, execution
        regular_in, regular_out = field_in == "regular", field_out == "regular"
        channels_in, channels_out = c_in * self._channels(field_in), c_out * self._channels(field_out)

        def index() -> Tensor:
            pair = pair_index(self.group, kernel, regular_in, regular_out)
            return shifted(pair, c_in, self._relative_elements * self._basis.shape[1])

        functions = int(self._sizes[n_k])
        self._set_filters(
            (c_out, c_in, self._relative_elements, functions), index, (channels_out, channels_in, kernel, kernel)
        )
        if not self.weight.is_meta:
            # the variance of He et al. 2015, from what unit weights carry on average over the rotated grids
            energy = float(self._basis.square().sum()) * kernel * kernel / self._basis.shape[1]
            nn.init.normal_(self.weight, std=math.sqrt(2 / (channels_in * energy)))
        # kept as the bits of float64, so that casting the module never rounds the basis
        self.add_table("basis_bits", lambda: self._basis.view(torch.int64).to(self.filter_index.device))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None

    @property
    def _basis(self) -> Tensor:
        trivial = self.field_in == self.field_out == "trivial"
        return sampled_basis(self.group, self.kernel, rotated=not trivial, invariant=trivial, rings=self.rings)

    @property
    def _relative_elements(self) -> int:
        return self.group.order if self.field_in == self.field_out == "regular" else 1

    def filter_values(self) -> Tensor:
        """Every free function at every tap of every rotated grid: (c_out, c_in, A_rel, grids * k * k)."""
        # a traced graph has no operator that reads bits as numbers: there the basis is a constant
        traced = torch._C._get_tracing_state() is not None
        basis = self._basis.to(self.weight.device) if traced else self.basis_bits.view(torch.float64)
        return self.weight @ basis.to(self.weight.dtype)

    def forward(self, features: Tensor) -> Tensor:
        """(B, c_in * A_in, h, w) -> (B, c_out * A_out, h_out, w_out)."""
        if self._runs_in_irreps(features):
            return self._convolve_in_irreps(features)
        bias = self._bias_rows  # made before the filters, as in the timeline
        return F.conv2d(features, self._filters(), bias, self.stride, self.padding)

    def _irrep_weight(self) -> tuple[Tensor, Tensor | None]:
        """The kernels between the regular fields of the elements on the grid, element u's taps in the order of u z."""
        group, cosets, taps = self.group.on_grid, self.group.cosets_on_grid, self.kernel**2
        rows = [coset[0] for coset in cosets]
        bank = self.filter_index.view(self.group.order, self.c_in, -1, taps)[rows]
        if self.irrep_window.lifts:
            flat = self.filter_values().flatten(1).index_select(1, bank.flatten())
            return flat.view(-1, self.c_in, self.kernel, self.kernel), None
        moved = [
            bank[:, :, [coset[u] for coset in cosets]][..., [one[u] for one in self.irrep_window.taps]]
            for u in group.elements
        ]
        index = torch.stack(moved, 3)
        flat = self.filter_values().flatten(1).index_select(1, index.flatten())
        weight = flat.view(self.c_out * len(cosets), self.c_in * len(cosets), group.order, self.kernel, self.kernel)
        return weight, None

    def timeline(self, input_shape: Shape, dtype: torch.dtype) -> Timeline | None:
        """The storages with this execution on inputs of this shape and dtype on the CPU."""
        if not self.in_irreps(input_shape):
            return self.peak
        window, cosets = self.irrep_window, len(self.group.cosets_on_grid)
        samples, basis = self.weight.shape[:-1].numel() * self._basis.shape[1], self._basis.numel()
        bank = cosets * self.c_in * self._channels(self.field_in) * self.kernel**2
        kept, taken, weight = "index of the gathered weight", dict[str, int](), "gathered weight"
        rows = [Step("take rows of the index", {"places": cosets, kept if window.lifts else "rows": bank}, ("places",))]
        if not window.lifts:
            for element in window.group.elements:
                part, one = bank * cosets // self.group.order, f"taps of element {element}"
                taken[one] = part
                rows.append(Step("take fields", {"places": cosets, "fields": part}, ("places",)))
                rows.append(Step("take taps", {"places": self.kernel**2, one: part}, ("places", "fields")))
            rows.append(Step("stack them", {kept: bank}))
        gather = (
            *rows,
            Step("convert basis", {"sampled basis": basis}),
            Step("sample kernels", {"sampled kernels": samples}),
            Step(
                "gather weight", {weight: bank * self.c_out}, ("sampled kernels", *taken, *(["rows"] if taken else []))
            ),
        )
        back = (
            Step("weight is differentiated", {}, (weight,)),
            *gathered("sampled kernels", samples, (f"gradient of {weight}",)),
            Step("index is read", {}, (kept,)),
            Step(
                "sample kernels, backward",
                {"gradient of weight": self.weight.numel()},
                ("gradient of sampled kernels", "sampled basis"),
            ),
        )
        units = {"sampled basis": CONVERTED, **dict.fromkeys(("places", "rows", "fields", kept, *taken), INDEX)}
        if window.lifts:
            units = {"sampled basis": CONVERTED, "places": INDEX, kept: INDEX}
        biases = 0 if self.bias is None else self.bias.numel()
        return self.irrep_storages(input_shape, dtype).timeline(biases, 0, gather, back, units)

    def kernel_at(self, points: Tensor) -> Tensor:
        """The continuous kernel, of which the filters are the samples at the taps.

        Args:
            points: (..., 2) as (x, y) in pixels from the kernel's middle, x to the right and y up.

        Returns:
            (..., c_out * A_out, c_in * A_in).
        """
        group, weight = self.group, self.weight
        regular_in, regular_out = self.field_in == "regular", self.field_out == "regular"
        functions = kernel_functions(self.kernel, None if regular_in or regular_out else group, self.rings)
        seen = [
            evaluate_functions(functions, acted(group, group.inverse(element), points)).to(weight)
            for element in group.elements
        ]
        rows = []
        for g in group.elements if regular_out else range(1):
            blocks = []
            for b in group.elements if regular_in else range(1):
                relative = group.product(group.inverse(g), b) if regular_in and regular_out else 0
                values = seen[g if regular_out else b]
                blocks.append(torch.einsum("oin,...n->...oi", weight[:, :, relative], values))
            rows.append(torch.stack(blocks, -1))
        by_element = torch.stack(rows, -3)
        # (..., c_out, A_out, c_in, A_in)
        return by_element.flatten(-2).flatten(-3, -2)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        return {**super().dimensions(input_shape), **self._sizes}

    @property
    def _sizes(self) -> Dimensions:
        trivial = self.field_in == self.field_out == "trivial"
        return {
            c_in: self.c_in, c_out: self.c_out, k: self.kernel, A_rel: self._relative_elements,
            A_in: self._channels(self.field_in), A_out: self._channels(self.field_out),
            is_lifting: int(self.irrep_window.lifts),
            n_grids: 1 if trivial else self.group.order,
            n_k: len(kernel_functions(self.kernel, self.group if trivial else None, self.rings)),
        }  # fmt: skip

    def filter_bytes(self, bytes_per_element: int = 4) -> int:
        """Bytes of the dense filters that evaluation mode keeps."""
        return bytes_per_element * sum(evaluate(self.kept, self._sizes).values())

    def inexact_on(self, input_shape: Shape) -> str | None:
        """Why this layer is not exactly equivariant on this input, or None."""
        if not self.group.exact_on_grid:
            return (
                f"{self.group.name} rotates by {360 / self.group.rotations:g} degrees, which moves pixels off "
                "the grid: exact for the elements that do not"
            )
        return super().inexact_on(input_shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "padding": 1}, (5, 6))
        yield Sample({"c_in": 3, "c_out": 2, "kernel": 1, "bias": True}, (4, 4))
        yield Sample({"c_in": 1, "c_out": 2, "kernel": 3, "cutoff": 1.0, "sigma": 0.45}, (4, 5))
        yield Sample({"c_in": 2, "c_out": 1, "kernel": 5, "padding": 2, "stride": 2, "bias": True}, (7, 5))
        lifting = {"field_in": "trivial", "padding": 3, "stride": 2}
        yield Sample({"c_in": 3, "c_out": 2, "kernel": 7, **lifting}, (9, 8))
        yield Sample({"c_in": 3, "c_out": 2, "kernel": 7, **lifting, "execution": "irreps"}, (9, 8))
        yield Sample({"c_in": 2, "c_out": 2, "kernel": 3, "field_out": "trivial", "bias": True}, (6, 5))
        yield Sample({"c_in": 2, "c_out": 3, "kernel": 3, "padding": 1, "bias": True, "execution": "irreps"}, (5, 6))
        yield Sample({"c_in": 2, "c_out": 1, "kernel": 5, "padding": 2, "stride": 2, "execution": "irreps"}, (7, 5))
        invariant = {"field_in": "trivial", "field_out": "trivial"}
        yield Sample({"c_in": 2, "c_out": 2, "kernel": 5, **invariant}, (7, 6))


def dense_filter_bytes(model: nn.Module, bytes_per_element: int = 4) -> int:
    """Bytes of dense filters that a network's steerable convolutions keep in evaluation mode."""
    layers = (module for module in model.modules() if isinstance(module, SteerableConv2d))
    return sum(layer.filter_bytes(bytes_per_element) for layer in layers)


def expansion_share(operations: Mapping[str, int], kind: str = EXPANSION) -> Fraction:
    """Expansion MACs over all MACs of one training forward, expansion included.

    Args:
        operations: operations by kind at the training batch, for example ``Count.operations``.
        kind: ``"expansion"`` as executed here, or ``"expansion_reference"`` as the reference library does it.
    """
    expansion = operations.get(kind, 0)
    forward = sum(operations.get(name, 0) for name in MAC_KINDS)
    return Fraction(expansion, expansion + forward) if expansion else Fraction(0)
