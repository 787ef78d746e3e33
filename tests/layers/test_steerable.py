"""Steerable convolutions: the kernel constraint, exactness on the grid, costs, caching."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from e4profile.conventions import EXPANSION, EXPANSION_REFERENCE
from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import as_group
from e4profile.layers import SteerableConv2d
from e4profile.layers.steerable import (
    acted,
    dense_filter_bytes,
    evaluate_functions,
    expansion_share,
    grid_points,
    kernel_functions,
    sampled_basis,
)
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import randomise

BASIS_SIZES = {1: 1, 3: 6, 5: 11, 7: 18, 9: 31}
FIELDS = ("regular", "trivial")
FIELD_PAIRS = list(itertools.product(FIELDS, FIELDS))
GROUPS = ("D1", "C3", "C4", "D4", "C6", "C8", "D8", "C16")


def layer_of(group, kernel=3, *, c_in=2, c_out=2, seed=0, **arguments):
    layer = SteerableConv2d(c_in, c_out, kernel, group=group, **arguments)
    return randomise(layer.double().eval(), seed)


def permutation_of(group, element, field):
    """``acted[h] = field[permutation[h]]`` for one field's channels."""
    return list(group.regular_permutation(element)) if field == "regular" else [0]


def per_channel(permutation, fields):
    size = len(permutation)
    return [field * size + index for field in range(fields) for index in permutation]


@pytest.mark.parametrize(("kernel", "size"), list(BASIS_SIZES.items()))
def test_basis_sizes_are_the_published_ones(kernel, size):
    assert len(kernel_functions(kernel)) == size


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kernel", list(BASIS_SIZES))
def test_basis_is_independent_on_the_grid(group, kernel):
    group = as_group(group)
    samples = sampled_basis(group, kernel, rotated=False)
    assert torch.linalg.matrix_rank(samples) == BASIS_SIZES[kernel]


@pytest.mark.parametrize("angle", [0.3, math.pi / 4, 2.5])
def test_rotating_a_function_steers_within_its_frequency(angle):
    functions = kernel_functions(7)
    points = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    points[0] = 0  # a turn fixes the origin: what varies with the angle must vanish there
    cos, sin = math.cos(angle), math.sin(angle)
    turned = points @ torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    before, after = evaluate_functions(functions, points), evaluate_functions(functions, turned)
    place = {one: i for i, one in enumerate(functions)}
    for one, column in place.items():
        # the angle from the upright axis runs clockwise, so a counter-clockwise turn subtracts
        c, s = math.cos(one.frequency * angle), math.sin(one.frequency * angle)
        even = before[:, place[one._replace(odd=False)]]
        odd = before[:, place[one._replace(odd=True)]] if one.frequency else torch.zeros_like(even)
        expected = odd * c - even * s if one.odd else even * c + odd * s
        assert (after[:, column] - expected).abs().max() < 1e-12


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("field_in", "field_out"), FIELD_PAIRS)
def test_continuous_kernel_satisfies_the_constraint(group, field_in, field_out):
    """kappa(g x) = rho_out(g) kappa(x) rho_in(g)^-1 for every element, 45 degrees included."""
    layer = layer_of(group, 5, field_in=field_in, field_out=field_out)
    group = layer.group
    points = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2
    kernel = layer.kernel_at(points)
    assert kernel.abs().max() > 0.1
    for element in group.elements:
        rows = per_channel(permutation_of(group, element, field_out), layer.c_out)
        columns = per_channel(permutation_of(group, element, field_in), layer.c_in)
        moved = layer.kernel_at(acted(group, element, points))
        assert (moved - kernel[:, rows][:, :, columns]).abs().max() < 1e-12, element


@pytest.mark.parametrize("group", ["D1", "C4", "C8", "D8"])
@pytest.mark.parametrize(("field_in", "field_out"), FIELD_PAIRS)
def test_filters_are_the_samples_of_the_continuous_kernel(group, field_in, field_out):
    layer = layer_of(group, 5, c_in=2, c_out=3, field_in=field_in, field_out=field_out)
    sampled = layer.kernel_at(grid_points(5)).permute(1, 2, 0).unflatten(-1, (5, 5))
    with torch.no_grad():
        assert (layer.filters() - sampled).abs().max() < 1e-12


@pytest.mark.parametrize(("name", "grid_name"), [("C8", "C4"), ("D8", "D4"), ("C16", "C4"), ("C6", "C2")])
@pytest.mark.parametrize(("field_in", "field_out"), FIELD_PAIRS)
def test_elements_that_keep_the_grid_act_exactly(name, grid_name, field_in, field_out):
    layer = layer_of(name, 5, field_in=field_in, field_out=field_out, padding=2, stride=2, bias=True)
    group, grid = layer.group, as_group(grid_name)
    assert "off the grid" in layer.inexact_on((1, 1, 7, 7))

    def act(features, element, field):
        rotation, mirror = grid.split(element)
        same = rotation * group.rotations // grid.rotations + (group.rotations if mirror else 0)
        fields = features.shape[1] // (group.order if field == "regular" else 1)
        channels = per_channel(permutation_of(group, same, field), fields)
        return grid.act_on_grid(features[:, channels], element)

    inputs = torch.randn(
        2, layer.filter_shape[1], 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    with torch.no_grad():
        outputs = layer(inputs)
        for element in grid.elements:
            error = (layer(act(inputs, element, field_in)) - act(outputs, element, field_out)).abs().max()
            assert error < 1e-10 * outputs.abs().max(), element


def test_wrong_turns_are_seen():
    """The exactness above is not an accident of symmetric filters: the inverse element does not fit."""
    layer = layer_of("C8", 5)
    group, grid = layer.group, as_group("C4")
    inputs = torch.randn(1, 16, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    wrong = per_channel(permutation_of(group, 6, "regular"), 2)
    with torch.no_grad():
        outputs = layer(inputs)
        moved = layer(grid.act_on_grid(inputs[:, wrong], 1))
        assert (moved - grid.act_on_grid(outputs[:, wrong], 1)).abs().max() > 0.1 * outputs.abs().max()


@settings(max_examples=40, deadline=None)
@given(
    group=st.sampled_from(("z2", *GROUPS, "D3")),
    kernel=st.sampled_from((1, 3, 5)),
    c_in=st.integers(1, 3),
    c_out=st.integers(1, 3),
    field_in=st.sampled_from(FIELDS),
    field_out=st.sampled_from(FIELDS),
    bias=st.booleans(),
    batch=st.integers(1, 3),
    training=st.booleans(),
)
def test_closed_form_is_what_runs(group, kernel, c_in, c_out, field_in, field_out, bias, batch, training):
    layer = SteerableConv2d(
        c_in, c_out, kernel, group=group, field_in=field_in, field_out=field_out, bias=bias, padding=1, stride=2
    )
    inputs = torch.zeros(batch, layer.filter_shape[1], 8, 9)
    cost = layer.cost(inputs.shape)
    counted = count_dispatch(layer, (inputs,), training=training)
    expected = {"convolution": cost.total_macs}
    if training:
        expected[EXPANSION] = cost.elements["expansion"]
    assert counted.uncounted == {}
    assert counted.operations == expected
    assert cost.total_params == sum(parameter.numel() for parameter in layer.parameters())
    assert layer.output_shape(tuple(inputs.shape)) == tuple(layer(inputs).shape)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kernel", list(BASIS_SIZES))
def test_costs_between_regular_fields_are_the_published_forms(group, kernel):
    layer = SteerableConv2d(3, 2, kernel, group=group, padding=kernel // 2)
    order, basis = layer.group.order, BASIS_SIZES[kernel]
    cost = layer.cost((4, 3 * order, 6, 5))
    assert cost.params == {"weight": 3 * 2 * order * basis, "bias": 0}
    assert cost.macs == {"convolution": 4 * 3 * 2 * order**2 * kernel**2 * 30}
    assert cost.elements == {
        "expansion": 3 * 2 * order**2 * kernel**2 * basis,
        "expansion by the reference library": 3 * 2 * order**3 * kernel**2 * basis,
    }
    assert cost.total("macs") == cost.macs["convolution"]
    share = expansion_share(cost.operations, EXPANSION_REFERENCE)
    assert share / (1 - share) == Fraction(order * basis, 4 * 30)
    assert expansion_share({"convolution": 5}) == 0


def test_evaluation_keeps_filters_of_the_stated_size():
    layer = SteerableConv2d(2, 3, 3, group="D4").eval()
    with torch.no_grad():
        layer.filters()
        kept = layer._cached_filters[0].clone()
        assert layer.filter_bytes() == dense_filter_bytes(torch.nn.Sequential(layer)) == kept.nbytes
        layer.weight.mul_(2)
        assert torch.equal(layer.filters(), 2 * kept)
    layer.train()
    assert layer._cached_filters is None
    assert layer.filters().requires_grad


def test_filters_kept_in_inference_mode_do_not_block_gradients_of_the_input():
    layer = SteerableConv2d(1, 1, 3, group="C4").double().eval().requires_grad_(False)
    inputs = torch.ones(1, 4, 3, 3, dtype=torch.float64)
    with torch.inference_mode():
        layer(inputs)
    layer(inputs.requires_grad_()).sum().backward()
    assert (inputs.grad[0] - layer.filters().sum(0)).abs().max() < 1e-12


def test_training_and_evaluation_agree_and_gradients_are_right():
    layer = SteerableConv2d(1, 1, 3, group="C8", field_in="trivial").double()
    inputs = torch.randn(1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    trained = layer(inputs)
    with torch.no_grad():
        assert torch.equal(layer.eval()(inputs), trained)

    def by_weight(weight):
        return torch.func.functional_call(layer.train(), {"weight": weight}, (inputs,))

    assert torch.autograd.gradcheck(by_weight, layer.weight.detach().requires_grad_())


def test_casting_never_rounds_the_basis_and_layers_share_it():
    layer = SteerableConv2d(1, 1, 3, group="C8")
    other = SteerableConv2d(4, 2, 3, group="C8")
    assert layer.basis_bits.data_ptr() == other.basis_bits.data_ptr()
    exact = sampled_basis(layer.group, 3, rotated=True)
    layer.half().double()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(8, 6)[None, None])
    assert torch.equal(layer.filter_values()[0, 0, :6], exact)


def test_initial_outputs_keep_the_variance_of_a_relu_network():
    torch.manual_seed(6)
    layer = SteerableConv2d(24, 24, 3, group="C8")
    inputs = torch.randn(2, 192, 12, 12)
    with torch.no_grad():
        assert 1.7 < layer(inputs).var() < 2.3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel": 4}, SettingError, "kernel \\(=4\\) must be odd"),
        ({"kernel": 3, "field_in": "vector"}, UnknownNameError, "vector"),
        ({"kernel": 3, "field_out": "irrep"}, UnknownNameError, "irrep"),
        ({"kernel": 3, "padding": -1}, SettingError, "padding \\(=-1\\)"),
        ({"kernel": 3, "stride": 0}, SettingError, "stride \\(=0\\)"),
    ],
)
def test_refuses_by_value(arguments, error, message):
    with pytest.raises(error, match=message):
        SteerableConv2d(1, 1, group="C8", **arguments)
