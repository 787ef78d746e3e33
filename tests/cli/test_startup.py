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
RUN = """
import json, runpy, sys
sys.argv = ["e4profile", *{arguments}]
try:
    runpy.run_module("e4profile", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
loaded = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
print(json.dumps(loaded), file=sys.stderr)
"""


def in_a_process(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("count e4net --counter closed-form", ()),
        ("count e4net", ("fvcore", "tabulate", "thop")),
        ("formula e4 --of e4net", ("sympy",)),
        ("match e4net --to 1M", ()),
        ("memory e4net", ()),
    ],
)
def test_a_first_answer_imports_what_it_needs(command: str, asked: tuple[str, ...]) -> None:
    loaded = set(in_a_process(RUN.format(arguments=command.split())))
    assert "torch" in loaded, "the list is of what is imported"
    unwanted = {*HEAVY, "sympy", "torch._dynamo", "torch.fx.experimental.symbolic_shapes"}.difference(asked)
    assert sorted(loaded & unwanted) == []


def test_help_imports_no_torch() -> None:
    loaded = in_a_process(RUN.format(arguments=["count", "--help"]))
    assert "e4profile.questions.count.command" in loaded
    assert not {"torch", "numpy", "sympy", *HEAVY} & set(loaded)


COMPILED = """
import json, sys
from e4profile.cli import deferred
deferred.defer_what_torch_may_not_need()
import torch

torch.mul(torch.empty(2, device="meta"), 2.0)
kept = list(sys.modules["torch._dynamo"]._kept_out)

def state():
    marked = sum(getattr(function, "__dynamo_disable", None) is function for function in kept)
    return type(sys.modules["torch._dynamo"]).__name__, marked

first = state()
compiled = torch.compile(lambda x: x * 2 + 1, backend="eager")
value = compiled(torch.ones(2)).tolist()
then = state()
import torch._dynamo.config
print(json.dumps([first, value, then]), file=sys.stderr)
"""


def test_the_compiler_is_imported_when_a_model_asks_for_it() -> None:
    (before, marks), value, (after, left) = in_a_process(COMPILED)
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
import json, sys
from e4profile.cli import deferred
deferred.defer_what_torch_may_not_need()
import sympy
import torch

torch.mul(torch.empty(2, device="meta"), 2.0)
early = sympy.Basic
found = [type(sys.modules["sympy"]).__name__, isinstance(3, (str, sympy.Basic))]
from sympy.core.symbol import Symbol
class Own(sympy.Basic):
    pass
x = Symbol("x")
found += [isinstance(x, early), isinstance(3, early), isinstance(x, int | early)]
found += [issubclass(Own, sys.modules["sympy"].Basic)]
found += [sympy.__version__ == sys.modules["sympy"].__version__, str(sympy.Symbol("x") + x)]
found += [type(sys.modules["sympy"]).__name__]
print(json.dumps(found), file=sys.stderr)
"""


def test_sympy_is_imported_when_something_of_it_is_used() -> None:
    found = in_a_process(ALGEBRA)
    assert found == ["_Algebra", False, True, False, True, True, True, "2*x", "module"]


KERNELS = """
import json, sys
from e4profile.cli import deferred
deferred.defer_what_torch_may_not_need()
from torch.utils.flop_counter import _JITFunction, register_flop_formula
import torch

found = [type(sys.modules["triton.runtime.jit"]).__name__, isinstance(torch.ops.aten.mm, _JITFunction)]
import triton
from triton.language.standard import zeros as kernel

register_flop_formula(kernel)(lambda *shapes, **keywords: 0)
found += [isinstance(kernel, _JITFunction), isinstance(torch.ops.aten.mm, _JITFunction)]
found += [triton.JITFunction is sys.modules["triton.runtime.jit"].JITFunction, type(triton.JITFunction) is type]
print(json.dumps(found), file=sys.stderr)
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not in this environment")
def test_triton_is_imported_by_who_uses_it() -> None:
    assert in_a_process(KERNELS) == [
        "_Kernels", False, True, False, True, True,
    ]  # fmt: skip
    code = "import runpy, sys, triton; sys.argv[1:] = ['models']; runpy.run_module('e4profile', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
