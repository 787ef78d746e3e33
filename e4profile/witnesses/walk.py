"""Following a network while it runs: which module is running, inside which others, on what.

Everything here that looks at a run looks through this recorder. It sets its hooks for the whole process, so that none
is set on the network, and it takes them off again. Modules that are not the network's are left out.

Some watchers ask for hooks on modules of the network instead: the clock, because a hook for the whole process makes
every other module slower, those inside a timed layer too; those that want a module's output after the user's own
hooks; and those that want keyword inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from e4profile.errors import SettingError, some_of
from e4profile.subjects.in_threads import is_observed


@dataclass(eq=False, slots=True)
class Call:
    """One call of a module.

    Attributes:
        path: dotted module path; that of the first place where the network holds the module.
        module: the module.
        outer: the call of the network's module around it.
        inputs: positional; gone after the call, as the next two.
        keywords: keyword inputs, which PyTorch tells to a hook on the module only.
        output: once it has returned; None where it raised.
    """

    path: str
    module: nn.Module
    outer: Call | None
    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: Any = None

    def __iter__(self) -> Iterator[Call]:
        """The call and those around it, from inside out."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.outer


class Watcher:
    """What is told of every call of a module; either may be left out."""

    def enter(self, call: Call) -> None:
        """A module is called."""

    def leave(self, call: Call) -> None:
        """It has returned or raised."""


class Walk:
    """A run that is being followed.

    Attributes:
        paths: of the network's modules, each at the first place where it is held.
        unseen: paths of modules that ran in a thread of which nothing is seen.
    """

    def __init__(self, model: nn.Module, watchers: tuple[Watcher, ...]) -> None:
        self.paths = {module: path for path, module in model.named_modules()}
        self._watchers = watchers
        self._running: dict[int, Call | None] = {}
        self._thread = get_ident()
        self._observed: bool | None = None
        self.unseen: dict[str, None] = {}

    @property
    def running(self) -> Call | None:
        """The innermost call that runs in this thread."""
        return self._running.get(get_ident())

    @property
    def path(self) -> str:
        """The path of the module that runs in this thread; empty outside of all."""
        call = self._running.get(get_ident())
        return "" if call is None else call.path

    def enter(self, module: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any] | None = None) -> None:
        """The hook before a module runs."""
        path = self.paths.get(module)
        if path is None:
            return
        thread = get_ident()
        if self._observed is None:
            self._observed = is_observed()
        if thread != self._thread and self._observed and not is_observed():
            self.unseen[path] = None
        call = self._running[thread] = Call(path, module, self._running.get(thread), inputs, keywords or {})
        for watcher in self._watchers:
            watcher.enter(call)

    def leave(self, module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        """The hook after a module has run, also where it raised."""
        thread = get_ident()
        call = self._running.get(thread)
        # a hook of the user's that raised may have kept the module from being entered
        if call is None or call.module is not module:
            return
        self._running[thread] = call.outer
        call.output = output
        for watcher in self._watchers:
            watcher.leave(call)
        call.inputs, call.keywords, call.output = (), {}, None


@contextmanager
def following(model: nn.Module, *watchers: Watcher, only: Iterable[nn.Module] | None = None) -> Iterator[Walk]:
    """Follow a network while the body runs it; no hook stays behind, also when it raises.

    Args:
        model: whose modules are followed, in whatever thread they run.
        watchers: told of every call, in this order.
        only: set hooks on these modules of the network and follow no others.
    """
    walk = Walk(model, watchers)
    with ExitStack() as hooks:
        if only is None:
            hooks.callback(register_module_forward_pre_hook(walk.enter).remove)
            hooks.callback(register_module_forward_hook(walk.leave, always_call=True).remove)
        for module in dict.fromkeys(only or ()):
            hooks.callback(module.register_forward_pre_hook(walk.enter, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(walk.leave, always_call=True).remove)
        yield walk
    if walk.unseen:
        raise SettingError(
            f"{some_of(list(walk.unseen))} of {type(model).__name__} runs in a thread that was there before the call, "
            "so it is not seen; start threads in the forward, or call its modules without threads"
        )
