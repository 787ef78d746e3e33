"""What every registered layer promises. A new layer is tested by being registered."""

from __future__ import annotations

import inspect

import pytest
import torch

from e4profile.conventions import MAC_KINDS, NORM_KINDS
from e4profile.groups import GRID_EXACT
from e4profile.layers import LAYERS
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise

CASES = [
    pytest.param(layer, sample, group, id=f"{name}-{index}-{group.name}")
    for name, layer in sorted(LAYERS.items())
    if layer.has_closed_form()
    for index, sample in enumerate(layer.samples())
    for group in GRID_EXACT
]


def build(layer, sample, group):
    torch.manual_seed(0)
    return layer(**sample.arguments, group=group)


def input_for(module, sample, group, batch=2):
    fields = (
        sample.channels
        if sample.channels is not None
        else next(value for key, value in sample.arguments.items() if key in ("c_in", "fields"))
    )
    channels = fields * (group.order if module.field_in == "regular" else 1)
    torch.manual_seed(1)
    return torch.randn(batch, channels, *sample.size, dtype=torch.float64)


@pytest.mark.parametrize(("layer", "sample", "group"), CASES)
def test_closed_form_equals_what_runs(layer, sample, group):
    module = build(layer, sample, group)
    inputs = input_for(module, sample, group).float()
    cost = module.cost(inputs.shape)
    counted = count_dispatch(module, (inputs,))
    compared = (*MAC_KINDS, *NORM_KINDS)
    assert counted.uncounted == {}
    assert counted.operations == {kind: n for kind, n in cost.operations.items() if kind in compared}
    assert cost.total_params == counted.params == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("layer", "sample", "group"), CASES)
def test_output_shape_is_the_real_one(layer, sample, group):
    module = build(layer, sample, group).double().eval()
    inputs = input_for(module, sample, group)
    with torch.no_grad():
        assert module.output_shape(tuple(inputs.shape)) == tuple(module(inputs).shape)


@pytest.mark.parametrize(("layer", "sample", "group"), CASES)
def test_equivariant_for_every_element_or_says_why_not(layer, sample, group):
    module = randomise(build(layer, sample, group).double().eval(), seed=3)
    inputs = input_for(module, sample, group)
    reason = module.inexact_on(tuple(inputs.shape))
    errors = equivariance_errors(module, inputs, group, module.field_in, module.field_out)
    if reason is None:
        assert max(errors) < 1e-10
    else:
        assert max(errors) > 1e-8, f"the layer is exact here but says: {reason}"


@pytest.mark.parametrize(("layer", "sample", "group"), CASES)
def test_gradients_reach_every_parameter(layer, sample, group):
    module = randomise(build(layer, sample, group).double().train(), seed=4)
    inputs = input_for(module, sample, group).requires_grad_()
    output = module(inputs)
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_convolution_is_plain_unless_asked():
    """As published: without padding, stride and bias; the pointwise map is the one with a bias, as a linear map."""
    plain = {"stride": 1, "padding": 0, "bias": False}
    for name, layer in LAYERS.items():
        defaults = {key: one.default for key, one in inspect.signature(layer).parameters.items() if key in plain}
        assert defaults == {key: plain[key] for key in defaults} | ({"bias": True} if name == "PointwiseConv2d" else {})


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_documents_its_terms(name):
    layer = LAYERS[name]
    assert layer.__doc__
    for part in ("params", "macs"):
        table = getattr(layer, part)
        assert set(layer.printed.get(part, ())) <= set(table)
    if layer.has_closed_form():
        assert layer.source
    assert set(layer.kinds) <= {*layer.macs, *layer.elements}
