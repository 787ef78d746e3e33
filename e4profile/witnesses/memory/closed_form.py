"""Saved for backward by closed form: the layers' tables, and one rule for what they share.

The rule: layers hand feature maps to one another. A layer keeps its input map, its output map or neither, and
whatever else its table names. A feature map is counted once, at the first layer that keeps it; a layer that
hands its input on as a view makes no new map; a sum of two branches makes a new map and keeps nothing. The
network's own input is not counted. Before the first parameter nothing needs a gradient, so nothing is kept.
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
from e4profile.layers.containers import Chain, Residual, join
from e4profile.layers.saved import COMPUTE, INPUT, OUTPUT, unit_bytes
from e4profile.layers.stock import as_costed
from e4profile.layers.terms import Terms, evaluate


@runtime_checkable
class StatesSaved(Costed, Protocol):
    """A closed form with saved tables: see ``e4profile.layers.saved``."""

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
    model: nn.Module, input_shape: Sequence[int], *, dtype: torch.dtype = torch.float32, device: str = "meta"
) -> PredictedSaved:
    """Evaluate the saved terms of every layer of a network and count each feature map once.

    Args:
        model: layers with saved tables, in ``Chain`` and ``Residual``.
        input_shape: of one image, (channels, h, w).
        dtype: of parameters and images.
        device: "cpu", "meta" or "cuda": batch statistics and dropout masks have other dtypes there.

    Raises:
        SettingError: for a part that states no saved terms, naming its path, or a shape that does not fit.
    """
    walk = _Walk(dtype, device)
    image = _Map(math.prod(input_shape), needs_gradient=False, kept=False)
    walk.follow(model, image, (1, *input_shape), "")
    kept_input = image.elements * dtype.itemsize if image.kept else 0
    return PredictedSaved(tuple(walk.layers), kept_input, dtype, device)


@dataclass
class _Map:
    """A feature map on its way: elements of one image, and whether some layer keeps it.

    ``cropped_by`` is the layer that handed on a part of a larger map, as a view.
    """

    elements: int
    needs_gradient: bool
    kept: bool = False
    cropped_by: str = ""


@dataclass
class _Walk:
    dtype: torch.dtype
    device: str
    layers: list[SavedTerms] = field(default_factory=list)

    def follow(self, module: nn.Module, features: _Map, shape: Shape, path: str) -> tuple[_Map, Shape]:
        """The feature map that comes out, and its shape."""
        if isinstance(module, Chain):
            for name, part in zip(module._modules, module, strict=True):
                features, shape = self.follow(part, features, shape, join(path, name))
            return features, shape
        if isinstance(module, Residual):
            return self._follow_residual(module, features, shape, path)
        name = type(module).__name__
        try:
            return self._follow_layer(_stating(module), features, shape, (path, name))
        except SettingError as error:
            raise SettingError(f"{path or name}: {error}") from None

    def _follow_residual(self, module: Residual, features: _Map, shape: Shape, path: str) -> tuple[_Map, Shape]:
        kept = features
        if module.shortcut is not None:
            kept, _ = self.follow(module.shortcut, features, shape, join(path, "shortcut"))
        added, shape = self.follow(module.body, features, shape, join(path, "body"))
        return _Map(added.elements, added.needs_gradient or kept.needs_gradient), shape

    def _follow_layer(
        self, form: StatesSaved, features: _Map, shape: Shape, where: tuple[str, str]
    ) -> tuple[_Map, Shape]:
        values = form.dimensions(shape)
        output_shape = form.output_shape(shape)
        needs_gradient = features.needs_gradient or sum(evaluate(form.params, values).values()) > 0
        output = _Map(math.prod(output_shape[1:]), needs_gradient)
        if form.hands_on_input:
            cropped = output.elements != features.elements
            output = replace(output, cropped_by=where[0] or where[1]) if cropped else features
        if needs_gradient:
            per_image = self._bytes(form, form.saved or {}, values)
            constant = self._bytes(form, form.saved_constant, values)
            shared: dict[str, int] = {}
            for term, kept_map in ((INPUT, features), (OUTPUT, output)):
                if not per_image.get(term):
                    continue
                if kept_map.cropped_by:
                    raise SettingError(
                        f"keeps the part of a map that {kept_map.cropped_by} hands on: whether that is the whole map "
                        "or a copy of the part, no table says"
                    )
                if per_image[term] != kept_map.elements * self.dtype.itemsize:
                    raise SettingError(
                        f"the term {term!r} (={per_image[term]} bytes) is not the feature map "
                        f"(={kept_map.elements} elements of {self.dtype})"
                    )
                if kept_map.kept or not kept_map.needs_gradient:
                    shared[term] = per_image.pop(term)
                kept_map.kept = True
            self.layers.append(SavedTerms(*where, _nonzero(per_image), _nonzero(constant), shared))
        return output, output_shape

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
        raise SettingError(f"{type(module).__name__} states no saved terms")
    return form


def _nonzero(amounts: Mapping[str, int]) -> dict[str, int]:
    return {term: amount for term, amount in amounts.items() if amount}
