"""Closed forms for PyTorch's own layers, so that plain parts of a network are stock modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from e4profile.conventions import BATCH_NORM, CONVOLUTION, GROUP_NORM, LINEAR
from e4profile.errors import SettingError
from e4profile.layers.base import Costed, Dimensions, Shape, check_maps, window_size
from e4profile.layers.saved import INDEX, MASK, STATISTICS
from e4profile.layers.terms import Term, Terms
from e4profile.symbols import (
    c_in,
    c_out,
    h,
    h_out,
    has_affine,
    has_bias,
    is_masked,
    k_h,
    k_w,
    keeps_input,
    n_groups,
    n_in,
    n_out,
    w,
    w_out,
)


@dataclass(frozen=True)
class StockForm:
    """The closed form of one stock module class.

    ``dimensions`` and ``output_shape`` take the module (for its arguments, never its tensors) and the shape,
    ``hands_on_input`` the module. The saved tables are those of ``e4profile.layers.saved``.
    """

    dimensions: Callable[[Any, Shape], Dimensions]
    output_shape: Callable[[Any, Shape], Shape]
    params: Terms = field(default_factory=dict)
    macs: Terms = field(default_factory=dict)
    elements: Terms = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    printed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    saved: Terms | None = None
    saved_constant: Terms = field(default_factory=dict)
    saved_as: Mapping[str, str] = field(default_factory=dict)
    hands_on_input: Callable[[Any], bool] = lambda _: False


@dataclass(frozen=True)
class StockLayer:
    """A stock module seen through its closed form."""

    module: nn.Module
    form: StockForm

    @property
    def params(self) -> Terms:
        """Parameters by term."""
        return self.form.params

    @property
    def macs(self) -> Terms:
        """Forward MACs of one image by term; one of complex numbers is four of real ones."""
        if any(parameter.is_complex() for parameter in self.module.parameters(recurse=False)):
            return {name: 4 * term for name, term in self.form.macs.items()}
        return self.form.macs

    @property
    def elements(self) -> Terms:
        """Normalised elements of one image by term."""
        return self.form.elements

    @property
    def kinds(self) -> Mapping[str, str]:
        """The kind of each term."""
        return self.form.kinds

    @property
    def printed(self) -> Mapping[str, Sequence[str]]:
        """The terms that the paper's formula has."""
        return self.form.printed

    @property
    def saved(self) -> Terms | None:
        """Elements kept for backward per image by term; None where nobody has stated it."""
        return self.form.saved

    @property
    def saved_constant(self) -> Terms:
        """Elements kept for backward whatever the batch, by term."""
        return self.form.saved_constant

    @property
    def saved_as(self) -> Mapping[str, str]:
        """The unit of each saved term."""
        return self.form.saved_as

    @property
    def hands_on_input(self) -> bool:
        """Whether the output shares the input's memory."""
        return self.form.hands_on_input(self.module)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        return self.form.dimensions(self.module, input_shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape in, shape out, both with the batch."""
        return self.form.output_shape(self.module, input_shape)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _windows(module: Any, shape: Shape, channels: int) -> tuple[int, int]:
    sizes = check_maps(module, shape, channels)
    stride = module.stride if module.stride is not None else module.kernel_size
    if isinstance(module.padding, str) or _pair(getattr(module, "dilation", 1)) != (1, 1):
        raise SettingError(f"no closed form for {module}: string paddings and dilations are not covered")
    if getattr(module, "ceil_mode", False):
        raise SettingError(f"no closed form for {module}: ceil_mode is not covered")
    rows, columns = (
        window_size(size, kernel, step, padding, type(module).__name__)
        for size, kernel, step, padding in zip(
            sizes, _pair(module.kernel_size), _pair(stride), _pair(module.padding), strict=True
        )
    )
    return rows, columns


def _conv_dimensions(conv: nn.Conv2d, shape: Shape) -> Dimensions:
    rows, columns = _windows(conv, shape, conv.in_channels)
    return {
        c_in: conv.in_channels, c_out: conv.out_channels, k_h: conv.kernel_size[0], k_w: conv.kernel_size[1],
        n_groups: conv.groups, has_bias: int(conv.bias is not None), h_out: rows, w_out: columns,
        h: shape[2], w: shape[3],
    }  # fmt: skip


def _linear_dimensions(linear: nn.Linear, shape: Shape) -> Dimensions:
    if len(shape) != 2 or shape[1] != linear.in_features:
        raise SettingError(f"Linear takes (B, {linear.in_features}), not {shape}")
    return {c_in: linear.in_features, c_out: linear.out_features, has_bias: int(linear.bias is not None)}


def _norm_parts(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm) -> Dimensions:
    # newer torch has norms with a weight and no bias
    return {has_affine: int(norm.affine), has_bias: int(norm.bias is not None)}


def _norm_dimensions(norm: nn.BatchNorm2d, shape: Shape) -> Dimensions:
    rows, columns = check_maps(norm, shape, norm.num_features)
    return {c_in: norm.num_features, **_norm_parts(norm), h: rows, w: columns}


def _flat_norm_dimensions(norm: nn.BatchNorm1d, shape: Shape) -> Dimensions:
    if len(shape) != 2 or shape[1] != norm.num_features:
        raise SettingError(f"BatchNorm1d takes (B, {norm.num_features}), not {shape}")
    return {c_in: norm.num_features, **_norm_parts(norm)}


def _group_norm_dimensions(norm: nn.GroupNorm, shape: Shape) -> Dimensions:
    rows, columns = check_maps(norm, shape, norm.num_channels)
    return {
        c_in: norm.num_channels, **_norm_parts(norm), h: rows, w: columns, n_groups: norm.num_groups,
    }  # fmt: skip


def _element_dimensions(_: nn.Module, shape: Shape) -> Dimensions:
    return {n_in: math.prod(shape[1:])}


def _dropout_dimensions(dropout: nn.Dropout | nn.Dropout2d, shape: Shape) -> Dimensions:
    return {n_in: math.prod(shape[1:]), c_in: shape[1], is_masked: int(dropout.p > 0)}


def _pooled_dimensions(pool: nn.MaxPool2d | nn.AvgPool2d, shape: Shape) -> Dimensions:
    return {n_in: math.prod(shape[1:]), n_out: math.prod(_pooled_shape(pool, shape)[1:])}


def _adaptive_dimensions(pool: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d, shape: Shape) -> Dimensions:
    pooled = _adaptive_shape(pool, shape)
    # the average over the whole map is a plain mean, which needs only its input's shape in backward
    return {
        n_in: math.prod(shape[1:]), n_out: math.prod(pooled[1:]), keeps_input: int(pooled[2:] != (1, 1)),
    }  # fmt: skip


def _same_shape(_: nn.Module, shape: Shape) -> Shape:
    return shape


def _pooled_shape(pool: nn.MaxPool2d | nn.AvgPool2d, shape: Shape) -> Shape:
    return (*shape[:2], *_windows(pool, shape, shape[1]))


def _adaptive_shape(pool: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d, shape: Shape) -> Shape:
    size = pool.output_size if isinstance(pool.output_size, tuple) else (pool.output_size, pool.output_size)
    rows, columns = (old if new is None else new for new, old in zip(size, shape[2:], strict=True))
    return (*shape[:2], rows, columns)


def _flat_shape(flatten: nn.Flatten, shape: Shape) -> Shape:
    if (flatten.start_dim, flatten.end_dim) != (1, -1):
        raise SettingError(f"no closed form for {flatten}: only start_dim=1, end_dim=-1")
    features = 1
    for size in shape[1:]:
        features *= size
    return (shape[0], features)


_NORM_PARAMS = {"weight": has_affine * c_in, "bias": has_bias * c_in}
_VIEW = StockForm(_element_dimensions, _same_shape, saved={}, hands_on_input=lambda _: True)
_KEEPS_INPUT = StockForm(_element_dimensions, _same_shape, saved={"input": n_in})
_MAX_POOL_SAVED = {"input": n_in, "indices": n_out}


def _not_in_place(module: nn.SiLU) -> bool:
    if module.inplace:
        raise SettingError(f"no closed form for what {module} saves: it copies its input before writing to it")
    return False


def _drops_nothing(dropout: nn.Dropout | nn.Dropout2d) -> bool:
    if dropout.p == 1:
        raise SettingError(f"no closed form for what {dropout} saves: p=1 is a product with zero")
    return dropout.p == 0 or dropout.inplace


def _dropout(mask: Term) -> StockForm:
    return StockForm(
        _dropout_dimensions, _same_shape, saved={"mask": is_masked * mask}, saved_as={"mask": MASK},
        hands_on_input=_drops_nothing,
    )  # fmt: skip


STOCK: dict[type[nn.Module], StockForm] = {
    nn.Conv2d: StockForm(
        _conv_dimensions,
        lambda conv, shape: (shape[0], conv.out_channels, *_windows(conv, shape, conv.in_channels)),
        params={"weight": c_in * c_out * k_h * k_w / n_groups, "bias": has_bias * c_out},
        macs={"convolution": c_in * c_out * k_h * k_w * h_out * w_out / n_groups},
        saved={"input": c_in * h * w},
        kinds={"convolution": CONVOLUTION},
        printed={"params": ("weight",), "macs": ("convolution",)},
    ),
    nn.Linear: StockForm(
        _linear_dimensions,
        lambda linear, shape: (shape[0], linear.out_features),
        params={"weight": c_in * c_out, "bias": has_bias * c_out},
        macs={"linear": c_in * c_out},
        saved={"input": c_in},
        kinds={"linear": LINEAR},
    ),
    nn.BatchNorm2d: StockForm(
        _norm_dimensions,
        _same_shape,
        params=_NORM_PARAMS,
        elements={"norm": c_in * h * w},
        kinds={"norm": BATCH_NORM},
        saved={"input": c_in * h * w},
        saved_constant={"statistics": 2 * c_in},
        saved_as={"statistics": STATISTICS},
    ),
    nn.BatchNorm1d: StockForm(
        _flat_norm_dimensions,
        _same_shape,
        params=_NORM_PARAMS,
        elements={"norm": c_in},
        kinds={"norm": BATCH_NORM},
        saved={"input": c_in},
        saved_constant={"statistics": 2 * c_in},
        saved_as={"statistics": STATISTICS},
    ),
    nn.GroupNorm: StockForm(
        _group_norm_dimensions,
        _same_shape,
        params=_NORM_PARAMS,
        elements={"norm": c_in * h * w},
        kinds={"norm": GROUP_NORM},
        saved={"input": c_in * h * w, "statistics": 2 * n_groups},
    ),
    nn.MaxPool2d: StockForm(_pooled_dimensions, _pooled_shape, saved=_MAX_POOL_SAVED, saved_as={"indices": INDEX}),
    nn.AvgPool2d: StockForm(_pooled_dimensions, _pooled_shape, saved={"input": n_in}),
    nn.AdaptiveAvgPool2d: StockForm(_adaptive_dimensions, _adaptive_shape, saved={"input": keeps_input * n_in}),
    nn.AdaptiveMaxPool2d: StockForm(
        _adaptive_dimensions, _adaptive_shape, saved=_MAX_POOL_SAVED, saved_as={"indices": INDEX}
    ),
    nn.Flatten: StockForm(_element_dimensions, _flat_shape, saved={}, hands_on_input=lambda _: True),
    nn.ReLU: StockForm(
        _element_dimensions, _same_shape, saved={"output": n_in}, hands_on_input=lambda relu: relu.inplace
    ),
    nn.SiLU: StockForm(_element_dimensions, _same_shape, saved={"input": n_in}, hands_on_input=_not_in_place),
    nn.GELU: _KEEPS_INPUT,
    nn.ELU: _KEEPS_INPUT,
    nn.Dropout: _dropout(n_in),
    nn.Dropout2d: _dropout(c_in),
    nn.Identity: _VIEW,
}
"""Closed forms by exact class: a subclass may do anything, so it has none here."""


def as_costed(module: nn.Module) -> Costed | None:
    """The closed form of a module: its own, a stock one, or None, also where hooks compute its weight from others."""
    # a pruned weight is masked, which multiplies element by element
    if "weight" in vars(module) and "weight_mask" not in module._buffers:
        return None
    if isinstance(module, Costed):
        return module
    form = STOCK.get(type(module))
    return None if form is None else StockLayer(module, form)
