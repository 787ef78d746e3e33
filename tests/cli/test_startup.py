"""What a first answer imports, told by ``sys.modules`` of a process rather than by a clock."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from importlib.util import find_spec
from typing import Any

import pytest

from e4profile.cli import deferred

HEAVY = ("fvcore", "jinja2", "matplotlib", "pandas", "tabulate", "thop", "torchvision", "triton")
HAS_TRITON = find_spec("triton") is not None
RUN = """
import json, runpy, sys
loaded = []
for line in {lines}:
    sys.argv = ["e4profile", *line.split()]
    try:
        runpy.run_module("e4profile", run_name="__main__")
    except SystemExit as end:
        assert not end.code, (line, end.code)
    loaded.append([name for name, module in sys.modules.items() if getattr(module, "__file__", None)])
print(json.dumps(loaded), file=sys.stderr)
"""


def in_a_process(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    "asked",
    [
        # one process answers in turn, so whoever asks for more comes last
        # memory runs on PyTorch's fake tensors, whose mode asks for the compiler's settings and for symbolic shapes
        {"count e4net --counter closed-form": (), "match e4net --to 1M": (), "formula e4 --of e4net": ("sympy",),
         "memory e4net": ("sympy", "triton", "torch.fx.experimental.symbolic_shapes")},
        {"count e4net": ("fvcore", "tabulate", "thop")},
    ],
)  # fmt: skip
def test_a_first_answer_imports_what_it_needs(asked: dict[str, tuple[str, ...]]) -> None:
    for (line, needed), loaded in zip(asked.items(), in_a_process(RUN.format(lines=list(asked))), strict=True):
        assert "torch" in loaded, "the list is of what is imported"
        unwanted = {*HEAVY, "sympy", "torch._dynamo", "torch.fx.experimental.symbolic_shapes"}.difference(needed)
        assert sorted(unwanted.intersection(loaded)) == [], line


def test_help_imports_no_torch() -> None:
    (loaded,) = in_a_process(RUN.format(lines=["count --help"]))
    assert "e4profile.questions.count.command" in loaded
    assert not {"torch", "numpy", "sympy", *HEAVY} & set(loaded)


COMPILED = """
kept = list(sys.modules["torch._dynamo"]._kept_out)

def state():
    marked = sum(getattr(function, "__dynamo_disable", None) is function for function in kept)
    return type(sys.modules["torch._dynamo"]).__name__, marked

first = state()
compiled = torch.compile(lambda x: x * 2 + 1, backend="eager")
value = compiled(torch.ones(2)).tolist()
then = state()
import torch._dynamo.config
said["compiled"] = [first, value, then]
"""


def test_the_compiler_is_imported_when_a_model_asks_for_it(stand_ins: dict[str, list[Any]]) -> None:
    (before, marks), value, (after, left) = stand_ins["compiled"]
    assert before == "_Compiler"
    assert marks > 0
    assert value == [3.0, 3.0]
    assert after == "module"
    assert left == 0, "what the stand-in kept out is asked about again"


@pytest.mark.parametrize("name", sorted(deferred._OF_PLAIN_VALUES))
def test_plain_values_get_the_answer_of_torch(name: str) -> None:
    shapes = pytest.importorskip("torch.fx.experimental.symbolic_shapes")
    if not hasattr(shapes, name):
        pytest.skip("this torch asks other questions")
    stand_in = deferred._settled(name, deferred._Deferred("torch.fx.experimental.symbolic_shapes"))
    sizes = ((3,), (0,)) if name.startswith(("is_", "has_", "guarding")) else ((True,), (False,))
    pairs: tuple[Any, ...] = ((True, False), (True, True), (False, False))
    if name == "sym_eq":
        pairs = ((3, 3), (3, 4), ((2, 3), [2, 3]), ((2, 3), (2, 4)), ((2,), (2, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for arguments in pairs if name.startswith("sym_") else sizes:
            assert stand_in(*arguments) is getattr(shapes, name)(*arguments)


def test_what_is_symbolic_is_answered_by_torch() -> None:
    shapes = pytest.importorskip("torch.fx.experimental.symbolic_shapes")
    size = shapes.ShapeEnv().create_unbacked_symint()
    stand_in = deferred._settled("guard_or_false", deferred._Deferred(shapes.__name__))
    assert stand_in(size == 3) is shapes.guard_or_false(size == 3) is False


ALGEBRA = """
import sympy

early = sympy.Basic
found = [type(sys.modules["sympy"]).__name__, isinstance(3, (str, sympy.Basic))]
from sympy.core.symbol import Symbol
import sympy.core
assert sympy.core.symbol.Symbol is Symbol, "sympy.core is imported once"
class Own(sympy.Basic):
    pass
x = Symbol("x")
found += [isinstance(x, early), isinstance(3, early), isinstance(x, int | early)]
found += [issubclass(Own, sys.modules["sympy"].Basic)]
found += [sympy.__version__ == sys.modules["sympy"].__version__, str(sympy.Symbol("x") + x)]
found += [type(sys.modules["sympy"]).__name__]
said["algebra"] = found
"""


def test_sympy_is_imported_when_something_of_it_is_used(stand_ins: dict[str, list[Any]]) -> None:
    assert stand_ins["algebra"] == ["_Algebra", False, True, False, True, True, True, "2*x", "module"]


KERNELS = """
from torch.utils.flop_counter import _JITFunction, register_flop_formula

found = [type(sys.modules["triton.runtime.jit"]).__name__, isinstance(torch.ops.aten.mm, _JITFunction)]
import triton
from triton.language.standard import zeros as kernel

register_flop_formula(kernel)(lambda *shapes, **keywords: 0)
found += [isinstance(kernel, _JITFunction), isinstance(torch.ops.aten.mm, _JITFunction)]
found += [triton.JITFunction is sys.modules["triton.runtime.jit"].JITFunction, type(triton.JITFunction) is type]
said["kernels"] = found
"""


@pytest.fixture(scope="module")
def stand_ins() -> dict[str, list[Any]]:
    """What one process says of the three; none has imported what a later one looks at."""
    before = """
import json, sys
from e4profile.cli import deferred
deferred.defer_what_torch_may_not_need()
import torch

torch.mul(torch.empty(2, device="meta"), 2.0)
said = {}
"""
    parts = (ALGEBRA, *([KERNELS] if HAS_TRITON else []), COMPILED)
    found: dict[str, list[Any]] = in_a_process("\n".join([before, *parts, "print(json.dumps(said), file=sys.stderr)"]))
    return found


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not in this environment")
def test_triton_is_imported_by_who_uses_it(stand_ins: dict[str, list[Any]]) -> None:
    assert stand_ins["kernels"] == [
        "_Kernels", False, True, False, True, True,
    ]  # fmt: skip
    code = "import runpy, sys, triton; sys.argv[1:] = ['cards']; runpy.run_module('e4profile', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
