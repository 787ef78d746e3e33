"""The Triton kernels against the reference: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from e4profile.errors import SettingError
from e4profile.ops import aggregate, generate_and_aggregate

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="the triton package is not installed")
runs_here = pytest.mark.skipif(
    not HAS_TRITON or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs the triton package and a CUDA device, or TRITON_INTERPRET=1",
)
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
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
@pytest.mark.parametrize("sizes", [(0, 2, 2, 2), (1, 1, 1, 1), (2, 3, 2, 3)])
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
@pytest.mark.parametrize(("B", "stride"), [(0, 1), (3, 1), (2, 2)])
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


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")
@pytest.mark.parametrize("kind", ["fp16", "bf16", "fp32", "fp64"])
@pytest.mark.parametrize("name", ["_forward", "_stencil_gradient", "_value_gradient"])
def test_compiles_without_a_gpu_and_without_atomics(name, kind, tmp_path, monkeypatch):
    """Types, masks and pointers as the compiler for compute capability 8.0 sees them, down to assembly."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget

    from e4profile.ops import triton_kernels

    function = getattr(triton_kernels, name)
    constants = {"KERNEL": 3, "STRIDE": 2, "POSITIONS": 128, "CHANNELS": 8}
    constants["ACCUMULATOR"] = triton.language.float64 if kind == "fp64" else triton.language.float32
    pointers = ("stencils", "values", "out")
    signature = {n: f"*{kind}" if n in pointers else "i32" for n in function.arg_names}
    signature.update(dict.fromkeys(constants, "constexpr"))
    places = {(function.arg_names.index(n),): value for n, value in constants.items()}
    source = triton.compiler.ASTSource(fn=function, signature=signature, constexprs=places)
    options = {"enable_fp_fusion": True}
    assembly = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]
    assert "st.global" in assembly
    assert "atom." not in assembly
    assert "red." not in assembly


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="already in Triton's interpreter")
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


@pytest.mark.skipif(INTERPRETED or torch.cuda.is_available(), reason="Triton can run here")
@pytest.mark.parametrize("generate", [False, True])
def test_triton_on_cpu_is_refused_with_the_reason(generate):
    tensors = random((1, 1, 1, 9, 2, 2), (1, 1, 1, 1, 2, 2))
    call = aggregate
    if generate:
        tensors = random((1, 1, 1, 2, 2), (1, 9, 1), (1, 9), (1, 1, 1, 1, 2, 2))
        call = generate_and_aggregate
    with pytest.raises(SettingError, match=r"implementation \(='triton'\) cannot run: the (tensors|triton)"):
        call(*tensors, 3, implementation="triton")
