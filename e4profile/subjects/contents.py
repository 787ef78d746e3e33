"""How an object's content is read and given back, and which objects a network can hold that have none of their own."""

from __future__ import annotations

import copy
import functools
import sys
import types
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from e4profile.errors import SettingError

ATOMS = (
    type(None), bool, int, float, complex, str, bytes, range, type, property, types.ModuleType, types.CodeType,
    types.BuiltinFunctionType, torch.dtype, torch.device, torch.Size,
)  # fmt: skip
CACHED: Any = type(functools.lru_cache(lambda: None))
TENSOR_TYPE: Any = type(torch.FloatTensor)
# what belongs to the process or to a library, and is no part of a network
NOT_ITS_OWN = {"torch", "numpy", "e4profile", "builtins", *sys.stdlib_module_names}
OF_THE_PROCESS = {"logging", "threading", "multiprocessing", "concurrent", "asyncio", "queue"}


class Content(NamedTuple):
    """How a kind of object is read, and written with what was read of it."""

    read: Callable[[Any], list[Any]]
    write: Callable[[Any, list[Any]], object]


def _dict_content(kind: Any) -> Content:
    def write(value: Any, items: list[Any]) -> None:
        kind.clear(value)
        half = len(items) // 2
        for key, item in zip(items[:half], items[half:], strict=True):
            kind.__setitem__(value, key, item)

    def read(value: Any) -> list[Any]:
        # a subclass may say of itself that it is empty
        return [] if type(value) is kind and not value else [*kind.keys(value), *kind.values(value)]

    return Content(read, write)


def _write_deque(value: deque[Any], items: list[Any]) -> None:
    deque.clear(value)
    deque.extend(value, items)


def _write_set(value: set[Any], items: list[Any]) -> None:
    set.clear(value)
    set.update(value, items)


def _write_class(value: type, items: list[Any]) -> None:
    half = len(items) // 2
    before = dict(zip(items[:half], items[half:], strict=True))
    for name in [name for name in vars(value) if name not in before]:
        delattr(value, name)
    for name, item in before.items():
        if vars(value).get(name) is not item:
            setattr(value, name, item)


def read_cell(cell: types.CellType) -> list[Any]:
    """What a variable of an enclosing function holds; empty before it holds anything."""
    try:
        return [cell.cell_contents]
    except ValueError:  # nothing is in it yet
        return []


def _write_cell(cell: types.CellType, items: list[Any]) -> None:
    if items:
        cell.cell_contents = items[0]
    else:
        del cell.cell_contents


# the containers' own methods: a subclass may do more in its own
CONTENTS: dict[type, Content] = {
    OrderedDict: _dict_content(OrderedDict),
    dict: _dict_content(dict),
    list: Content(list, lambda value, items: list.__setitem__(value, slice(None), items)),
    deque: Content(list, _write_deque),
    set: Content(list, _write_set),
    bytearray: Content(list, lambda value, items: value.__setitem__(slice(None), bytes(items))),
    types.CellType: Content(read_cell, _write_cell),
}
CLASS = Content(lambda value: [*vars(value).keys(), *vars(value).values()], _write_class)
_MISSING = object()


def content_of(kind: type) -> Content | None:
    """How a container of a class is read and written; None for anything else."""
    return next((content for known, content in CONTENTS.items() if issubclass(kind, known)), None)


def slots_of(kind: type) -> list[Any]:
    """The ``__slots__`` of a class and of those that it inherits from, without those of a library."""
    # a class written in C has members that are no slots
    own = (one for one in kind.__mro__ if "__slots__" in vars(one) and package_of(one) not in NOT_ITS_OWN)
    return [slot for one in own for slot in vars(one).values() if isinstance(slot, types.MemberDescriptorType)]


def slots_content(slots: list[Any]) -> Content:
    """How the slots of an object are read and written."""

    def read(value: Any) -> list[Any]:
        found = []
        for slot in slots:
            try:
                found.append(slot.__get__(value))
            except AttributeError:
                found.append(_MISSING)
        return found

    def write(value: Any, items: list[Any]) -> None:
        for slot, item, now in zip(slots, items, read(value), strict=True):
            if item is not now:
                slot.__delete__(value) if item is _MISSING else slot.__set__(value, item)

    return Content(read, write)


def global_content(names: list[str]) -> Content:
    """How variables of a file are read and written."""

    def write(table: dict[str, Any], items: list[Any]) -> None:
        for name, item in zip(names, items, strict=True):
            if item is not _MISSING:
                table[name] = item
            else:
                table.pop(name, None)

    return Content(lambda table: [table.get(name, _MISSING) for name in names], write)


OF_PARTS = (types.MethodType, functools.partial, CACHED, types.FunctionType, tuple, frozenset)


def parts_of(value: Any) -> list[Any]:
    """What an object that never changes is made of."""
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.FunctionType):
        return [*(value.__closure__ or ()), value.__defaults__, value.__kwdefaults__]
    return [value.__wrapped__] if isinstance(value, CACHED) else list(value)


def is_iterator(kind: type) -> bool:
    """Whether a class is an iterator of Python's own, whose place nothing but an advance shows."""
    return issubclass(kind, Iterator) and package_of(kind) in {"builtins", "itertools", "_io"}


def advanced_apart(iterator: Any) -> Any:
    """An iterator at the same place, which leaves the given one where it is; it raises where there can be none."""
    try:
        with warnings.catch_warnings():
            # Python 3.14 takes the copies of itertools away
            warnings.simplefilter("ignore")
            if package_of(type(iterator)) == "_io":
                return copy.copy(iterator)
            build, arguments, *state = iterator.__reduce__()
            made = build(*(advanced_apart(one) if is_iterator(type(one)) else one for one in arguments))
            if state and state[0] is not None:
                made.__setstate__(state[0])
            return made
    except TypeError:  # a generator, an open file
        return iterator if package_of(type(iterator)) == "_io" else _NotAdvanced(iterator)


class _NotAdvanced:
    """In place of an iterator that has no copy: the first advance is refused."""

    def __init__(self, iterator: Any) -> None:
        self._kind = type(iterator).__name__

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        raise SettingError(
            f"the forward advances a {self._kind} that the network holds, which could not be given back as it was: "
            "hold a list or an iterator over one"
        )

    send = throw = close = __next__


def is_its_own(module: str | None) -> bool:
    """Whether a module is a file of somebody's own, or of an installed library that may keep tensors."""
    package = str(module).partition(".")[0]
    if module not in sys.modules or package in NOT_ITS_OWN:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    if file is not None and not {"site-packages", "dist-packages"}.intersection(Path(file).parts):
        return True
    return _uses_torch(package)


@functools.cache
def _uses_torch(package: str) -> bool:
    """Whether some module of a package that is loaded names PyTorch."""
    loaded = list(sys.modules.items())
    return any("torch" in vars(one) for name, one in loaded if one and name.partition(".")[0] == package)


def package_of(kind: type) -> str:
    """The name of the package that a class comes from."""
    return str(kind.__module__).partition(".")[0]
