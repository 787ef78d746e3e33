"""What a PyTorch user does with an operator: count, trace, copy, cast, run on the meta device."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from e4profile.ops import (
    FVCORE_HANDLES,
    aggregate,
    aggregation_macs,
    generate_aggregate_backward_macs,
    generate_aggregate_macs,
    generate_and_aggregate,
)

K = 3


def make(dtype=torch.float32, B=2):
    shapes = (B, 4, 5, 6, 6), (4, 18, 5), (4, 18), (B, 2, 3, 4, 6, 6)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def stencils_and_values(dtype=torch.float32, B=2):
    return [torch.randn(B, 4, 2, 9, 6, 6, dtype=dtype, requires_grad=True), make(dtype, B)[3]]


CALLS = [
    pytest.param(lambda *t: aggregate(*t, K), stencils_and_values, torch.ops.e4profile.aggregate, id="aggregate"),
    pytest.param(lambda *t: generate_and_aggregate(*t, K), make, torch.ops.e4profile.generate_aggregate, id="generate"),
]
each_call = pytest.mark.parametrize(("call", "inputs", "operator"), CALLS)


class Layer(torch.nn.Module):
    """A module that calls the operator."""

    def __init__(self, call):
        super().__init__()
        self.call = call
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, *tensors):
        return self.call(*tensors) * self.gain


@each_call
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_opcheck(call, inputs, operator, dtype):
    torch.library.opcheck(operator.default, (*inputs(dtype), K, 1, "auto"))


def test_opcheck_of_the_gradients():
    ops, (stencils, values), grad = torch.ops.e4profile, stencils_and_values(), torch.randn(2, 2, 3, 4, 6, 6)
    torch.library.opcheck(ops.aggregate_stencil_gradient.default, (grad, values, K, 1, "auto"))
    torch.library.opcheck(ops.aggregate_value_gradient.default, (grad, stencils, 6, 6, K, 1, "auto"))
    torch.library.opcheck(ops.aggregate_backward.default, (grad, stencils, values, K, 1, "auto"))
    for needs in ([True] * 4, [False, True, False, True]):
        arguments = (grad, *make(), K, 1, "auto", needs)
        torch.library.opcheck(ops.generate_aggregate_backward.default, arguments)


@each_call
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_trace_holds_the_operator(call, inputs, operator):
    tensors = inputs()
    traced = torch.jit.trace(Layer(call), tensors, check_trace=False)
    assert [node.kind() for node in traced.graph.nodes()].count(str(operator).replace(".", "::")) == 1


@each_call
def test_dispatch_mode_sees_one_operator(call, inputs, operator):
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Watch():
        call(*inputs())
    assert [func for func in seen if func.namespace == "e4profile"] == [operator.default]


@each_call
def test_copied_module(call, inputs, operator):
    tensors = inputs()
    layer = Layer(call)
    assert torch.equal(copy.deepcopy(layer)(*tensors), layer(*tensors))


@each_call
def test_meta_device_is_as_the_real_one(call, inputs, operator):
    for batch in (0, 3):
        real = inputs(torch.bfloat16, batch)
        meta = [t.detach().to("meta").requires_grad_() for t in real]
        here, there = call(*real), call(*meta)
        assert there.device.type == "meta"
        pairs = [(here, there)]
        pairs += zip(torch.autograd.grad(here.sum(), real), torch.autograd.grad(there.sum(), meta), strict=True)
        for left, right in pairs:
            assert (left.shape, left.stride(), left.dtype) == (right.shape, right.stride(), right.dtype)


@each_call
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_casts_as_a_convolution_does(call, inputs, operator, dtype):
    tensors = inputs()
    with torch.autocast("cpu", dtype=dtype):
        out = call(*tensors)
        double = call(*inputs(torch.float64))
    assert out.dtype == dtype
    assert double.dtype == torch.float64
    assert torch.equal(out, call(*(t.detach().to(dtype) for t in tensors)))
    assert {g.dtype for g in torch.autograd.grad(out.sum(), tensors)} == {torch.float32}


@each_call
def test_backward_under_autocast_keeps_float32_sums(call, inputs, operator):
    tensors = inputs()
    out = call(*tensors)
    expected = torch.autograd.grad(out.sum(), tensors, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = torch.autograd.grad(out.sum(), tensors)
    for left, right in zip(inside, expected, strict=True):
        assert torch.equal(left, right)


def total_flops(call, tensors, device):
    tensors = [t.detach().to(device).requires_grad_(t.requires_grad) for t in tensors]
    with FlopCounterMode(display=False) as forward:
        out = call(*tensors)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_of_aggregate(device):
    stencils, values = stencils_and_values()
    macs = 2 * 2 * 3 * 4 * 36 * 9
    assert aggregation_macs(values.shape, K) == macs
    assert total_flops(lambda *t: aggregate(*t, K), (stencils, values), device) == (2 * macs, 4 * macs)
    assert total_flops(lambda *t: aggregate(*t, K), (stencils.detach(), values), device) == (2 * macs, 2 * macs)
    assert total_flops(lambda *t: aggregate(*t, K), (stencils, values.detach()), device) == (2 * macs, 2 * macs)
    assert aggregation_macs((1, 2, 3, 4, 5, 7), 5, 2) == 2 * 3 * 4 * 3 * 4 * 25


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_of_generate_and_aggregate(device):
    hidden, weight, bias, values = make()

    def call(*tensors):
        return generate_and_aggregate(*tensors, K)

    generator, aggregation = 2 * 4 * 18 * 5 * 36, 2 * 2 * 3 * 4 * 36 * 9
    assert generate_aggregate_macs(hidden.shape, values.shape, K) == {
        "generator": generator,
        "aggregation": aggregation,
    }
    assert total_flops(call, (hidden, weight, bias, values), device) == (
        2 * (generator + aggregation),
        2 * (3 * generator + 2 * aggregation),
    )
    assert total_flops(call, (hidden.detach(), weight, bias, values.detach()), device)[1] == 2 * (
        generator + aggregation
    )
    assert generate_aggregate_backward_macs(hidden.shape, values.shape, K) == {
        "generator": 2 * generator,
        "generator again": generator,
        "aggregation": 2 * aggregation,
    }


@each_call
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_fvcore_counts_macs(call, inputs, operator):
    from fvcore.nn import FlopCountAnalysis

    tensors = tuple(t.detach() for t in inputs())
    analysis = FlopCountAnalysis(Layer(call), tensors).unsupported_ops_warnings(False)
    analysis.set_op_handle(**FVCORE_HANDLES)
    aggregation = 2 * 2 * 3 * 4 * 36 * 9
    counted = dict(analysis.by_operator())
    if operator is torch.ops.e4profile.aggregate:
        assert counted == {"aggregate": aggregation}
    else:
        assert counted == {"generator": 2 * 4 * 18 * 5 * 36, "aggregation": aggregation}
