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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy

from e4profile.errors import E4ProfileError
from e4profile.subjects.contents import (
    ATOMS,
    CACHED,
    CLASS,
    CONTENTS,
    NOT_ITS_OWN,
    OF_PARTS,
    OF_THE_PROCESS,
    TENSOR_TYPE,
    Content,
    advanced_apart,
    content_of,
    global_content,
    is_iterator,
    is_its_own,
    package_of,
    parts_of,
    read_cell,
    slots_content,
    slots_of,
)
from e4profile.subjects.in_threads import followed_in_threads
from e4profile.subjects.process import as_now
from e4profile.subjects.refusals import check_module
from e4profile.subjects.stand_ins import is_stand_in, seen_class

_Restore = Callable[[], object]


class NotGivenBackError(E4ProfileError):
    """Something of a network could not be given back; all else was."""


@contextmanager
def as_found(
    model: nn.Module, stand_in: Callable[[Tensor], Tensor] | None = None, *, training: bool | None = None
) -> Iterator[None]:
    """Run a network inside, and give it back as it was found: its state, its mode, the process's settings.

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
    restores = [*as_now(), *_random_states(), *found.restores]
    try:
        found.replace_caches_and_iterators()
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
        raise NotGivenBackError(
            f"{name} could not be restored to how it was found: {type(first).__name__}: {first}{more}"
        ) from first


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


def names_in(code: types.CodeType) -> list[str]:
    """The names that a function uses, also in the functions and comprehensions inside it."""
    inside = (one for one in code.co_consts if isinstance(one, types.CodeType))
    return [*code.co_names, *(name for one in inside for name in names_in(one))]


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
        self._classes: list[tuple[dict[str, Any], str]] = []
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

    def replace_caches_and_iterators(self) -> None:
        """Put an empty ``lru_cache`` in place of each, for what is computed on stand-ins, and copies of iterators."""
        copies: dict[int, Any] = {}

        def replaced(item: Any) -> Any:
            if isinstance(item, CACHED):
                return functools.lru_cache(**item.cache_parameters())(item.__wrapped__)
            if not is_iterator(type(item)):
                return item
            if id(item) not in copies:
                copies[id(item)] = advanced_apart(item)
            return copies[id(item)]

        for content, value in self._holders:
            items = content.read(value)
            if any(isinstance(item, CACHED) or is_iterator(type(item)) for item in items):
                content.write(value, [replaced(item) for item in items])

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
        if any(isinstance(made, FakeTensor) for made in stand_ins.values()):
            for table, name in self._classes:
                table[name] = seen_class(name)
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
        elif issubclass(kind, OF_PARTS):
            own = self._parts
        elif issubclass(kind, _RANDOM):
            own = self._random
        if kind in CONTENTS and content is not None and kind is not types.CellType:
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
                self._content(slots_content(slots), value)
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
            self._content(CLASS, kind)

    def _parts(self, value: Any) -> None:
        self._waiting += parts_of(value)
        if isinstance(value, types.FunctionType) and str(value.__module__).partition(".")[0] not in NOT_ITS_OWN:
            self._globals(value)

    def _globals(self, function: types.FunctionType) -> None:
        """The variables of its file that a function names, and the functions and classes that it uses.

        Those of other files too, also of an installed library: it may cache by device.
        """
        names, files = names_in(function.__code__), {str(function.__module__)}
        self._named(function.__globals__, names, files)
        # what is imported inside of it, or around it
        imported = [sys.modules.get(name) for name in names]
        for module in (*imported, *(item for cell in function.__closure__ or () for item in read_cell(cell))):
            self._module(module, names, files)
        self._waiting.append(vars(function))

    def _named(self, table: dict[str, Any], names: Sequence[str], files: set[str]) -> None:
        """What names stand for in files, of which these are known; an unknown name may become a variable there."""
        variables = []
        for name in names:
            found = table.get(name)
            if found is FakeTensor or (name == "type" and name not in table):
                self._classes.append((table, name))
            if type(found) is TENSOR_TYPE:
                self._tensor_type(found)
            if isinstance(found, (types.FunctionType, type)) and found is not FakeTensor:
                if found.__module__ in files or is_its_own(found.__module__):
                    self._waiting.append(found) if isinstance(found, types.FunctionType) else self._class(found)
            elif isinstance(found, types.ModuleType):
                self._module(found, names, files)
            elif not isinstance(found, nn.Module):
                variables.append(name)
        self._content(global_content(variables), table)

    def _module(self, found: Any, names: Sequence[str], files: set[str]) -> None:
        if isinstance(found, types.ModuleType) and found.__name__ not in files and is_its_own(found.__name__):
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
            self._plain |= {kind for kind in kinds if not (issubclass(kind, (Tensor, CACHED)) or is_iterator(kind))}
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
