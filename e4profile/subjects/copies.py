"""Copies of somebody's network, to be thrown away: in another dtype, on another device, beside the caller's own."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from e4profile.subjects.as_found import as_found, device_of, set_mode
from e4profile.subjects.contents import (
    ATOMS,
    CACHED,
    OF_THE_PROCESS,
    Content,
    advanced_apart,
    content_of,
    is_iterator,
    package_of,
    slots_of,
)
from e4profile.subjects.inputs import Example
from e4profile.subjects.refusals import check_module


def copied(model: nn.Module) -> nn.Module:
    """A network to be thrown away, which shares no tensor, container or hook with the given one.

    Unlike ``copy.deepcopy`` it asks no module whether it may be copied, takes tensors that are results of others, and
    gives functions that remember parts of the network those of the copy. What refuses to be copied, for example a
    lock, is shared.

    Raises:
        SettingError: for what ``check_module`` refuses.
    """
    check_module(type(model).__name__, model)
    copier = _Copier()
    with torch.no_grad():
        twin: nn.Module = copier.of(model)
        for write in copier.waiting:
            write()
    return twin


def dtype_in(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a tensor of a network in a floating-point dtype: complex numbers are made of two of these."""
    if tensor.is_complex():
        return dtype.to_complex()
    return dtype if tensor.is_floating_point() else tensor.dtype


def in_dtype(network: nn.Module, dtype: torch.dtype, device: torch.device | None = None) -> nn.Module:
    """The network itself, its tensors in a dtype (see ``dtype_in``) on a device."""
    if any(one.is_complex() for one in (*network.parameters(), *network.buffers())):
        network._apply(lambda tensor: tensor.to(device, dtype_in(tensor, dtype)))
        return network
    return network.to(device, dtype)


class _Copier:
    def __init__(self) -> None:
        # as ``copy.deepcopy`` wants it
        self._made: dict[int, Any] = {}
        self.waiting: list[Callable[[], object]] = []
        self._kinds: dict[type, Callable[[Any], Any] | None] = dict.fromkeys(ATOMS)

    def of(self, value: Any) -> Any:
        """The copy of an object, the same one every time."""
        kind = type(value)
        if kind not in self._kinds:
            self._kinds[kind] = self._how(value)
        copies = self._kinds[kind]
        if copies is None:
            return value
        if id(value) not in self._made:
            self._made[id(value)] = copies(value)
        return self._made[id(value)]

    def _how(self, value: Any) -> Callable[[Any], Any] | None:
        """What copies an object of this class; None for one that never changes."""
        if isinstance(value, ATOMS):
            return None
        if is_iterator(type(value)):
            return advanced_apart
        build = next((build for kind, build in _BUILDS if isinstance(value, kind)), None)
        if build is not None:
            return functools.partial(build, self)
        content = content_of(type(value))
        if type(value) in _EMPTY:
            return functools.partial(self._container, content)
        if content is not None or isinstance(value, nn.Module) or _is_plain(value):
            return functools.partial(self._whole, content)
        return self._other

    def _container(self, content: Content | None, value: Any) -> Any:
        """Most are the empty tables of hooks that every module has, and ``copy.copy`` takes its time."""
        return type(value)() if not value and not getattr(value, "__dict__", None) else self._whole(content, value)

    def _other(self, value: Any) -> Any:
        try:
            return copy.deepcopy(value, self._made)
        except Exception:  # a lock or a file is shared
            return value

    def tensor(self, value: Tensor) -> Tensor:
        kind: Any = type(value)
        if is_lazy(value):
            # no value to copy yet
            unfinished: Tensor = kind(requires_grad=value.requires_grad, device=value.device, dtype=value.dtype)
            return unfinished
        found: Tensor = copy.deepcopy(value if value.is_leaf else value.detach(), self._made)
        return found

    def row(self, value: Any) -> Any:
        parts = [self.of(part) for part in value]
        return type(value)._make(parts) if hasattr(value, "_make") else tuple(parts)

    def reference(self, value: weakref.ref[Any]) -> weakref.ref[Any]:
        target = self._made.get(id(value()))
        return value if target is None else weakref.ref(target)

    def _whole(self, content: Content | None, value: Any) -> Any:
        """A container or an object with all that it holds, which may hold the object itself."""
        made = self._made[id(value)] = object.__new__(type(value)) if content is None else copy.copy(value)
        if content is not None:
            parts = [self.of(part) for part in content.read(value)]
            try:
                content.write(made, parts)
            except Exception:
                # a key that holds the container has no hash before it is whole
                self.waiting.append(functools.partial(content.write, made, parts))
        if hasattr(value, "__dict__"):
            made.__dict__.update({name: self.of(part) for name, part in vars(value).items()})
        for slot in slots_of(type(value)):
            if hasattr(value, slot.__name__):
                slot.__set__(made, self.of(slot.__get__(value)))
        return made

    def function(self, value: types.FunctionType) -> Any:
        if not value.__closure__:
            return value
        cells = tuple(types.CellType() for _ in value.__closure__)
        made = types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)
        made.__kwdefaults__ = value.__kwdefaults__
        made.__qualname__ = value.__qualname__
        self._made[id(value)] = made
        made.__dict__.update({name: self.of(part) for name, part in vars(value).items()})
        for cell, original in zip(cells, value.__closure__, strict=True):
            if original != types.CellType():
                cell.cell_contents = self.of(original.cell_contents)
        return made


_BUILDS: tuple[tuple[Any, Callable[[_Copier, Any], Any]], ...] = (
    (Tensor, _Copier.tensor),
    (types.FunctionType, _Copier.function),
    (types.MethodType, lambda copier, one: types.MethodType(copier.of(one.__func__), copier.of(one.__self__))),
    (
        functools.partial,
        lambda copier, one: functools.partial(copier.of(one.func), *copier.of(one.args), **copier.of(one.keywords)),
    ),
    (CACHED, lambda copier, one: functools.lru_cache(**one.cache_parameters())(copier.of(one.__wrapped__))),
    (weakref.ref, _Copier.reference),
    (tuple, _Copier.row),
)


_EMPTY = (dict, OrderedDict, list, set)
_COPYING = ("__new__", "__reduce_ex__", "__reduce__")


def _is_plain(value: Any) -> bool:
    """Whether an object is nothing but its attributes: its class makes and copies it as ``object`` does."""
    kind = type(value)
    own = any(hasattr(kind, name) for name in ("__deepcopy__", "__setstate__", "__copy__"))
    alike = all(getattr(kind, name) is getattr(object, name) for name in _COPYING)
    held = hasattr(value, "__dict__") or bool(slots_of(kind))
    return alike and held and not own and package_of(kind) not in OF_THE_PROCESS


def is_unfinished(model: nn.Module) -> bool:
    """Whether lazy layers wait for a first call to know their shapes."""
    tables = (table for module in model.modules() for table in (module._parameters, module._buffers))
    return any(tensor is not None and is_lazy(tensor) for table in tables for tensor in table.values())


def materialised(model: nn.Module, example: Example) -> nn.Module:
    """The network itself, or a copy after a first call where lazy layers wait for one to know their shapes.

    Raises:
        Whatever the network's forward raises.
    """
    if not is_unfinished(model):
        return model
    where = device_of(model)
    inputs = example.copied(where)
    with as_found(model), torch.no_grad():
        twin = copied(model)
        set_mode(twin, training=False)
        twin(*inputs.positional, **inputs.keywords)
    # in evaluation mode, so that no running statistics moved
    for module, found in zip(twin.modules(), model.modules(), strict=True):
        module.training = found.training
    return twin
