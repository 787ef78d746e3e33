"""Threads that a forward starts are followed like itself: what sees operators and saved tensors is each thread's own.

Without it an operator that runs in another thread is in no account, and nothing says so.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def followed_in_threads() -> Iterator[None]:
    """Let the modes and the hooks of a thread see what runs in the threads that it starts, until the body ends."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit
    here, following = threading.local(), list[_Following]()

    def followed(function: Callable[..., Any]) -> Callable[..., Any]:
        modes, hooks = _get_current_dispatch_mode_stack(), _hooks()
        if not modes and hooks is None:
            return function
        one = _Following(modes, hooks)
        following.append(one)

        @functools.wraps(function)
        def run(*args: Any, **keywords: Any) -> Any:
            with one.entered():
                return function(*args, **keywords)

        return run

    def started(thread: threading.Thread) -> None:
        # the threads of a pool take calls from everybody: each call is followed, and not the thread
        if not getattr(here, "submits", False):
            thread.run = followed(thread.run)  # type: ignore[method-assign]
        start(thread)

    def submitted(pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        here.submits = True
        try:
            return submit(pool, followed(fn), *args, **keywords)
        finally:
            here.submits = False

    threading.Thread.start, ThreadPoolExecutor.submit = started, submitted  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        threading.Thread.start, ThreadPoolExecutor.submit = start, submit  # type: ignore[method-assign]
        for one in following:
            one.over = True


def is_observed() -> bool:
    """Whether a mode or a hook sees what this thread runs."""
    return bool(_get_current_dispatch_mode_stack()) or _hooks() is not None


def _hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


class _Following(TorchDispatchMode):
    """Hands the operators of another thread to the modes of the one that started it, as long as these are there."""

    def __init__(self, modes: list[Any], hooks: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.over = False
        self._modes, self._hooks = modes, hooks

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        if self.over:
            return func(*args, **(kwargs or {}))
        # modes are made for one thread
        with _ONE_AT_A_TIME, ExitStack() as stack:
            for mode in self._modes:
                stack.enter_context(mode)
            return func(*args, **(kwargs or {}))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """See what this thread runs."""
        with ExitStack() as stack:
            if self._hooks is not None:
                stack.enter_context(saved_tensors_hooks(self._pack, self._unpack))
            stack.enter_context(self)
            yield

    def _pack(self, tensor: Tensor) -> Any:
        pack, _ = self._hooks
        return (tensor, None) if self.over else (None, pack(tensor))

    def _unpack(self, packed: tuple[Tensor | None, Any]) -> Tensor:
        tensor, kept = packed
        _, unpack = self._hooks
        found: Tensor = unpack(kept) if tensor is None else tensor
        return found
