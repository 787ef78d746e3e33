"""What an operator does element by element, by kind: elements, which are no MACs and which closed forms do not state.

``e4profile.conventions.ELEMENT_KINDS`` says the unit of each kind. Beside the operators that map elements one by one
these are what rules of published tools charge of norms, biases and embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from e4profile.conventions import ELEMENT_KINDS
from e4profile.witnesses.counts.free import family_of

Elements = Callable[["dict[str, int]", tuple[Any, ...], Any, Any], None]
"""Adds what one call did to amounts by kind: from its arguments, what it returned, and the walk that it ran in."""

_BY_NAME = {
    "rsub": "sub", "true_divide": "div", "floor_divide": "div", "clamp_min": "clamp", "clamp_max": "clamp",
    "fmax": "maximum", "fmin": "minimum", "pow": "pow", "_prelu_kernel": "prelu", "amax": "max", "amin": "min",
    "_softmax": "softmax", "_safe_softmax": "attention_softmax", "_log_softmax": "log_softmax",
    "_adaptive_avg_pool2d": "adaptive_avg_pool", "_adaptive_avg_pool3d": "adaptive_avg_pool",
    "max_pool2d_with_indices": "max_pool", "max_pool3d_with_indices": "max_pool",
    "special_erf": "erf",
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), "compare"),
    **{f"{kind}{rank}d": kind for kind in ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool")
       for rank in (1, 2, 3)},
    **{f"upsample_{way}{rank}d": f"upsample_{way}" for way in ("nearest", "bilinear", "bicubic") for rank in (1, 2, 3)},
    **{f"_upsample_nearest_exact{rank}d": "upsample_nearest" for rank in (1, 2, 3)},
    "grid_sampler_2d": "grid_sampler", "grid_sampler_3d": "grid_sampler",
}  # fmt: skip
"""The kind of an operator whose name is another."""

_OF_INPUTS = frozenset(kind for kind, unit in ELEMENT_KINDS.items() if unit == "elements of the input")
_ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


@dataclass(frozen=True, slots=True)
class ElementWork:
    """What calls of one operator overload do element by element.

    Attributes:
        kind: counted in the elements of one tensor; empty where ``add`` counts.
        of_input: whether that is the first argument, and not the result.
        add: counts anything else.
    """

    kind: str = ""
    of_input: bool = False
    add: Elements | None = None


def element_work(func: Any) -> ElementWork | None:
    """What an operator overload does element by element; None for one that does nothing of the kind."""
    name: str = func._schema.name.removeprefix("aten::")
    short = name.removesuffix("_") if func._schema.is_mutable else name
    if short in _SPECIAL:
        return ElementWork(add=_SPECIAL[short])
    kind = _BY_NAME.get(short, short)
    if short == "mul" and func._overloadname == "Scalar":
        # Python multiplies by a number with another overload; this one is what fused attention is made of
        kind = "attention_scaling"
    if kind not in ELEMENT_KINDS:
        if family_of(func) != "element by element":
            return None
        kind = "other_elementwise"
    given, made = func._schema.arguments, func._schema.returns
    if kind in _OF_INPUTS:
        return ElementWork(kind, of_input=True) if given and str(given[0].type) == "Tensor" else None
    # what returns several tensors, or writes to a list of them, is counted by the first
    return ElementWork(kind) if len(made) == 1 and str(made[0].type) == "Tensor" else ElementWork(add=_first_of(kind))


def _add(amounts: dict[str, int], kind: str, amount: int) -> None:
    amounts[kind] = amounts.get(kind, 0) + amount


def _first_of(kind: str) -> Elements:
    def elements(amounts: dict[str, int], _: Any, out: Any, __: Any) -> None:
        tensors = out if isinstance(out, (tuple, list)) else (out,)
        first = next((one for one in tensors if isinstance(one, Tensor)), None)
        if first is not None:
            _add(amounts, kind, first.numel())

    return elements


def _mean(amounts: dict[str, int], arguments: tuple[Any, ...], _: Any, walk: Any) -> None:
    # pooling to one pixel is dispatched as a mean
    pooling = walk.running is not None and isinstance(walk.running.module, _ADAPTIVE)
    _add(amounts, "adaptive_avg_pool" if pooling else "mean", arguments[0].numel())


def _sum(amounts: dict[str, int], arguments: tuple[Any, ...], out: Any, _: Any) -> None:
    _add(amounts, "sum", arguments[0].numel())
    _add(amounts, "sum_outputs", out.numel())


def _bias(kind: str, place: int) -> Elements:
    def elements(amounts: dict[str, int], arguments: tuple[Any, ...], out: Any, _: Any) -> None:
        if len(arguments) > place and arguments[place] is not None:
            _add(amounts, kind, out.numel())

    return elements


def _norm(weight: int, statistics: bool | int) -> Elements:
    """Of a norm: where its weight is given, and whether it computes statistics, or where it is told to."""

    def elements(amounts: dict[str, int], arguments: tuple[Any, ...], _: Any, __: Any) -> None:
        features = arguments[0]
        parameters = [one for one in arguments[weight : weight + 2] if isinstance(one, Tensor)]
        if parameters:
            _add(amounts, "norm_affine", features.numel())
            _add(amounts, "norm_weights", sum(one.numel() for one in parameters) * features.shape[0])
        if statistics if isinstance(statistics, bool) else arguments[statistics] is not False:
            _add(amounts, "batch_norm_statistics", features.numel())

    return elements


def _embedding(amounts: dict[str, int], arguments: tuple[Any, ...], out: Any, _: Any) -> None:
    _add(amounts, "embedding_weights", arguments[0].numel() * out.shape[0])


_SPECIAL: Mapping[str, Elements] = {
    "mean": _mean,
    "sum": _sum,
    "embedding": _embedding,
    "addmm": _bias("linear_bias", 0),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), _bias("convolution_bias", 2)),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "miopen_batch_norm"),
                    _norm(1, 5)),
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "_batch_norm_no_update", "native_group_norm"),
                    _norm(1, False)),
    **dict.fromkeys(("_batch_norm_with_update", "_batch_norm_with_update_functional"), _norm(1, True)),
    "native_layer_norm": _norm(2, False),
}  # fmt: skip
