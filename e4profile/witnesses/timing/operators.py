"""Which named term an operator's time belongs to: from the operator and from the modules around it.

A layer says what it does through its closed form, so a new layer needs no entry here: a form of norm elements
alone is a norm, a form with expanded filters expands them with whatever is not a convolution or a pooling, and
``operation_kind`` says what a module's products are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from e4profile.conventions import AGGREGATION, ATTENTION, CONVOLUTION, EXPANSION, LINEAR
from e4profile.layers.e4 import E4Conv2d
from e4profile.layers.filter_bank import FilterBankLayer
from e4profile.layers.pooling import GroupMaxPool, GroupMeanPool
from e4profile.layers.space import SpatialSum
from e4profile.layers.stock import as_costed

EXPANSION_TERM = "filter expansion"
CONVOLUTION_TERM = "convolution"
GENERATOR_TERM = "generator"
AGGREGATION_TERM = "aggregation"
ATTENTION_TERM = "attention"
LINEAR_TERM = "linear"
NORM_TERM = "norm"
ACTIVATION_TERM = "activation"
POOLING_TERM = "pooling"
OTHER_TERM = "other"

TERMS = (
    EXPANSION_TERM,
    CONVOLUTION_TERM,
    GENERATOR_TERM,
    AGGREGATION_TERM,
    ATTENTION_TERM,
    LINEAR_TERM,
    NORM_TERM,
    ACTIVATION_TERM,
    POOLING_TERM,
    OTHER_TERM,
)

_POOLS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool2d,
    GroupMaxPool,
    GroupMeanPool,
    SpatialSum,
)
_OWN_OPERATORS = "e4profile::"
_FUSED_OPERATOR = "e4profile::generate_aggregate"
_BY_NAME = {
    ATTENTION_TERM: ("attention",),
    NORM_TERM: ("batch_norm", "group_norm", "layer_norm", "rms_norm"),
    POOLING_TERM: ("max_pool", "avg_pool"),
    ACTIVATION_TERM: ("elu", "silu", "sigmoid", "tanh", "threshold", "hardswish", "mish", "softplus"),
}
_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "einsum", "mv", "dot"})
_KIND_TERMS = {AGGREGATION: AGGREGATION_TERM, ATTENTION: ATTENTION_TERM, LINEAR: LINEAR_TERM}


@dataclass(frozen=True)
class Opinion:
    """What a module says about operators inside it.

    Attributes:
        products: the term of matrix products.
        rest: the term of operators that no name decides, such as copies; None leaves it to the module around.
        convolutions: the term of convolutions.
    """

    products: str
    rest: str | None
    convolutions: str = CONVOLUTION_TERM


def opinion(module: nn.Module) -> Opinion | None:
    """What a module says about operators inside it; None for one that leaves it to the module around."""
    if isinstance(module, E4Conv2d):
        # its branches, norms and aggregation are modules of their own: what is left generates stencils
        return Opinion(GENERATOR_TERM, GENERATOR_TERM, GENERATOR_TERM)
    if isinstance(module, _POOLS):
        return Opinion(POOLING_TERM, POOLING_TERM)
    if isinstance(module, nn.MultiheadAttention):
        # PyTorch runs it as one operator where it can
        return Opinion(ATTENTION_TERM, ATTENTION_TERM)
    return _opinion_of_form(module)


def _opinion_of_form(module: nn.Module) -> Opinion | None:
    form = as_costed(module)
    kind = getattr(module, "operation_kind", None)
    constant = getattr(form, "saved_constant", {})
    expands = isinstance(module, FilterBankLayer) or any(name.endswith("filters") for name in constant)
    if kind == EXPANSION or (expands and kind is None):
        return Opinion(EXPANSION_TERM, EXPANSION_TERM)
    if kind in _KIND_TERMS:
        return Opinion(_KIND_TERMS[kind], _KIND_TERMS[kind])
    if form is not None and form.elements and not form.macs:
        return Opinion(NORM_TERM, NORM_TERM)
    kinds = set() if form is None else {form.kinds.get(name, CONVOLUTION) for name in form.macs}
    return Opinion(CONVOLUTION_TERM, None) if kinds == {CONVOLUTION} else None


def term_of(operators: Sequence[str], modules: Sequence[nn.Module]) -> str:
    """The term of one operator.

    Args:
        operators: names from the outermost operator inside the innermost module to the operator itself.
        modules: the modules around it, the innermost first.
    """
    own = _own_term(operators)
    if own is not None:
        return own
    opinions = [found for found in map(opinion, modules) if found is not None]
    for operator in operators:
        name = _plain(operator)
        named = [term for term, parts in _BY_NAME.items() if any(part in name for part in parts)]
        if named:
            return named[0]
        if "conv" in name and "convert" not in name:
            return opinions[0].convolutions if opinions else CONVOLUTION_TERM
        if name in _PRODUCTS:
            return opinions[0].products if opinions else LINEAR_TERM
    return next((found.rest for found in opinions if found.rest is not None), OTHER_TERM)


def _plain(operator: str) -> str:
    """The operator's name without its namespace and the mark of working in place."""
    return operator.rpartition("::")[2].rstrip("_")


def _own_term(operators: Sequence[str]) -> str | None:
    """The term inside an operator of this package, forward or backward; None outside."""
    for position, operator in enumerate(operators):
        if operator.startswith(_OWN_OPERATORS):
            inside = {_plain(name) for name in operators[position + 1 :]}
            if operator.startswith(_FUSED_OPERATOR) and inside & _PRODUCTS:
                return GENERATOR_TERM
            return AGGREGATION_TERM
    return None


def term_of_macs(module: nn.Module, name: str, kind: str) -> str:
    """The term of a named cost term of a layer's closed form."""
    if isinstance(module, E4Conv2d) and name == "generator":
        return GENERATOR_TERM
    return _KIND_TERMS.get(kind, CONVOLUTION_TERM)


def term_of_kind(modules: Sequence[nn.Module], kind: str) -> str:
    """The term of MACs that ran in a module.

    Args:
        modules: the module that ran them and the ones around it, the innermost first.
        kind: of the dispatch counter.
    """
    says = next((found for found in map(opinion, modules) if found is not None), None)
    if says is not None and kind in (CONVOLUTION, LINEAR):
        return says.convolutions if kind == CONVOLUTION else says.products
    return _KIND_TERMS.get(kind, CONVOLUTION_TERM)
