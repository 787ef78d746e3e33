"""Running somebody's network and leaving it as it was found, also when its forward raises half way.

What a network can change of itself is what is reachable from it: attributes, containers, hooks, closures, tensors, the
attributes of its classes. ``as_found`` writes all of that down, object by object, and gives each object its own content
back, by identity.
"""

from __future__ import annotations

import functools
import queue
import random
import sys
import threading
import types
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from e4profile.errors import E4ProfileError, SettingError
from e4profile.subjects.in_threads import followed_in_threads
from e4profile.subjects.stand_ins import is_stand_in

_Restore = Callable[[], object]

ATOMS = (
    type(None), bool, int, float, complex, str, bytes, range, type, property, types.ModuleType, types.CodeType,
    types.BuiltinFunctionType, torch.dtype, torch.device, torch.Size,
)  # fmt: skip
CACHED: Any = type(functools.lru_cache(lambda: None))
TENSOR_TYPE: Any = type(torch.FloatTensor)
# what belongs to the process or to a library, and is no part of a network
NOT_ITS_OWN = {"torch", "numpy", "e4profile", "builtins", *sys.stdlib_module_names}
OF_THE_PROCESS = {"logging", "threading", "multiprocessing", "concurrent", "asyncio", "queue"}


class NotGivenBackError(E4ProfileError):
    """Something of a network could not be given back; all else was."""


@contextmanager
def as_found(
    model: nn.Module, stand_in: Callable[[Tensor], Tensor] | None = None, *, training: bool | None = None
) -> Iterator[None]:
    """Run a network inside, and give it back as it was found: its state, its mode, the process's random numbers.

    Every object that can be reached from the network gets its content back by itself, so that one which refuses
    keeps none of the others from it.

    Args:
        model: on any device.
        stand_in: a tensor in place of a parameter or a buffer while it runs, asked once for each, and in place of any
            other tensor that the network holds where it gives one without values. None leaves them where they are, for
            a run of a copy.
        training: the mode to run in, which the network's own ``train`` or ``eval`` sets, without gradients; the mode
            that each module is in when None.

    Raises:
        SettingError: for what ``check_module`` refuses, before anything is touched.
        NotGivenBackError: for what could not be given back.
        Whatever the network's ``train`` raises.
    """
    check_module(type(model).__name__, model)
    found = _Found(model)
    restores = [*_random_states(), *found.restores]
    try:
        found.empty_caches()
        if training is not None:
            set_mode(model, training)
        if stand_in is not None:
            found.replace_tensors(stand_in)
        with followed_in_threads():
            yield
    finally:
        _give_back(type(model).__name__, restores)


def _give_back(name: str, restores: list[_Restore]) -> None:
    failures = []
    # parts before what holds them
    for restore in reversed(restores):
        try:
            restore()
        except Exception as error:
            failures.append(error)
    if failures:
        first = failures[0]
        more = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
        raise NotGivenBackError(f"{name} is not as it was found: {type(first).__name__}: {first}{more}") from first


def set_mode(model: nn.Module, training: bool) -> None:
    """Put a network in training or evaluation mode, where it is not wholly in it, by its own ``train`` or ``eval``.

    A network may build what it runs with in there: without gradients, so that it can be copied.
    """
    if all(module.training == training for module in model.modules()):
        return
    with torch.no_grad():
        try:
            if training:
                model.train()
            else:
                model.eval()
        except NotImplementedError:
            # an exported graph has no modes, and its flags decide nothing
            for module in model.modules():
                module.training = training


def _alike(found: Tensor, original: Tensor) -> Tensor:
    """A stand-in that is a parameter, of its class, where the original is one, with what somebody wrote on it."""
    kind, needs = type(original), original.requires_grad
    if isinstance(original, nn.Parameter) and not isinstance(found, nn.Parameter):
        found = Tensor._make_subclass(kind, found, needs) if type(found) is Tensor else nn.Parameter(found, needs)
    elif needs and original.is_leaf and found is not original:
        found.requires_grad_()
    if vars(original) and found is not original:
        vars(found).update(vars(original))
    return found


def meta_like(tensor: Tensor) -> Tensor:
    """A meta tensor of the same shape, strides and dtype, a leaf."""
    return tensor.detach() if tensor.is_meta else torch.empty_like(tensor, device="meta", requires_grad=False)


def copied_tensor(tensor: Tensor) -> Tensor:
    """A copy, a leaf without gradient."""
    return tensor.detach().clone()


class _Found:
    """What can be reached from a network, and how each object gets its content back where it has changed.

    Attributes:
        restores: one step per object, each independent of the others.
    """

    def __init__(self, model: nn.Module) -> None:
        self.restores: list[_Restore] = [self._empty]
        self._emptied: list[Any] = []
        self._seen: dict[int, Any] = {}
        self._storages: set[int] = set()
        self._holders: list[tuple[Content, Any]] = []
        self._model = model
        # stand-ins are written to in place of what these hold
        self._replaced = {id(table) for one in model.modules() for table in (one._parameters, one._buffers)}
        self._kinds: dict[type, Callable[[Any], object] | None] = dict.fromkeys(ATOMS)
        self._plain: set[type] = set()
        self._tensor_types: dict[str, None] = {}
        self._waiting: list[Any] = [model]
        # it grows meanwhile; with few calls, as most of what a network holds are the empty tables of its modules
        for value in self._waiting:
            kind = type(value)
            if kind not in self._kinds:
                self._kinds[kind] = self._how(kind)
            write_down = self._kinds[kind]
            if write_down is not None:
                identity = id(value)
                if identity not in self._seen:
                    # kept alive: an identity is one object's as long as it lives
                    self._seen[identity] = value
                    write_down(value)

    def empty_caches(self) -> None:
        """Put an empty ``lru_cache`` in place of each: what a run computes on stand-ins must not stay in it."""

        def emptied(item: Any) -> Any:
            return functools.lru_cache(**item.cache_parameters())(item.__wrapped__)

        for content, value in self._holders:
            items = content.read(value)
            if any(isinstance(item, CACHED) for item in items):
                content.write(value, [emptied(item) if isinstance(item, CACHED) else item for item in items])

    def replace_tensors(self, stand_in: Callable[[Tensor], Tensor]) -> None:
        """Put stand-ins in place; what holds the same tensor holds the same stand-in.

        ``torch.func.functional_call`` does not serve: it leaves its tensors behind in a module that a model holds
        twice.
        """
        stand_ins: dict[int, Tensor] = {}

        def found(tensor: Tensor) -> Tensor:
            if id(tensor) not in stand_ins:
                made = stand_in(tensor)
                if self._tensor_types and made.is_meta and not tensor.is_meta:
                    raise TypeError(f"no tensor on the meta device is a {', '.join(self._tensor_types)}")
                stand_ins[id(tensor)] = _alike(made, tensor)
            return stand_ins[id(tensor)]

        # a mode may have put other tensors there than were found
        tables = [table for module in self._model.modules() for table in (module._parameters, module._buffers)]
        originals = [tensor for table in tables for tensor in table.values() if tensor is not None]
        for table in tables:
            for name, tensor in table.items():
                if tensor is not None:
                    table[name] = found(tensor)  # type: ignore[assignment]
        for content, value in self._holders:
            items = content.read(value)
            if any(isinstance(item, Tensor) and not is_stand_in(item) for item in items):
                content.write(value, [self._elsewhere(item, found) for item in items])
        # kept alive: an identity is one tensor's as long as it lives
        self._seen.update({id(tensor): tensor for tensor in originals})

    @staticmethod
    def _elsewhere(item: Any, found: Callable[[Tensor], Tensor]) -> Any:
        if not isinstance(item, Tensor) or is_stand_in(item) or is_lazy(item):
            return item
        stand_in = found(item)
        return stand_in if is_stand_in(stand_in) else item

    def _how(self, kind: type) -> Callable[[Any], object] | None:
        """What writes down an object of this class; None for one that never changes."""
        special = ((TENSOR_TYPE, self._tensor_type), (threading.Event, self._event), (queue.Queue, self._queue))
        if issubclass(kind, (*(known for known, _ in special), *ATOMS)) or package_of(kind) in OF_THE_PROCESS:
            return next((how for known, how in special if issubclass(kind, known)), None)
        content = content_of(kind)
        own: Callable[[Any], object] | None = None
        if content is not None:
            own = functools.partial(self._content, content)
        elif issubclass(kind, Tensor):
            own = self._tensor
        elif issubclass(kind, np.ndarray):
            own = self._array
        elif issubclass(kind, _OF_PARTS):
            own = self._parts
        elif issubclass(kind, _RANDOM):
            own = self._random
        if kind in _CONTENTS and content is not None and kind is not types.CellType:
            return functools.partial(self._container, content)
        if package_of(kind) in {"builtins", "collections"} and own is not None:
            return own
        slots = slots_of(kind)
        classes = [one for one in kind.__mro__ if package_of(one) not in NOT_ITS_OWN]

        def write_down(value: Any) -> None:
            if own is not None:
                own(value)
            self._attributes(value)
            if slots:
                self._content(_slots_content(slots), value)
            while classes:
                self._class(classes.pop())

        return write_down

    def _tensor_type(self, kind: Any) -> None:
        self._tensor_types[f"{kind.__module__}.{kind.__name__}"] = None

    def _event(self, value: threading.Event) -> None:
        self.restores.append(value.set if value.is_set() else value.clear)

    def _queue(self, value: queue.Queue[Any]) -> None:
        self._waiting.append(value.queue)

    def _class(self, kind: type) -> None:
        if id(kind) not in self._seen:
            self._seen[id(kind)] = kind
            self._content(_CLASS, kind)

    def _parts(self, value: Any) -> None:
        self._waiting += _parts(value)
        if isinstance(value, types.FunctionType) and str(value.__module__).partition(".")[0] not in NOT_ITS_OWN:
            self._globals(value)

    def _globals(self, function: types.FunctionType) -> None:
        """The variables of its file that a function names, and the functions and classes that it uses.

        Those of other files too, also of an installed library: it may cache by device.
        """
        names, files = function.__code__.co_names, {str(function.__module__)}
        self._named(function.__globals__, names, files)
        # what is imported inside of it, or around it
        imported = [sys.modules.get(name) for name in names]
        for module in (*imported, *(item for cell in function.__closure__ or () for item in _read_cell(cell))):
            self._module(module, names, files)
        self._waiting.append(vars(function))

    def _named(self, table: dict[str, Any], names: Sequence[str], files: set[str]) -> None:
        """What names stand for in files, of which these are known; an unknown name may become a variable there."""
        variables = []
        for name in names:
            found = table.get(name)
            if type(found) is TENSOR_TYPE:
                self._tensor_type(found)
            if isinstance(found, (types.FunctionType, type)):
                if found.__module__ in files or _is_its_own(found.__module__):
                    self._waiting.append(found) if isinstance(found, types.FunctionType) else self._class(found)
            elif isinstance(found, types.ModuleType):
                self._module(found, names, files)
            elif not isinstance(found, nn.Module):
                variables.append(name)
        self._content(_global_content(variables), table)

    def _module(self, found: Any, names: Sequence[str], files: set[str]) -> None:
        if isinstance(found, types.ModuleType) and found.__name__ not in files and _is_its_own(found.__name__):
            files.add(found.__name__)
            self._named(vars(found), names, files)

    def _random(self, value: Any) -> None:
        self.restores.append(_random_state(value))

    def _container(self, content: Content, value: Any) -> None:
        """Most are the empty tables of hooks that every module has: nothing but their emptiness is given back."""
        if value:
            self._content(content, value)
        else:
            self._emptied.append(value)

    def _empty(self) -> None:
        for value in self._emptied:
            if value:
                value.clear()

    def _content(self, content: Content, value: Any) -> None:
        before = content.read(value)
        identities = [*map(id, before)]

        def restore() -> None:
            if [*map(id, content.read(value))] != identities:
                content.write(value, before)

        self.restores += (restore,)
        self._waiting += before
        if not before:
            return
        kinds = {*map(type, before)}
        if not kinds <= self._plain:
            self._plain |= {kind for kind in kinds if not issubclass(kind, (Tensor, CACHED))}
            if not kinds <= self._plain:
                self._holders.append((content, value))
                if id(value) not in self._replaced:
                    for item in before:
                        if isinstance(item, Tensor):
                            self._values(item)

    def _attributes(self, value: Any) -> None:
        """Its own attributes, and its class, which some change with their state."""
        kind, attributes = type(value), getattr(value, "__dict__", None)
        if not isinstance(attributes, dict):
            return

        def restore() -> None:
            if type(value) is not kind:
                value.__class__ = kind
            if value.__dict__ is not attributes:
                value.__dict__ = attributes

        self.restores.append(restore)
        self._waiting.append(attributes)

    def _tensor(self, tensor: Tensor) -> None:
        """The storage that it looks at, its gradient, and whether it needs one."""
        place = _place(tensor)
        if place is None:
            return
        looks_at, needs = tensor.detach(), tensor.requires_grad
        gradient = tensor.grad if tensor.is_leaf else None
        self._waiting.append(gradient)

        def restore() -> None:
            if _place(tensor) != place:
                tensor.data = looks_at
            if tensor.is_leaf:
                if tensor.requires_grad != needs:
                    tensor.requires_grad_(needs)
                if tensor.grad is not gradient:
                    tensor.grad = gradient

        self.restores.append(restore)

    def _values(self, tensor: Tensor) -> None:
        if tensor.is_meta or _place(tensor) is None:
            return
        storage = tensor.untyped_storage()
        if storage._cdata in self._storages:
            return
        self._storages.add(storage._cdata)
        before = storage.clone()

        def restore() -> None:
            if storage.nbytes() != before.nbytes():
                storage.resize_(before.nbytes())
            # a storage has no version: a graph of the caller's may still go backward
            storage.copy_(before)

        self.restores.append(restore)

    def _array(self, array: Any) -> None:
        before = array.copy()

        def restore() -> None:
            if array.flags.writeable:
                array[...] = before

        self.restores.append(restore)


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


def _read_cell(cell: types.CellType) -> list[Any]:
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
_CONTENTS: dict[type, Content] = {
    OrderedDict: _dict_content(OrderedDict),
    dict: _dict_content(dict),
    list: Content(list, lambda value, items: list.__setitem__(value, slice(None), items)),
    deque: Content(list, _write_deque),
    set: Content(list, _write_set),
    bytearray: Content(list, lambda value, items: value.__setitem__(slice(None), bytes(items))),
    types.CellType: Content(_read_cell, _write_cell),
}
_CLASS = Content(lambda value: [*vars(value).keys(), *vars(value).values()], _write_class)
_MISSING = object()


def content_of(kind: type) -> Content | None:
    """How a container of a class is read and written; None for anything else."""
    return next((content for known, content in _CONTENTS.items() if issubclass(kind, known)), None)


def slots_of(kind: type) -> list[Any]:
    """The ``__slots__`` of a class and of those that it inherits from, without those of a library."""
    # a class written in C has members that are no slots
    own = (one for one in kind.__mro__ if "__slots__" in vars(one) and package_of(one) not in NOT_ITS_OWN)
    return [slot for one in own for slot in vars(one).values() if isinstance(slot, types.MemberDescriptorType)]


def _slots_content(slots: list[Any]) -> Content:
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


def _global_content(names: list[str]) -> Content:
    def write(table: dict[str, Any], items: list[Any]) -> None:
        for name, item in zip(names, items, strict=True):
            if item is not _MISSING:
                table[name] = item
            else:
                table.pop(name, None)

    return Content(lambda table: [table.get(name, _MISSING) for name in names], write)


_OF_PARTS = (types.MethodType, functools.partial, CACHED, types.FunctionType, tuple, frozenset)


def _parts(value: Any) -> list[Any]:
    """What an object that never changes is made of."""
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.FunctionType):
        return [*(value.__closure__ or ()), value.__defaults__, value.__kwdefaults__]
    return [value.__wrapped__] if isinstance(value, CACHED) else list(value)


def _is_its_own(module: str | None) -> bool:
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


def _place(tensor: Tensor) -> tuple[Any, ...] | None:
    """Where a tensor's values are; None for one without a storage of its own."""
    if tensor.layout != torch.strided or is_lazy(tensor):
        return None
    try:
        return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride()
    except (NotImplementedError, RuntimeError):
        return None


_RANDOM = (torch.Generator, random.Random, np.random.RandomState, np.random.Generator)


def _random_state(value: Any) -> _Restore:
    """How a generator of random numbers gets its state back."""
    if isinstance(value, random.Random):
        return functools.partial(value.setstate, value.getstate())
    if isinstance(value, np.random.Generator):
        return functools.partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    return functools.partial(value.set_state, value.get_state())


def _random_states() -> list[_Restore]:
    """How the generators of the process get their states back: torch's on every device, NumPy's, Python's."""
    states: list[_Restore] = [
        functools.partial(torch.set_rng_state, torch.get_rng_state()),
        functools.partial(np.random.set_state, np.random.get_state()),
        functools.partial(random.setstate, random.getstate()),
    ]
    if torch.cuda.is_available():
        states.append(functools.partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    return states


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Give the random number generators of every device back as they were, NumPy's and Python's too."""
    restores = _random_states()
    try:
        yield
    finally:
        _give_back("the random state", restores)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters and buffers are; the CPU without any."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread: small tensors gain nothing from more, and waiting threads slow a busy machine down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def refuse_unrun(output: Any) -> None:
    """Refuse what a forward returned where the work itself has not been done.

    Raises:
        SettingError: for a generator, another iterator or a coroutine, also inside tuples, lists and dicts.
    """
    if isinstance(output, (list, tuple, Mapping)):
        for item in output.values() if isinstance(output, Mapping) else output:
            refuse_unrun(item)
    elif isinstance(output, (Iterator, AsyncIterator, Awaitable)):
        if isinstance(output, Coroutine):
            output.close()
        raise SettingError(f"forward returned a {type(output).__name__}, which has not run; return tensors")


def check_module(name: str, model: nn.Module) -> None:
    """Refuse what is a module by its class alone, or cannot be followed module by module.

    Raises:
        SettingError: for a module whose ``__init__`` did not call ``super().__init__()``, one that contains itself,
            and a ``ScriptModule``; naming it.
    """
    _check_inside(name, model, "", {}, set())


def _check_inside(name: str, module: Any, path: str, outer: dict[int, str], done: set[int]) -> None:
    what = f"{name}: {f'{path} ({type(module).__name__})' if path else type(module).__name__}"
    if isinstance(module, torch.jit.ScriptModule):
        raise SettingError(f"{what} is a ScriptModule, which is not supported: give the module before torch.jit")
    # read past the class's own attributes, which may be anybody's code
    inside = vars(module).get("_modules")
    if inside is None:
        raise SettingError(f"{what} is not set up: its __init__ must call super().__init__()")
    if id(module) in done:
        return
    outer = {**outer, id(module): path or "the network itself"}
    for part, child in inside.items():
        if child is None:
            continue
        below = f"{path}.{part}" if path else part
        if id(child) in outer:
            raise SettingError(f"{name}: {below} is {outer[id(child)]} again: a module must not contain itself")
        _check_inside(name, child, below, outer, done)
    done.add(id(module))
