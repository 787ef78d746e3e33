"""Containers that know their own shapes.

A topology is said once, and both the forward pass and the closed form follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.layers.base import Cost, Costed, Dimensions, Shape, layer_cost
from e4profile.layers.stock import as_costed
from e4profile.layers.terms import evaluate


class FeatureMap(tuple[int, ...]):
    """The shape of a feature map on its way through a network, and what is known of the map.

    A container hands the shapes that it gets on to its parts, so that one walk says what runs forward and what a
    training step adds. The same object is the same map.

    Attributes:
        learned: whether the map depends on a parameter, so that a training step needs its gradient; None where
            that is not known.
    """

    learned: bool | None

    def __new__(cls, shape: Iterable[int], learned: bool | None = None) -> FeatureMap:
        """The map of a shape."""
        made = super().__new__(cls, shape)
        made.learned = learned
        return made


@dataclass(frozen=True)
class Step:
    """One call of a costed layer and the shape it receives; a layer that runs twice has two."""

    path: str
    module: nn.Module
    form: Costed
    input_shape: Shape

    @cached_property
    def dimensions(self) -> Dimensions:
        """The value of every symbol of the layer's terms."""
        return self.form.dimensions(self.input_shape)

    @cached_property
    def cost(self) -> Cost:
        """What the call costs by the layer's terms."""
        return layer_cost(self.form, self.input_shape, self.dimensions)

    @cached_property
    def learns(self) -> bool:
        """Whether the layer has parameters, by its own terms."""
        return any(evaluate(self.form.params, self.dimensions).values())

    @property
    def input_learned(self) -> bool | None:
        """Whether the layer's input depends on a parameter; None where that is not known."""
        return getattr(self.input_shape, "learned", None)

    @cached_property
    def output_shape(self) -> FeatureMap:
        """What the layer gives."""
        return FeatureMap(self.form.output_shape(self.input_shape), self.learns or self.input_learned)


@runtime_checkable
class Traced(Protocol):
    """A container that passes shapes on to its parts.

    Handing on the very shapes that ``trace`` takes and returns says which layer reads which map; a container that
    makes up a shape is followed forward, and in training as far as the order tells.
    """

    def trace(self, input_shape: Shape, path: str) -> tuple[Shape, list[Step]]:
        """The output shape and the calls of the costed layers inside, in order of execution."""


def trace(module: nn.Module, input_shape: Shape, path: str = "") -> tuple[Shape, list[Step]]:
    """Follow a shape through a network without running it.

    Args:
        module: a container with ``trace``, or a layer with a closed form.
        input_shape: (B, ...); a ``FeatureMap`` says more of it.
        path: the module's path, which prefixes the paths of its parts.

    Returns:
        The output shape, and every call of a costed layer in order of execution.

    Raises:
        SettingError: for a module without a closed form, or a shape that does not fit, naming the path.
    """
    features = input_shape if isinstance(input_shape, FeatureMap) else FeatureMap(input_shape)
    # asking the class first is cheap, where a module without the method would be searched
    if hasattr(type(module), "trace") and isinstance(module, Traced):
        return _with_origins(features, *module.trace(features, path))
    form = as_costed(module)
    if form is None:
        raise SettingError(f"{path or 'the network'}: {type(module).__name__} has no closed form of its own")
    step = Step(path, module, form, features)
    try:
        # a shape that does not fit is refused here, where the path is known
        step.dimensions  # noqa: B018
        output_shape = step.output_shape
    except SettingError as error:
        raise SettingError(f"{path or type(module).__name__}: {error}") from None
    return output_shape, [step]


def _with_origins(features: FeatureMap, output_shape: Shape, steps: list[Step]) -> tuple[Shape, list[Step]]:
    """What a container's ``trace`` says, and what follows from its input where it made up a shape itself."""
    if features.learned is None:
        return output_shape, steps
    known, learned = list[Step](), features.learned
    for step in steps:
        # before the first layer with parameters there is nothing that a map could depend on
        follows = step.input_learned is None and (features.learned or not learned)
        known.append(replace(step, input_shape=FeatureMap(step.input_shape, features.learned)) if follows else step)
        learned = learned or step.learns
    same = isinstance(output_shape, FeatureMap) and output_shape.learned is learned
    return output_shape if same else FeatureMap(output_shape, learned), known


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
        """The output shape and the calls of the costed layers inside, in order of execution."""
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
        """The output shape and the calls of the costed layers inside, in order of execution.

        Raises:
            SettingError: when body and shortcut end in different shapes.
        """
        kept, steps = input_shape, list[Step]()
        if self.shortcut is not None:
            kept, steps = trace(self.shortcut, input_shape, join(path, "shortcut"))
        added, inner = trace(self.body, input_shape, join(path, "body"))
        if kept != added:
            raise SettingError(f"{path}: body gives {added} but shortcut gives {kept}")
        # the sum is a new map, which depends on all that is inside
        return FeatureMap(added), steps + inner
