"""The Triton kernels against the reference: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys

import pytest
import torch

from e4profile.errors import SettingError
from e4profile.ops import aggregate, generate_and_aggregate, triton_reason
from e4profile.ops.choice import interpreter_reason

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="the triton package is not installed")
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
REASON = triton_reason(torch.empty(0, device=DEVICE))
runs_here = pytest.mark.skipif(REASON is not None, reason=f"Triton cannot run: {REASON}")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def random(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return [tensor.to(DEVICE, dtype).requires_grad_() for tensor in made]


def compare(call, inputs, dtype):
    """Output and gradients against the reference in float64, relative to the largest element."""
    exact_inputs = [t.detach().double().requires_grad_() for t in inputs]
    out, exact = call("triton", *inputs), call("reference", *exact_inputs)
    assert (out.dtype, out.shape, out.is_contiguous()) == (dtype, exact.shape, True)
    upstream = torch.randn(exact.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    upstream = upstream.to(DEVICE, dtype)
    pairs = [(out, exact)]
    pairs += zip(
        torch.autograd.grad(out, inputs, upstream),
        torch.autograd.grad(exact, exact_inputs, upstream.double()),
        strict=True,
    )
    for left, right in pairs:
        assert left.shape == right.shape
        if right.numel():
            scale = max(1.0, right.abs().max().item())
            assert (left.double() - right).abs().max().item() <= TOLERANCE[dtype] * scale


@runs_here
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("sizes", [(0, 2, 2, 2), (1, 1, 1, 1), (1, 3, 2, 3)])
def test_aggregate(sizes, k, stride):
    (B, A, s, c), (h, w) = sizes, (7, 6)
    h_out, w_out = (h - 1) // stride + 1, (w - 1) // stride + 1
    inputs = random((B, A, s, k * k, h_out, w_out), (B, s, c, A, h, w))
    compare(lambda name, *t: aggregate(*t, k, stride, name), inputs, torch.float64)


@runs_here
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(dtype):
    inputs = random((2, 2, 2, 9, 6, 5), (2, 2, 3, 2, 6, 5), dtype=dtype)
    compare(lambda name, *t: aggregate(*t, 3, 1, name), inputs, dtype)


@runs_here
def test_more_channels_and_positions_than_one_program_owns():
    inputs = random((1, 1, 1, 9, 33, 9), (1, 1, 21, 1, 33, 9))
    compare(lambda name, *t: aggregate(*t, 3, 1, name), inputs, torch.float64)


@runs_here
def test_any_strides():
    inputs = random((2, 3, 2, 9, 5, 4), (2, 2, 2, 3, 5, 4))
    strange = [t.detach().movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_() for t in inputs]
    compare(lambda name, *t: aggregate(*t, 3, 1, name), strange, torch.float64)


@runs_here
@pytest.mark.parametrize("stencil_bytes", [1, 1 << 27])
@pytest.mark.parametrize(("B", "stride"), [(0, 1), (2, 1), (2, 2)])
def test_generate_and_aggregate(B, stride, stencil_bytes, monkeypatch):
    from e4profile.ops import generated_triton

    monkeypatch.setattr(generated_triton, "STENCIL_BYTES", stencil_bytes)
    size = (5 - 1) // stride + 1
    inputs = random((B, 2, 3, size, size), (2, 18, 3), (2, 18), (B, 2, 3, 2, 5, 5))
    compare(lambda name, *t: generate_and_aggregate(*t, 3, stride, name), inputs, torch.float64)


@runs_here
def test_second_derivative():
    inputs = random((1, 2, 1, 9, 3, 2), (1, 1, 2, 2, 3, 2))

    def penalty(implementation):
        out = aggregate(*inputs, 3, 1, implementation)
        first = torch.autograd.grad(out.pow(3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(gradient.pow(2).sum() for gradient in first), inputs)

    for left, right in zip(penalty("triton"), penalty("reference"), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12 * right.abs().max().item())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_on_cuda_is_equal_to_the_plain_path():
    inputs = [t.cuda() for t in random((2, 4, 2, 25, 9, 8), (2, 2, 8, 4, 9, 8), dtype=torch.float32)]
    torch.testing.assert_close(aggregate(*inputs, 5), aggregate(*inputs, 5, 1, "cpu"), rtol=1e-5, atol=1e-5)


@runs_here
def test_planes_without_one_step_between_places():
    stencils, values = random((1, 2, 1, 9, 5, 4), (1, 1, 2, 2, 8, 9))
    cropped = [stencils, values.detach()[..., 1:6, 2:6].requires_grad_()]
    compare(lambda name, *t: aggregate(*t, 3, 1, name), cropped, torch.float64)
    column = [t.detach()[..., :1].expand(t.shape).requires_grad_() for t in (stencils, cropped[1])]
    compare(lambda name, *t: aggregate(*t, 3, 1, name), column, torch.float64)


@runs_here
@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)])
def test_gradients_take_one_launch(wanted, monkeypatch):
    from e4profile.ops import triton_kernels

    launched = []
    launch = triton_kernels._launch_backward
    monkeypatch.setattr(triton_kernels, "_launch_backward", lambda *a: launched.append(a[2]) or launch(*a))
    inputs = random((1, 2, 2, 9, 5, 4), (1, 2, 2, 2, 5, 4))
    leaves = [inputs[i] for i in wanted]
    inputs = [t if i in wanted else t.detach() for i, t in enumerate(inputs)]
    before = [t.detach().clone() for t in inputs]
    fast, slow = (aggregate(*inputs, 3, 1, name).pow(2).sum() for name in ("triton", "reference"))
    for left, right in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12 * right.abs().max().item())
    assert all(torch.equal(t, old) for t, old in zip(inputs, before, strict=True))
    assert [[output is not None for output in outputs] for outputs in launched] == [[i in wanted for i in range(2)]]


@runs_here
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (0, 3), (1, 2)])
def test_each_gradient_of_generate_and_aggregate_alone(wanted):
    inputs = random((1, 2, 3, 4, 4), (2, 18, 3), (2, 18), (1, 2, 2, 2, 4, 4))
    leaves = [inputs[i] for i in wanted]
    inputs = [t if i in wanted else t.detach() for i, t in enumerate(inputs)]
    fast, slow = (generate_and_aggregate(*inputs, 3, 1, n).pow(2).sum() for n in ("triton", "reference"))
    for left, right in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12 * right.abs().max().item())


class Traffic:
    """How often the interpreted programs read and write each element of some tensors, by program."""

    def __init__(self, monkeypatch, **tensors):
        from triton.runtime.interpreter import interpreter_builder as builder

        self.tensors = tensors
        self.reads = {name: {} for name in tensors}
        self.writes = {name: {} for name in tensors}
        for method, counted in (("create_masked_load", self.reads), ("create_masked_store", self.writes)):
            monkeypatch.setattr(builder, method, self._watch(builder, getattr(builder, method), counted))

    def _watch(self, builder, original, counted):
        def watched(pointers, *arguments):
            mask = arguments[1] if counted is self.writes else arguments[0]
            for address in pointers.data[mask.data.astype(bool)].ravel().tolist():
                for name, tensor in self.tensors.items():
                    offset = address - tensor.data_ptr()
                    if 0 <= offset < tensor.numel() * tensor.element_size():
                        programs = counted[name].setdefault(offset // tensor.element_size(), {})
                        programs[builder.grid_idx] = programs.get(builder.grid_idx, 0) + 1
            return original(pointers, *arguments)

        return watched

    def written_once(self, name):
        places = self.writes[name]
        return len(places) == self.tensors[name].numel() and all(
            sum(programs.values()) == 1 for programs in places.values()
        )

    def elements_read(self, name):
        return len(self.reads[name])


@runs_here
@pytest.mark.skipif(not INTERPRETED, reason="watches Triton's interpreter")
@pytest.mark.parametrize("stride", [1, 2])
def test_bytes_of_the_floor(stride, monkeypatch):
    """Forward K + 2V, backward 2K + 3V with two channel parts and several runs: nothing is written twice."""
    from e4profile.ops import triton_kernels

    monkeypatch.setattr(triton_kernels, "MAX_CHANNELS", 2)
    monkeypatch.setattr(triton_kernels, "POSITIONS_TIMES_CHANNELS", 32)
    size = (7 - 1) // stride + 1
    stencils, values, grad = random((1, 2, 1, 9, size, size), (1, 1, 3, 2, 7, 7), (1, 1, 3, 2, size, size))
    inputs = {"stencils": stencils.detach(), "values": values.detach(), "grad": grad.detach()}
    outputs = {name: torch.empty_like(t) for name, t in inputs.items()}
    stencils, values, grad = inputs.values()

    with monkeypatch.context() as patch:
        traffic = Traffic(patch, stencils=stencils, values=values, out=outputs["grad"])
        triton_kernels.forward(stencils, values, 3, stride, out=outputs["grad"])
    assert traffic.written_once("out")
    assert not any((traffic.reads["out"], traffic.writes["stencils"], traffic.writes["values"]))
    assert [traffic.elements_read(n) for n in ("stencils", "values")] == [stencils.numel(), values.numel()]

    written = {"stencil_grad": outputs["stencils"], "value_grad": outputs["values"]}
    with monkeypatch.context() as patch:
        traffic = Traffic(patch, **inputs, **written)
        triton_kernels.backward(grad, stencils, values, 3, stride, *written.values())
    assert traffic.written_once("stencil_grad")
    assert traffic.written_once("value_grad")
    assert not any(traffic.reads[name] for name in written)
    assert not any(traffic.writes[name] for name in inputs)
    # The taps that reach into the padding are read by nobody.
    inner = sum(
        0 <= y * stride + dy - 1 < 7 and 0 <= x * stride + dx - 1 < 7
        for y in range(size) for x in range(size) for dy in range(3) for dx in range(3)
    )  # fmt: skip
    assert traffic.elements_read("stencils") == 2 * inner
    assert all(len(programs) == 1 for programs in traffic.reads["stencils"].values())
    assert [traffic.elements_read(n) for n in ("grad", "values")] == [grad.numel(), values.numel()]


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")
@pytest.mark.parametrize("kind", ["fp16", "bf16", "fp32", "fp64"])
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("_forward", {}),
        ("_backward", {"OF_STENCILS": True, "OF_VALUES": True}),
        ("_backward", {"OF_STENCILS": True, "OF_VALUES": False}),
        ("_backward", {"OF_STENCILS": False, "OF_VALUES": True}),
    ],
)
def test_compiles_without_a_gpu_and_without_atomics(name, flags, kind, tmp_path, monkeypatch):
    """Types, masks and pointers as the compiler for compute capability 8.0 sees them, down to assembly."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget

    from e4profile.ops import triton_kernels

    function = getattr(triton_kernels, name)
    constants = {"KERNEL": 3, "STRIDE": 2, "POSITIONS": 128, "CHANNELS": 8, "PARTS": 2, **flags}
    if flags:
        constants["OUT_POSITIONS"] = 32
    constants["ACCUMULATOR"] = triton.language.float64 if kind == "fp64" else triton.language.float32
    pointers = ("stencils", "values", "out", "grad", "stencil_grad", "value_grad")
    signature = {n: f"*{kind}" if n in pointers else "i32" for n in function.arg_names}
    if "constexprs" in inspect.signature(triton.compiler.ASTSource).parameters:
        signature.update(dict.fromkeys(constants, "constexpr"))
        places = {(function.arg_names.index(n),): value for n, value in constants.items()}
        source = triton.compiler.ASTSource(fn=function, signature=signature, constexprs=places)
    else:
        signature = {n: kind for n, kind in signature.items() if n not in constants}
        source = triton.compiler.ASTSource(fn=function, signature=signature, constants=constants)
    options = {"enable_fp_fusion": True}
    assembly = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]
    assert "st.global" in assembly
    assert re.search(r"\b(atom|red)\.", assembly) is None


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="already in Triton's interpreter")
@pytest.mark.skipif(HAS_TRITON and interpreter_reason() is not None, reason="Triton's interpreter is wrong here")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled and tested on the GPU")
def test_in_the_interpreter():
    """The tests above again, in a process whose Triton interprets."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


@pytest.mark.skipif(REASON is None, reason="Triton can run here")
@pytest.mark.parametrize("generate", [False, True])
def test_triton_on_cpu_is_refused_with_the_reason(generate):
    tensors = random((1, 1, 1, 9, 2, 2), (1, 1, 1, 1, 2, 2))
    call = aggregate
    if generate:
        tensors = random((1, 1, 1, 2, 2), (1, 9, 1), (1, 9), (1, 1, 1, 1, 2, 2))
        call = generate_and_aggregate
    message = f"implementation (='triton') cannot run: {REASON}; use 'auto' or 'cpu'"
    with pytest.raises(SettingError, match=f"^{re.escape(message)}$"):
        call(*tensors, 3, implementation="triton")
