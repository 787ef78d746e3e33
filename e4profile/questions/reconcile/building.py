"""Count many variants of a network: a card's closed form, without initialising weights that nothing reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.overrides import TorchFunctionMode

from e4profile.errors import E4ProfileError, SettingError
from e4profile.networks.cards import Card
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import Subject
from e4profile.subjects.variants import VariantCounter
from e4profile.witnesses.counts.closed_form import count_closed_form


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
    """Counts networks and remembers them; None where a network refuses its arguments.

    A card is counted by its closed form, a model of one's own from what one call runs.

    Attributes:
        refused: the last refusal.
    """

    def __init__(self) -> None:
        self._known: dict[str, Counts | None] = {}
        self._variants = VariantCounter()
        self.refused: E4ProfileError | None = None

    def __call__(self, subject: Subject) -> Counts | None:
        """The counts of a network."""
        of = (subject.network, subject.input) if isinstance(subject, Card) else (subject.name, subject.specs)
        key = repr((of, sorted(subject.arguments.items())))
        if key not in self._known:
            try:
                self._known[key] = self._counted(subject)
            except (SettingError, UserCodeError) as error:
                self.refused, self._known[key] = error, None
        return self._known[key]

    def _counted(self, subject: Subject) -> Counts:
        if not isinstance(subject, Card):
            found = self._variants(subject)
            return Counts(found.params, {kind: amount for kind, amount in found.operations.items() if amount})
        with _Uninitialised():
            built = subject.build("cpu")
        counted = count_closed_form(built, subject.input_shape())
        return Counts(counted.params, counted.operations)
