"""Count many variants of a network: its closed form, without initialising weights that nothing reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.overrides import TorchFunctionMode

from e4profile.cards import Card
from e4profile.counters.closed_form import count_closed_form
from e4profile.errors import SettingError


class _Uninitialised(TorchFunctionMode):
    """Weights keep whatever their memory holds.

    A closed form reads no tensor, and building on the CPU without filling weights takes half the time of
    building on the meta device, whose index arithmetic runs in Python.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@dataclass(frozen=True)
class Counts:
    """Parameters, and operations by kind, of one image's forward pass."""

    params: int
    operations: Mapping[str, int]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal costs."""
        return (self.params, *sorted(self.operations.items()))


class Counter:
    """Counts cards by closed form and remembers them; None where a network refuses its arguments."""

    def __init__(self) -> None:
        self._known: dict[str, Counts | None] = {}

    def __call__(self, card: Card) -> Counts | None:
        """The counts of a card."""
        key = repr((card.network, card.input, sorted(card.arguments.items())))
        if key not in self._known:
            try:
                with _Uninitialised():
                    built = card.build("cpu")
                counted = count_closed_form(built, card.input_shape())
                self._known[key] = Counts(counted.params, counted.operations)
            except SettingError:
                self._known[key] = None
        return self._known[key]
