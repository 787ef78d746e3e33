"""The Triton programs without a GPU: compiled for one, run in Triton's interpreter, and refused with the reason."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from e4profile.errors import SettingError
from e4profile.ops import aggregate, generate_and_aggregate
from e4profile.ops.choice import interpreter_reason, irrep_kernels_for

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted programs are not compiled", allow_module_level=True)
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="the triton package is not installed")


# what triton itself does to a syntax tree: Python 3.13 says that it will be an error
@pytest.mark.filterwarnings("ignore:AnnAssign.__init__ missing:DeprecationWarning")
@needs_triton
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

    from e4profile.ops import triton_kernels

    constants = {"KERNEL": 3, "STRIDE": 2, "POSITIONS": 128, "CHANNELS": 8, "PARTS": 2, **flags}
    if flags:
        constants["OUT_POSITIONS"] = 32
    constants["ACCUMULATOR"] = triton.language.float64 if kind == "fp64" else triton.language.float32
    pointers = dict.fromkeys(("stencils", "values", "out", "grad", "stencil_grad", "value_grad"), kind)
    assembly = compiled(getattr(triton_kernels, name), pointers, constants, 80)
    assert "st.global" in assembly
    assert re.search(ATOMIC, assembly) is None


@needs_triton
@pytest.mark.parametrize(
    ("name", "basis", "kind", "capability", "sizes"),
    [
        ("_convolve", "D4", "bf16", 90, None),
        ("_weigh", "C4", "fp32", 80, None),
        ("_convolve", "C1", "fp16", 80, 1),
        ("_weigh", "C1", "bf16", 90, 1),
    ],
)
def test_the_irrep_basis_compiles_without_a_gpu_and_without_atomics(
    name, basis, kind, capability, sizes, tmp_path, monkeypatch
):
    """Products on tensor cores; where sizes and strides are all 1, which a launch makes constants."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton

    from e4profile.ops import irrep_kernels

    function = getattr(irrep_kernels, name)
    order = {"C1": 1, "C4": 4, "D4": 8}[basis]
    dtype = {"bf16": triton.language.bfloat16, "fp16": triton.language.float16}.get(kind, triton.language.float32)
    constants = {"BASIS": basis, "ORDER": order, "STRIDE": 2, "OPERAND": dtype, "PRECISION": "tf32"}
    constants |= {"POSITIONS": 64, "FIELDS_IN": 16, "FIELDS_OUT": 32}
    if name == "_convolve":
        constants |= {"SPREAD": 1, "BIASED": True}
    pointers = {**dict.fromkeys(("maps", "filters", "bias", "out", "grad"), kind), "walk": "i32", "still": "i32"}
    pointers["found"] = "fp32"
    if sizes:
        constants |= {n: sizes for n in function.arg_names if n not in {*pointers, *constants}}
    assembly = compiled(function, pointers, constants, capability, num_warps=8, num_stages=1)
    assert "mma" in assembly
    assert re.search(ATOMIC, assembly) is None


ATOMIC = r"\b(atom|red)\."


def compiled(function, pointers, constants, capability, **options):
    """The assembly of a program whose other arguments are integers."""
    import triton
    from triton.backends.compiler import GPUTarget

    signature = {n: f"*{pointers[n]}" if n in pointers else "i32" for n in function.arg_names}
    if "constexprs" in inspect.signature(triton.compiler.ASTSource).parameters:
        signature.update(dict.fromkeys(constants, "constexpr"))
        places = {(function.arg_names.index(n),): value for n, value in constants.items()}
        source = triton.compiler.ASTSource(fn=function, signature=signature, constexprs=places)
    else:
        signature = {n: kind for n, kind in signature.items() if n not in constants}
        source = triton.compiler.ASTSource(fn=function, signature=signature, constants=constants)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options={"enable_fp_fusion": True, **options}).asm["ptx"]


@needs_triton
@pytest.mark.skipif(HAS_TRITON and interpreter_reason() is not None, reason="Triton's interpreter is wrong here")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the programs run on the GPU")
@pytest.mark.slow
def test_they_run_in_the_interpreter():
    """Two files of tests in a process whose Triton interprets: a process decides so when it imports Triton."""
    files = map(Path(__file__).with_name, ("test_triton.py", "test_irrep_triton.py"))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    # all but those that need a GPU
    assert re.search(r"^\d{2} passed, 2 skipped in ", run.stdout, re.MULTILINE), run.stdout[-1000:]


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (aggregate, [(1, 1, 1, 9, 2, 2), (1, 1, 1, 1, 2, 2)]),
        (generate_and_aggregate, [(1, 1, 1, 2, 2), (1, 9, 1), (1, 9), (1, 1, 1, 1, 2, 2)]),
    ],
)
def test_on_a_cpu_they_are_refused_with_the_reason(call, shapes):
    reason = "the tensors are on cpu, not on a CUDA device" if HAS_TRITON else "the triton package is not installed"
    message = f"implementation (='triton') cannot run: {reason}; use 'auto' or 'cpu'"
    with pytest.raises(SettingError, match=f"^{re.escape(message)}$"):
        call(*map(torch.zeros, shapes), 3, implementation="triton")


def test_stand_ins_on_a_gpu_are_convolved_by_pytorch():
    with FakeTensorMode():
        features = torch.empty(1, 8, 5, 5, device="cuda")
    assert features.is_cuda
    assert irrep_kernels_for(features) is None
