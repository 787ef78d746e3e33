"""Saved for backward by closed form: the layers' tables, and one rule for what they share.

The rule: layers hand feature maps to one another. A layer keeps its input map, its output map or neither, and
whatever else its table names. A feature map is counted once, at the first layer that keeps it; a layer that
hands its input on as a view makes no new map; a sum of two branches makes a new map and keeps nothing. The
network's own input is not counted. Before the first parameter nothing needs a gradient, so no layer keeps anything.
Nothing runs and no tensor is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.layers.base import Costed, Dimensions, EquivariantLayer, Shape
from e4profile.layers.containers import Chain, FeatureMap, Residual, Step, Traced, trace
from e4profile.layers.stock import as_costed
from e4profile.layers.storages import COMPUTE, INPUT, OUTPUT, unit_bytes
from e4profile.layers.terms import Terms, evaluate


@runtime_checkable
class StatesSaved(Costed, Protocol):
    """A closed form with saved tables: see ``e4profile.layers.storages``."""

    @property
    def saved(self) -> Terms | None: ...  # noqa: D102
    @property
    def saved_constant(self) -> Terms: ...  # noqa: D102
    @property
    def saved_as(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def hands_on_input(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class SavedTerms:
    """What one layer keeps for backward.

    Attributes:
        path: dotted module path.
        layer: class name.
        per_image_bytes: by term, of one image.
        constant_bytes: by term, whatever the batch.
        shared_bytes: of one image, by term (``input``, ``output``): feature maps that this layer keeps too,
            counted at an earlier layer or the network's own input.
    """

    path: str
    layer: str
    per_image_bytes: Mapping[str, int]
    constant_bytes: Mapping[str, int]
    shared_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictedSaved:
    """What a network keeps between forward and backward, in training with every parameter trainable.

    Attributes:
        layers: in order of execution.
        input_bytes_per_image: of the network's input where some layer keeps it, else 0; it exists anyway.
        dtype: the compute dtype.
        device: device type that the units hold for.
    """

    layers: tuple[SavedTerms, ...]
    input_bytes_per_image: int
    dtype: torch.dtype
    device: str

    @property
    def per_image_bytes(self) -> int:
        """The growth with every further image."""
        return sum(sum(layer.per_image_bytes.values()) for layer in self.layers)

    @property
    def constant_bytes(self) -> int:
        """What is kept whatever the batch: expanded filters, norm statistics."""
        return sum(sum(layer.constant_bytes.values()) for layer in self.layers)

    def saved_bytes(self, batch_size: int) -> int:
        """The whole of it at a batch size.

        Raises:
            SettingError: when the batch size is not a positive integer.
        """
        positive(batch_size=batch_size)
        return self.constant_bytes + batch_size * self.per_image_bytes


def predict_saved(
    model: nn.Module, input_shape: Sequence[int], *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> PredictedSaved:
    """Evaluate the saved terms of every layer of a network and count each feature map once.

    Args:
        model: layers with saved tables, in ``Chain`` and ``Residual``; another container may keep maps itself.
        input_shape: of one image, (channels, h, w).
        dtype: of parameters and images.
        device: whose kernels are assumed, "cpu" or "cuda": batch statistics and dropout masks have other dtypes there.

    Raises:
        SettingError: for a part that states no saved terms, naming its path, or a shape that does not fit.
    """
    for path, module in model.named_modules():
        if isinstance(module, Traced) and not isinstance(module, Chain | Residual):
            raise SettingError(f"{path or 'the network'}: {_states_nothing(module)}")
    image = FeatureMap((1, *input_shape), learned=False)
    _, steps = trace(model, image)
    given = _Map(math.prod(input_shape), given=True)
    ledger = _Ledger(dtype, device, maps={id(image): given})
    for step in steps:
        # a container that is charged for keeps nothing of its own
        if not isinstance(step.module, Chain):
            ledger.add(step)
    kept_bytes = given.elements * dtype.itemsize if given.kept else 0
    return PredictedSaved(tuple(ledger.layers), kept_bytes, dtype, device)


@dataclass
class _Map:
    """A feature map: elements of one image, whether some layer keeps it, and whether it is the network's own input.

    ``cropped_by`` is the layer that handed on a part of a larger map, as a view.
    """

    elements: int
    kept: bool = False
    given: bool = False
    cropped_by: str = ""


@dataclass
class _Ledger:
    dtype: torch.dtype
    device: str
    layers: list[SavedTerms] = field(default_factory=list)
    maps: dict[int, _Map] = field(default_factory=dict)

    def map_of(self, shape: Shape) -> _Map:
        """What is known of a map; of one that is met for the first time, its size."""
        return self.maps.setdefault(id(shape), _Map(math.prod(shape[1:])))

    def add(self, step: Step) -> None:
        """Write down what one call of a layer keeps.

        Raises:
            SettingError: for a layer that states no saved terms, or tables that do not fit the maps.
        """
        where = (step.path, type(step.module).__name__)
        try:
            self._add(step, _stating(step.module), where)
        except SettingError as error:
            raise SettingError(f"{step.path or where[1]}: {error}") from None

    def _add(self, step: Step, form: StatesSaved, where: tuple[str, str]) -> None:
        values = form.dimensions(step.input_shape)
        features, output = self.map_of(step.input_shape), self.map_of(step.output_shape)
        if form.hands_on_input:
            cropped = output.elements != features.elements
            output = replace(output, cropped_by=where[0] or where[1]) if cropped else features
            self.maps[id(step.output_shape)] = output
        if step.output_shape.learned:
            per_image = self._bytes(form, form.saved or {}, values)
            constant = self._bytes(form, form.saved_constant, values)
            shared: dict[str, int] = {}
            for term, kept_map in ((INPUT, features), (OUTPUT, output)):
                if not per_image.get(term):
                    continue
                if kept_map.cropped_by:
                    raise SettingError(
                        f"keeps the part of a map that {kept_map.cropped_by} passes on: no table states whether "
                        "that is the whole map or a copy of the part"
                    )
                if per_image[term] != kept_map.elements * self.dtype.itemsize:
                    raise SettingError(
                        f"the term {term!r} (={per_image[term]} bytes) is not the feature map "
                        f"(={kept_map.elements} elements of {self.dtype})"
                    )
                if kept_map.kept or kept_map.given:
                    shared[term] = per_image.pop(term)
                kept_map.kept = True
            self.layers.append(SavedTerms(*where, _nonzero(per_image), _nonzero(constant), shared))

    def _bytes(self, form: StatesSaved, terms: Terms, values: Dimensions) -> dict[str, int]:
        return {
            term: amount * unit_bytes(form.saved_as.get(term, COMPUTE), self.dtype, self.device)
            for term, amount in evaluate(terms, values).items()
        }


def _stating(module: nn.Module) -> StatesSaved:
    form = as_costed(module)
    # a subclass may keep other things, so it has to state its own table
    inherited = isinstance(module, EquivariantLayer) and "saved" not in vars(type(module))
    if inherited or not isinstance(form, StatesSaved) or form.saved is None:
        raise SettingError(_states_nothing(module))
    return form


def _states_nothing(module: object) -> str:
    return f"{type(module).__name__} states no saved terms"


def _nonzero(amounts: Mapping[str, int]) -> dict[str, int]:
    return {term: amount for term, amount in amounts.items() if amount}
