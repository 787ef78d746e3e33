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
from e4profile.layers.storages import INDEX, MASK, STATISTICS, Step, Timeline, norm_timeline
from e4profile.layers.terms import Term, Terms
from e4profile.symbols import (
    B,
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
    ``hands_on_input`` the module. The saved tables are those of ``e4profile.layers.storages``.
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
    peak: Timeline | None = None


class StockLayer:
    """A stock module seen through its closed form."""

    def __init__(self, module: nn.Module, form: StockForm) -> None:
        self.module, self.form = module, form
        self.params, self.macs, self.elements = form.params, form.macs, form.elements
        self.kinds, self.printed = form.kinds, form.printed
        self.saved, self.saved_constant, self.saved_as = form.saved, form.saved_constant, form.saved_as
        if any(parameter.is_complex() for parameter in module.parameters(recurse=False)):
            # a MAC of complex numbers is four of real ones
            self.macs = {name: 4 * term for name, term in form.macs.items()}

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


def _not_in_place(module: nn.SiLU) -> bool:
    if module.inplace:
        raise SettingError(f"no closed form for what {module} saves: it copies its input before writing to it")
    return False


def _drops_nothing(dropout: nn.Dropout | nn.Dropout2d) -> bool:
    if dropout.p == 1:
        raise SettingError(f"no closed form for what {dropout} saves: p=1 is a product with zero")
    return dropout.p == 0 or dropout.inplace


_INPUT = {"gradient of input": B * n_in}


def _weighted_peak(output: Term, features: Term, weight: Term) -> Timeline:
    """A convolution or a linear map."""
    return Timeline(
        forward=(Step("apply weight", {"output": B * output}),),
        backward=(
            Step(
                "apply weight, backward",
                {"gradient of input": B * features, "gradient of weight": weight, "gradient of bias": has_bias * c_out},
            ),
        ),
    )


def _pool_peak(indexed: bool) -> Timeline:
    indices = {"indices": B * n_out} if indexed else {}
    return Timeline(
        forward=(Step("pool", {"output": B * n_out, **indices}),),
        backward=(Step("pool, backward", _INPUT, tuple(indices)),),
        units=dict.fromkeys(indices, INDEX),
    )


def _dropout_peak(mask: Term) -> Timeline:
    return Timeline(
        forward=(Step("draw mask", {"mask": B * mask}), Step("multiply", {"output": B * n_in})),
        backward=(Step("multiply, backward", _INPUT, ("mask",)),),
    )


_ELEMENTWISE_PEAK = Timeline(
    forward=(Step("apply", {"output": B * n_in}),), backward=(Step("apply, backward", _INPUT),)
)


def _batch_norm(dimensions: Callable[[Any, Shape], Dimensions], elements: Term) -> StockForm:
    return StockForm(
        dimensions, _same_shape, params=_NORM_PARAMS, elements={"norm": elements}, kinds={"norm": BATCH_NORM},
        saved={"input": elements}, saved_constant={"statistics": 2 * c_in}, saved_as={"statistics": STATISTICS},
        peak=norm_timeline(B * elements, c_in, _NORM_PARAMS, STATISTICS),
    )  # fmt: skip


def _max_pool(dimensions: Callable[[Any, Shape], Dimensions], output_shape: Callable[[Any, Shape], Shape]) -> StockForm:
    return StockForm(
        dimensions, output_shape, saved={"input": n_in, "indices": n_out}, saved_as={"indices": INDEX},
        peak=_pool_peak(indexed=True),
    )  # fmt: skip


def _dropout(mask: Term) -> StockForm:
    return StockForm(
        _dropout_dimensions, _same_shape, saved={"mask": is_masked * mask}, saved_as={"mask": MASK},
        hands_on_input=_drops_nothing, peak=_dropout_peak(mask),
    )  # fmt: skip


_KEEPS_INPUT = StockForm(_element_dimensions, _same_shape, saved={"input": n_in}, peak=_ELEMENTWISE_PEAK)

STOCK: dict[type[nn.Module], StockForm] = {
    nn.Conv2d: StockForm(
        _conv_dimensions,
        lambda conv, shape: (shape[0], conv.out_channels, *_windows(conv, shape, conv.in_channels)),
        params={"weight": c_in * c_out * k_h * k_w / n_groups, "bias": has_bias * c_out},
        macs={"convolution": c_in * c_out * k_h * k_w * h_out * w_out / n_groups},
        saved={"input": c_in * h * w},
        kinds={"convolution": CONVOLUTION},
        printed={"params": ("weight",), "macs": ("convolution",)},
        peak=_weighted_peak(c_out * h_out * w_out, c_in * h * w, c_in * c_out * k_h * k_w / n_groups),
    ),
    nn.Linear: StockForm(
        _linear_dimensions,
        lambda linear, shape: (shape[0], linear.out_features),
        params={"weight": c_in * c_out, "bias": has_bias * c_out},
        macs={"linear": c_in * c_out},
        saved={"input": c_in},
        kinds={"linear": LINEAR},
        peak=_weighted_peak(c_out, c_in, c_in * c_out),
    ),
    nn.BatchNorm2d: _batch_norm(_norm_dimensions, c_in * h * w),
    nn.BatchNorm1d: _batch_norm(_flat_norm_dimensions, c_in),
    nn.GroupNorm: StockForm(
        _group_norm_dimensions,
        _same_shape,
        params=_NORM_PARAMS,
        elements={"norm": c_in * h * w},
        kinds={"norm": GROUP_NORM},
        saved={"input": c_in * h * w, "statistics": 2 * n_groups},
        peak=norm_timeline(B * c_in * h * w, B * n_groups, _NORM_PARAMS),
    ),
    nn.MaxPool2d: _max_pool(_pooled_dimensions, _pooled_shape),
    nn.AvgPool2d: StockForm(_pooled_dimensions, _pooled_shape, saved={"input": n_in}, peak=_pool_peak(indexed=False)),
    nn.AdaptiveAvgPool2d: StockForm(
        _adaptive_dimensions, _adaptive_shape, saved={"input": keeps_input * n_in}, peak=_pool_peak(indexed=False)
    ),
    nn.AdaptiveMaxPool2d: _max_pool(_adaptive_dimensions, _adaptive_shape),
    nn.Flatten: StockForm(
        _element_dimensions, _flat_shape, saved={}, hands_on_input=lambda _: True, peak=Timeline((), ())
    ),
    nn.ReLU: StockForm(
        _element_dimensions,
        _same_shape,
        saved={"output": n_in},
        hands_on_input=lambda relu: relu.inplace,
        peak=_ELEMENTWISE_PEAK,
    ),
    nn.SiLU: StockForm(
        _element_dimensions, _same_shape, saved={"input": n_in}, hands_on_input=_not_in_place, peak=_ELEMENTWISE_PEAK
    ),
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
    form = STOCK.get(type(module))
    if form is not None:
        return StockLayer(module, form)
    return module if isinstance(module, Costed) else None


def stock_no_peak(module: nn.Module) -> str | None:
    """Why no timeline holds for a stock module, or None where one does."""
    name, form = type(module).__name__, STOCK.get(type(module))
    if isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout | nn.Dropout2d) and module.p == 0):
        return f"{module} returns its input itself and allocates nothing"
    if form is None or form.peak is None:
        return f"{name} states no timeline of its storages"
    if getattr(module, "inplace", False):
        return f"{module} writes to its input: what it allocates depends on what else holds that input"
    if isinstance(module, nn.Dropout | nn.Dropout2d) and module.p == 1:
        return f"{module}: p=1 is a product with zero"
    return None
