"""Containers that know their own shapes.

A topology is said once, and both the forward pass and the closed form follow it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.layers.base import Costed, Shape
from e4profile.layers.stock import as_costed


@dataclass(frozen=True)
class Step:
    """One costed layer of a network and the shape it receives."""

    path: str
    module: nn.Module
    form: Costed
    input_shape: Shape


@runtime_checkable
class Traced(Protocol):
    """A container that passes shapes on to its parts."""

    def trace(self, input_shape: Shape, path: str) -> tuple[Shape, list[Step]]:
        """The output shape and the costed layers inside, in order of execution."""


def trace(module: nn.Module, input_shape: Shape, path: str = "") -> tuple[Shape, list[Step]]:
    """Follow a shape through a network without running it.

    Args:
        module: a container with ``trace``, or a layer with a closed form.
        input_shape: (B, ...).
        path: the module's path, which prefixes the paths of its parts.

    Raises:
        SettingError: for a module without a closed form, or a shape that does not fit, naming the path.
    """
    if isinstance(module, Traced):
        return module.trace(input_shape, path)
    form = as_costed(module)
    if form is None:
        raise SettingError(f"{path or 'the network'}: {type(module).__name__} has no closed form")
    try:
        form.dimensions(input_shape)  # refuses a shape that does not fit, here where the path is known
        return form.output_shape(input_shape), [Step(path, module, form, input_shape)]
    except SettingError as error:
        raise SettingError(f"{path or type(module).__name__}: {error}") from None


def join(path: str, name: str) -> str:
    """A dotted module path."""
    return f"{path}.{name}" if path else name


class Chain(nn.Module):
    """Named parts one after another; a part given as None is left out."""

    def __init__(self, **parts: nn.Module | None) -> None:
        super().__init__()
        for name, part in parts.items():
            if part is not None:
                self.add_module(name, part)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._modules[name] for name in self._modules)  # type: ignore[misc]

    def forward(self, features: Tensor) -> Tensor:
        """Run the parts in order."""
        for part in self:
            features = part(features)
        return features

    def trace(self, input_shape: Shape, path: str) -> tuple[Shape, list[Step]]:
        """The output shape and the costed layers inside, in order of execution."""
        steps: list[Step] = []
        # named_children() would leave out the second use of a part
        for name, part in zip(self._modules, self, strict=True):
            input_shape, inner = trace(part, input_shape, join(path, name))
            steps.extend(inner)
        return input_shape, steps


class Residual(nn.Module):
    """``body(x) + shortcut(x)``; the shortcut is the identity unless given."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, features: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        kept: Tensor = features if self.shortcut is None else self.shortcut(features)
        added: Tensor = self.body(features) + kept
        return added

    def trace(self, input_shape: Shape, path: str) -> tuple[Shape, list[Step]]:
        """The output shape and the costed layers inside, in order of execution.

        Raises:
            SettingError: when body and shortcut end in different shapes.
        """
        kept, steps = input_shape, list[Step]()
        if self.shortcut is not None:
            kept, steps = trace(self.shortcut, input_shape, join(path, "shortcut"))
        added, inner = trace(self.body, input_shape, join(path, "body"))
        if kept != added:
            raise SettingError(f"{path}: body gives {added} but shortcut gives {kept}")
        return added, steps + inner
