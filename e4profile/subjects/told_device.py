"""The device that a forward on the meta device is told it is on: the caller's, so that its branches are the caller's.

PyTorch itself is told the truth. What a forward makes on the device that it was told is made on the meta device.
"""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from e4profile.subjects.contents import CACHED, NOT_ITS_OWN, TENSOR_TYPE

_TOLD_THE_TRUTH = ("torch", "e4profile")
_META = torch.device("meta")
_GETTER = types.GetSetDescriptorType


class _TensorType:
    """A type as ``torch.FloatTensor``, in a forward on the meta device: its tensors are of it too."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __instancecheck__(self, value: object) -> bool:
        if isinstance(value, Tensor) and _is_meta(value):
            return bool(value.dtype == self._kind.dtype and value.layout == self._kind.layout)
        return bool(isinstance(value, self._kind))

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._kind(*args, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)

    def __eq__(self, other: object) -> bool:
        return _plain(other) is self._kind

    def __hash__(self) -> int:
        return hash(self._kind)


def _plain(value: Any) -> Any:
    return value._kind if type(value) is _TensorType else value


def _is_meta(tensor: Tensor) -> bool:
    found: bool = torch._C.TensorBase.is_meta.__get__(tensor)  # type: ignore[attr-defined]
    return found


_device_of_storage: Any = torch.UntypedStorage.device.__get__


def _is_meta_storage(storage: Any) -> bool:
    untyped = storage._untyped_storage if isinstance(storage, torch.TypedStorage) else storage
    return bool(_device_of_storage(untyped).type == "meta")


def _address(_: object) -> int:
    raise NotImplementedError("a tensor on the meta device has no address")


@contextmanager
def _replaced(members: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Give classes and modules other members meanwhile."""
    with ExitStack() as stack:
        for owner, name, member in members:
            before = vars(owner).get(name)
            undo = (delattr, owner, name) if before is None else (setattr, owner, name, before)
            stack.callback(*undo)
            setattr(owner, name, member)
        yield


class Caches:
    """Every ``lru_cache`` of the process whose function is neither PyTorch's nor Python's, as filled as it is now."""

    def __init__(self) -> None:
        # kept alive: an identity is one cache's as long as it lives
        self._misses = {id(cache): (cache, cache.cache_info().misses) for cache in _caches()}

    def __enter__(self) -> None:
        """Inside, they may be filled."""

    def __exit__(self, *error: object) -> None:
        self.empty_filled()

    def empty_filled(self) -> None:
        """Empty those that were filled since: what is in them may have no values. No network need hold them."""
        for cache in _caches():
            if cache.cache_info().misses != self._misses.get(id(cache), (cache, 0))[1]:
                cache.cache_clear()


def _caches() -> list[Any]:
    found = [one for one in gc.get_objects() if type(one) is CACHED]
    return [one for one in found if str(one.__module__).partition(".")[0] not in NOT_ITS_OWN]


class ToldDevice:
    """What a forward sees of the device of its meta tensors, and where what it makes there is made.

    Args:
        device: whose branches a forward takes; None, or the meta device, for the truth.

    Attributes:
        was_read: whether the forward asked.
    """

    def __init__(self, device: torch.device | None) -> None:
        self._device = _META if device is None else device
        self.was_read = False
        self._caches: Caches | None = None

    @contextmanager
    def seen(self) -> Iterator[None]:
        """Let code outside PyTorch see the device, where a mode sees its operators; what modes call sees the truth.

        It sees no address of a tensor either: on the meta device all are 0, as if all tensors were one.
        """
        told = self._device.type != "meta"
        try:
            with _replaced([*self._answers(), *self._types()] if told else []), self.seen_of_storages():
                yield
        finally:
            if self._caches is not None:
                self._caches.empty_filled()

    @contextmanager
    def seen_of_storages(self) -> Iterator[None]:
        """The same of storages alone, for tensors that say themselves where they are."""
        with _replaced(self._of_storages() if self._device.type != "meta" else []):
            yield

    def on_meta(
        self, name: str, args: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """An operator's arguments, which make on the meta device what a forward makes on the device it was told.

        A default device is passed on like one that was asked for, so nothing changes before a forward asks.
        """
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if self.was_read and name == "aten::lift_fresh" and first is not None and self._is_told(first.device):
            return (torch.empty_like(first, device=_META),), keywords
        made_on = keywords.get("device")
        moved = first is not None and first.is_meta
        if made_on is None or not (moved or self.was_read) or not self._is_told(made_on):
            return args, keywords
        return args, {**keywords, "device": _META}

    def _is_told(self, device: torch.device) -> bool:
        return device.type == self._device.type and device.index in (None, self._device.index)

    @property
    def _package(self) -> Any:
        return torch if self._device.type == "cpu" else getattr(torch, self._device.type)

    def _answers(self) -> Iterator[tuple[Any, str, Any]]:
        device = self._device
        index = -1 if device.index is None else device.index

        def typed(tensor: Tensor, *args: Any, **keywords: Any) -> Any:
            wanted = keywords.get("dtype", args[0] if args else None)
            if isinstance(wanted, _TensorType):
                return tensor.to(wanted.dtype)
            found = torch._C.TensorBase.type(tensor, *args, **keywords)
            return found.replace("torch.meta", self._package.__name__) if isinstance(found, str) else found

        attributes = {"device": device, "is_meta": False, f"is_{device.type}": True}
        for name, value in attributes.items():
            yield Tensor, name, property(self._outside(Tensor, name, lambda _, value=value: value))
        methods: dict[str, Callable[..., Any]] = {"get_device": lambda _: index, "data_ptr": _address, "type": typed}
        for name, answer in methods.items():
            yield Tensor, name, self._outside(Tensor, name, answer)

    def _of_storages(self) -> Iterator[tuple[Any, str, Any]]:
        for kind in (torch.UntypedStorage, torch.TypedStorage):
            yield kind, "device", property(self._outside(kind, "device", lambda _: self._device))
            yield kind, "data_ptr", self._outside(kind, "data_ptr", _address)

    def _types(self) -> Iterator[tuple[Any, str, Any]]:
        for name, kind in list(vars(self._package).items()):
            if type(kind) is TENSOR_TYPE:
                yield self._package, name, _TensorType(kind)

    def _outside(self, kind: Any, name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        """What gives the answer to code outside PyTorch, and the truth to PyTorch."""
        member = getattr(torch._C.TensorBase if kind is Tensor else kind, name)
        truth = getattr(member, "fget", None) or (member.__get__ if type(member) is _GETTER else member)
        is_meta = _is_meta if kind is Tensor else _is_meta_storage

        def asked(tensor: Any, *args: Any, **keywords: Any) -> Any:
            if not is_meta(tensor) or _get_current_dispatch_mode() is None:
                return truth(tensor, *map(_plain, args), **keywords)
            frame = sys._getframe(1)
            package = str(frame.f_globals.get("__name__")).partition(".")[0]
            if package in _TOLD_THE_TRUTH and frame.f_code is not torch.typename.__code__:
                return truth(tensor, *map(_plain, args), **keywords)
            if not self.was_read:
                # from here on a key may be that of real tensors
                self.was_read, self._caches = True, Caches()
            return answer(tensor, *args, **keywords)

        return asked
