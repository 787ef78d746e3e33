"""The storages of PyTorch's own layers, as timelines: by exact class, for a subclass may do anything."""

from __future__ import annotations

from torch import nn

from e4profile.layers.peak import Step, Timeline
from e4profile.layers.saved import INDEX, STATISTICS
from e4profile.layers.terms import Term
from e4profile.symbols import B, c_in, c_out, h, h_out, has_affine, has_bias, k_h, k_w, n_groups, n_in, n_out, w, w_out

_INPUT = {"gradient of input": B * n_in}


def _weighted(output: Term, features: Term, weight: Term) -> Timeline:
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


def _norm(elements: Term, statistics: Term, unit: str | None = None) -> Timeline:
    return Timeline(
        forward=(Step("normalise", {"output": B * elements, "means": statistics, "deviations": statistics}),),
        backward=(
            Step(
                "normalise, backward",
                {
                    "gradient of input": B * elements,
                    "gradient of weight": has_affine * c_in,
                    "gradient of bias": has_bias * c_in,
                },
                ("means", "deviations"),
            ),
        ),
        units={} if unit is None else {"means": unit, "deviations": unit},
    )


def _pool(indexed: bool) -> Timeline:
    indices = {"indices": B * n_out} if indexed else {}
    return Timeline(
        forward=(Step("pool", {"output": B * n_out, **indices}),),
        backward=(Step("pool, backward", _INPUT, tuple(indices)),),
        units=dict.fromkeys(indices, INDEX),
    )


def _dropout(mask: Term) -> Timeline:
    return Timeline(
        forward=(Step("draw mask", {"mask": B * mask}), Step("multiply", {"output": B * n_in})),
        backward=(Step("multiply, backward", _INPUT, ("mask",)),),
    )


_ELEMENTWISE = Timeline(forward=(Step("apply", {"output": B * n_in}),), backward=(Step("apply, backward", _INPUT),))
_VIEW = Timeline((), ())

STOCK_PEAK: dict[type[nn.Module], Timeline] = {
    nn.Conv2d: _weighted(c_out * h_out * w_out, c_in * h * w, c_in * c_out * k_h * k_w / n_groups),
    nn.Linear: _weighted(c_out, c_in, c_in * c_out),
    nn.BatchNorm2d: _norm(c_in * h * w, c_in, STATISTICS),
    nn.BatchNorm1d: _norm(c_in, c_in, STATISTICS),
    nn.GroupNorm: _norm(c_in * h * w, B * n_groups),
    nn.MaxPool2d: _pool(indexed=True),
    nn.AdaptiveMaxPool2d: _pool(indexed=True),
    nn.AvgPool2d: _pool(indexed=False),
    nn.AdaptiveAvgPool2d: _pool(indexed=False),
    nn.ReLU: _ELEMENTWISE,
    nn.SiLU: _ELEMENTWISE,
    nn.GELU: _ELEMENTWISE,
    nn.ELU: _ELEMENTWISE,
    nn.Dropout: _dropout(n_in),
    nn.Dropout2d: _dropout(c_in),
    nn.Flatten: _VIEW,
}


def stock_no_peak(module: nn.Module) -> str | None:
    """Why no timeline holds for a stock module, or None where one does."""
    name = type(module).__name__
    if isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout | nn.Dropout2d) and module.p == 0):
        return f"{module} hands on its input itself: it makes nothing of its own"
    if type(module) not in STOCK_PEAK:
        return f"{name} states no timeline of its storages"
    if getattr(module, "inplace", False):
        return f"{module} writes to its input: what it makes depends on what else holds that"
    if isinstance(module, nn.Dropout | nn.Dropout2d) and module.p == 1:
        return f"{module}: p=1 is a product with zero"
    return None
