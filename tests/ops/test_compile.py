"""torch.compile: no graph break at the operators, the eager result, with sizes fixed and free."""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from e4profile.layers import E4Conv2d
from e4profile.ops import aggregate, generate_and_aggregate, generated

K = 3
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))),
    reason="needs a C++ compiler, g++ or clang++, for TorchInductor on the CPU",
)
# PyTorch's own modules, imported by its compiler.
its_own_warnings = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def aggregate_inputs(batch=2, rows=6):
    shapes = (batch, 4, 2, 9, rows, 5), (batch, 2, 3, 4, rows, 5)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def generate_inputs(batch=2, rows=6):
    shapes = (batch, 4, 5, rows, 5), (4, 18, 5), (4, 18), (batch, 2, 3, 4, rows, 5)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


each_call = pytest.mark.parametrize(
    ("call", "inputs"),
    [
        pytest.param(lambda *t: aggregate(*t, K), aggregate_inputs, id="aggregate"),
        pytest.param(lambda *t: generate_and_aggregate(*t, K), generate_inputs, id="generate"),
    ],
)


def assert_as_eager(call, compiled, tensors, tolerance=1e-12):
    """The same output and the same gradients of a sum of squares."""
    found = []
    for function in (call, compiled):
        out = function(*tensors[:1]) if isinstance(call, torch.nn.Module) else function(*tensors)
        found.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for eager, other in zip(*found, strict=True):
        assert other.shape == eager.shape
        scale = max(1.0, eager.abs().max().item())
        assert (other - eager).abs().max().item() <= tolerance * scale


@each_call
def test_without_graph_break(call, inputs):
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert_as_eager(call, compiled, inputs())


@each_call
def test_any_batch_size_and_rows(call, inputs):
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch, rows in ((2, 6), (3, 7), (5, 9)):
        assert_as_eager(call, compiled, inputs(batch, rows))


@its_own_warnings
def test_transforms_inside_a_compiled_function_run_the_reference():
    stencils, values = (t.detach() for t in aggregate_inputs())

    def derivative(values):
        return torch.func.jvp(lambda v: aggregate(stencils, v, K), (values,), (values,))[1]

    compiled = torch.compile(derivative, fullgraph=True, backend="aot_eager")
    # the aggregation is linear
    assert torch.allclose(compiled(values), aggregate(stencils, values, K))


def test_autocast_is_compiled_in():
    stencils, values = (t.detach().float() for t in aggregate_inputs())
    compiled = torch.compile(lambda *t: aggregate(*t, K), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compiled(stencils, values).dtype == torch.bfloat16
    assert compiled(stencils, values).dtype == torch.float32


@pytest.fixture
def inductor(tmp_path, monkeypatch):
    """TorchInductor with caches of its own and no worker processes; yields the counters of its graphs."""
    import torch._dynamo.utils
    import torch._inductor.config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    # no vector instructions: which ones this machine has takes ten compilations to find out
    with torch._inductor.config.patch({"compile_threads": 1, "cpp.vec_isa_ok": False}):
        yield torch._dynamo.utils.counters
    torch._dynamo.reset()


def counted(monkeypatch):
    """Count how often the operator's two kernels run."""
    calls = []
    for name in ("forward", "backward"):
        original = getattr(generated, name)
        monkeypatch.setattr(
            generated, name, lambda *a, original=original, name=name: calls.append(name) or original(*a)
        )
    return calls


@pytest.mark.slow
@needs_compiler
@its_own_warnings
def test_inductor_on_a_layer_with_a_free_batch_size(inductor, monkeypatch):
    torch.manual_seed(0)
    layer = E4Conv2d(2, 2, 3, group="p4", stride=2).double()
    compiled = torch.compile(layer, fullgraph=True, backend="inductor")
    for batch in (2, 3):
        image = torch.randn(batch, 8, 7, 6, dtype=torch.float64, requires_grad=True)
        torch._dynamo.mark_dynamic(image, 0)
        assert_as_eager(layer, compiled, [image, *layer.parameters()], 1e-10)
    calls = counted(monkeypatch)
    compiled(image).sum().backward()
    assert calls == ["forward", "backward"]
    assert inductor["stats"]["unique_graphs"] == 1
    assert not inductor["graph_break"]


@needs_compiler
@its_own_warnings
@pytest.mark.parametrize("stride", [1, 2])
def test_inductor_with_every_size_free(stride, inductor):
    """Of the operator. A whole layer with a stride fails in inductor itself, the reference layer too."""

    def call(*tensors):
        return aggregate(*tensors, K, stride)

    compiled = torch.compile(call, fullgraph=True, backend="inductor", dynamic=True)
    for batch, rows in ((2, 6), (3, 9)):
        stencils, values = aggregate_inputs(batch, rows)
        strided = stencils[..., ::stride, ::stride].detach().requires_grad_()
        assert_as_eager(call, compiled, [strided, values])
    assert not inductor["graph_break"]
