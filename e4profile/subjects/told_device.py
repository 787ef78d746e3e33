"""The device that a forward on the meta device is told it is on: the caller's, so that its branches are the caller's.

PyTorch itself is told the truth. What a forward makes on the device that it was told is made on the meta device.
"""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from e4profile.subjects.as_found import CACHED, NOT_ITS_OWN

_TOLD_THE_TRUTH = ("torch", "e4profile")
_META = torch.device("meta")
_GETTER = types.GetSetDescriptorType


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
        answers = {} if self._device.type == "meta" else self._answers()
        before = {name: vars(Tensor).get(name) for name in answers}
        try:
            for name, answer in answers.items():
                setattr(Tensor, name, answer)
            yield
        finally:
            if self._caches is not None:
                self._caches.empty_filled()
            for name, found in before.items():
                if found is None:
                    delattr(Tensor, name)
                else:
                    setattr(Tensor, name, found)

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

    def _answers(self) -> dict[str, Any]:
        device = self._device
        index = -1 if device.index is None else device.index
        package = "torch" if device.type == "cpu" else f"torch.{device.type}"

        def address(_: Tensor) -> int:
            raise NotImplementedError("a tensor on the meta device has no address")

        def typed(tensor: Tensor, *args: Any, **keywords: Any) -> Any:
            found = torch._C.TensorBase.type(tensor, *args, **keywords)
            return found.replace("torch.meta", package) if isinstance(found, str) else found

        attributes = {"device": device, "is_meta": False, f"is_{device.type}": True}
        methods: dict[str, Callable[..., Any]] = {"get_device": lambda _: index, "data_ptr": address, "type": typed}
        return {
            **{name: property(self._outside(name, lambda _, value=value: value)) for name, value in attributes.items()},
            **{name: self._outside(name, answer) for name, answer in methods.items()},
        }

    def _outside(self, name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        """What gives the answer to code outside PyTorch, and the truth to PyTorch."""
        member = getattr(torch._C.TensorBase, name)
        truth = member.__get__ if type(member) is _GETTER else member
        is_meta = torch._C.TensorBase.is_meta.__get__  # type: ignore[attr-defined]

        def asked(tensor: Tensor, *args: Any, **keywords: Any) -> Any:
            if not is_meta(tensor) or _get_current_dispatch_mode() is None:
                return truth(tensor, *args, **keywords)
            package = str(sys._getframe(1).f_globals.get("__name__")).partition(".")[0]
            if package in _TOLD_THE_TRUTH:
                return truth(tensor, *args, **keywords)
            if not self.was_read:
                # from here on a key may be that of real tensors
                self.was_read, self._caches = True, Caches()
            return answer(tensor, *args, **keywords)

        return asked
