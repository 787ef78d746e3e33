"""Steerable convolutions against escnn, the reference library: the same span, parameters and cost of expansion.

escnn needs an older numpy than the rest: ``make test-escnn`` runs this file in an environment of its own.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from test_steerable import FIELD_PAIRS, GROUPS
from torch.utils.flop_counter import FlopCounterMode

from e4profile.conventions import EXPANSION_REFERENCE
from e4profile.layers import SteerableConv2d

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("escnn", reason="escnn is not in this environment: make test-escnn")
    from escnn import gspaces, nn


def reference_space(name):
    if name == "D1":
        return gspaces.flip2dOnR2()
    kind = gspaces.flipRot2dOnR2 if name[0] == "D" else gspaces.rot2dOnR2
    return kind(int(name[1:]))


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize(("field_in", "field_out"), FIELD_PAIRS)
def test_reference_library_expands_at_the_stated_cost(name, field_in, field_out):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        space = reference_space(name)
        fields = {"regular": space.regular_repr, "trivial": space.trivial_repr}
        types = [nn.FieldType(space, n * [fields[field]]) for n, field in ((2, field_in), (3, field_out))]
        theirs = nn.R2Conv(*types, 5, bias=False, initialize=False)
        with FlopCounterMode(display=False) as flops:
            theirs.expand_parameters()
    ours = SteerableConv2d(2, 3, 5, group=name, field_in=field_in, field_out=field_out)
    cost = ours.cost((1, ours.filter_shape[1], 5, 5))
    assert flops.get_total_flops() == 2 * cost.operations[EXPANSION_REFERENCE]


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("field_in", "field_out"), FIELD_PAIRS)
def test_reference_library_has_the_same_parameters_and_span(name, kernel, field_in, field_out):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        space = reference_space(name)
        fields = {"regular": space.regular_repr, "trivial": space.trivial_repr}
        types = [nn.FieldType(space, [fields[field]]) for field in (field_in, field_out)]
        theirs = nn.R2Conv(*types, kernel, bias=False, initialize=False)
    ours = SteerableConv2d(1, 1, kernel, group=name, field_in=field_in, field_out=field_out).double()
    assert theirs.weights.numel() == ours.weight.numel()

    def kernels(expand, parameter):
        rows = []
        for index in range(parameter.numel()):
            with torch.no_grad():
                parameter.zero_().view(-1)[index] = 1
                rows.append(expand().detach().double().flatten().clone())
        return torch.stack(rows)

    own = kernels(ours.expand_filters, ours.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = kernels(lambda: theirs.expand_parameters()[0], theirs.weights)
    # what projecting one span onto the other leaves over; the reference is computed in float32
    left_over = other - torch.linalg.lstsq(own.T, other.T).solution.T @ own
    assert torch.linalg.matrix_rank(own) == len(own)
    assert left_over.abs().max() < 1e-5 * other.abs().max()
