"""Modules that torch imports for questions which hardly ever arise here, imported when one does.

A kernel of the meta device that is written in Python tells the compiler not to look inside it, and asks of every
condition whether it is symbolic and of every operand whether it is of sympy; a counter of FLOPs asks whether an
operator is a kernel of Triton. A mode of fake tensors reads the compiler's settings. That imports ``torch._dynamo``,
sympy and Triton, which takes longer than torch itself. Without a compiler there is nothing to tell, a plain bool is not
symbolic, and without sympy or Triton nothing is of them: these questions are answered here, and anything else asked of
the modules imports them. A torch that asks for other names loses the time, nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_SETTINGS = "torch._dynamo.config"
_SHAPES = "torch.fx.experimental.symbolic_shapes"
_ALGEBRA = "sympy"
_KERNELS = "triton.runtime.jit"
_MARK = "__dynamo_disable"
"""The attribute in which torch keeps a function with the compiler told to stay out."""


class _Deferred(ModuleType):
    """A stand-in for a module: imports it, and steps aside, for every name but its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.__file__ = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__version__", "__all__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return import_module(self.__name__)


class _Package(_Deferred):
    @property
    def __path__(self) -> Any:  # type: ignore[override]
        # asked for whenever a submodule is imported
        return self._real().__path__


class _CameWithItsPackage:
    """Finds and loads a submodule that the path of its package's stand-in imported: once, not a second time."""

    def __init__(self, module: ModuleType | None = None) -> None:
        self._module = module

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The submodule as it is; None for what is not imported yet, and for what is to be reloaded."""
        del path
        package = sys.modules.get(_COMPILER)
        # any other submodule needs the whole package
        if name != _SETTINGS and name.startswith(f"{_COMPILER}.") and isinstance(package, _Compiler):
            package._real()
        module = sys.modules.get(name)
        if module is None or target is not None or not name.startswith((f"{_COMPILER}.", f"{_ALGEBRA}.")):
            return None
        return ModuleSpec(name, _CameWithItsPackage(module))  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """An empty module, in whose place the right one comes."""

    def exec_module(self, module: ModuleType) -> None:
        """What stands in ``sys.modules`` after this is what is imported."""
        assert self._module is not None
        sys.modules[module.__name__] = self._module


class _Compiler(_Package):
    """``torch._dynamo`` before it is imported: a function kept from the compiler is the function itself."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._kept_out: list[Callable[..., Any]] = []

    @property
    def __path__(self) -> Any:  # type: ignore[override]
        # its settings are imported without it, as every mode of fake tensors reads them
        return [f"{folder}/_dynamo" for folder in sys.modules["torch"].__path__]

    def disable(self, function: Any = None, *arguments: Any, **keywords: Any) -> Any:
        """The function, told apart from the compiled ones as soon as there is a compiler."""
        if function is None:
            return self._real().disable(function, *arguments, **keywords)
        self._kept_out.append(function)
        return function

    def _real(self) -> ModuleType:
        for function in self._kept_out:
            # torch asks again, and the compiler answers
            vars(function).pop(_MARK, None)
        self._kept_out.clear()
        return super()._real()


class _Algebra(_Package):
    """sympy before it is imported: nothing is of a class of it."""

    @property
    def Basic(self) -> Any:  # noqa: N802 - sympy's name
        """The class of everything in sympy, or what stands for it."""
        return _Class(self, "Basic") if sys.modules.get(_ALGEBRA) is self else self._real().Basic


class _Kernels(_Deferred):
    """Triton's kernels before Triton is imported: no operator is one."""

    @property
    def JITFunction(self) -> Any:  # noqa: N802 - Triton's name
        """The class of every kernel, or what stands for it; Triton itself, while it is imported, gets the class."""
        return self._real().JITFunction if "triton" in sys.modules else _Class(self, "JITFunction")


class _Class:
    """A class as asked for before its module was imported: it has no instances until then."""

    def __init__(self, module: _Deferred, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        return getattr(self._module._real(), self._name)

    def __instancecheck__(self, value: object) -> bool:
        return sys.modules.get(self._module.__name__) is not self._module and isinstance(value, self._real())

    def __subclasscheck__(self, kind: type) -> bool:
        return issubclass(kind, self._real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __or__(self, other: Any) -> Any:
        return self._real() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._real()

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._real()(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)


_OF_PLAIN_VALUES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("expect_true", "guard_or_false", "guard_or_true", "guard_size_oblivious"), lambda value: value),
    **dict.fromkeys(("statically_known_true", "guarding_hint_or_throw"), lambda value: value),
    "has_guarding_hint": lambda _: True,
    "is_nested_int": lambda _: False,
    "sym_and": lambda *conditions: all(conditions),
    "sym_or": lambda *conditions: any(conditions),
    "sym_eq": lambda one, other: tuple(one) == tuple(other) if isinstance(one, (tuple, list)) else one == other,
}
"""What the functions of ``_SHAPES`` answer where no argument is symbolic."""


def _is_plain(value: Any) -> bool:
    return type(value) in (bool, int) or (isinstance(value, (tuple, list)) and all(type(size) is int for size in value))


def _settled(name: str, stand_in: _Deferred) -> Callable[..., Any]:
    """The function of this name; the module itself answers for anything but bools, ints and shapes."""
    plain = _OF_PLAIN_VALUES[name]

    def answer(*arguments: Any, **keywords: Any) -> Any:
        if keywords or not all(map(_is_plain, arguments)):
            return getattr(stand_in._real(), name)(*arguments, **keywords)
        return plain(*arguments)

    return answer


def defer_what_torch_may_not_need() -> None:
    """Put the stand-ins in place, where neither torch nor sympy is imported yet."""
    if {"torch", _ALGEBRA} & set(sys.modules):
        return
    sys.meta_path.insert(0, _CameWithItsPackage())
    sys.modules[_COMPILER], sys.modules[_ALGEBRA] = _Compiler(_COMPILER), _Algebra(_ALGEBRA)
    if find_spec("triton") is not None:
        sys.modules[_KERNELS] = _Kernels(_KERNELS)
    shapes = sys.modules[_SHAPES] = _Deferred(_SHAPES)
    for name in _OF_PLAIN_VALUES:
        setattr(shapes, name, _settled(name, shapes))
