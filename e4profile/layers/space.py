"""Cropping maps and summing them up: layers that move no group element and multiply nothing."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from e4profile.errors import SettingError, not_negative
from e4profile.groups import GroupLike
from e4profile.layers.base import Dimensions, FieldLayer, Sample, Shape, check_maps
from e4profile.layers.storages import Step, Timeline, several
from e4profile.symbols import A, B, c_in, h, h_out, is_cropped, w


class SpatialCrop(FieldLayer):
    """Drop ``margin`` pixels on every side.

    Shapes: (B, fields * A, h, w) -> (B, fields * A, h - 2 margin, w - 2 margin).

    Raises:
        SettingError: for sizes that are not positive or a negative margin.
    """

    source = "Romero & Cordonnier 2021, released networks"
    saved = {}
    hands_on_input = True
    peak = Timeline(
        forward=(),
        backward=(
            Step("crop columns, backward", {"gradient of rows": B * c_in * A * h_out * w}, when=is_cropped),
            Step("crop, backward", {"gradient of input": B * c_in * A * h * w}, ("gradient of rows",)),
        ),
    )

    def __init__(self, fields: int, margin: int, *, group: GroupLike) -> None:
        super().__init__()
        self._set_fields(fields, group)
        not_negative(margin=margin)
        self.margin = margin

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A, h, w) -> (B, fields * A, h - 2 margin, w - 2 margin)."""
        rows, columns = features.shape[2:]
        return features[..., self.margin : rows - self.margin, self.margin : columns - self.margin]

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        rows = input_shape[2] - 2 * self.margin
        return {**super().dimensions(input_shape), h_out: rows, is_cropped: int(self.margin > 0)}

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, fields * A, h, w) -> (B, fields * A, h - 2 margin, w - 2 margin).

        Raises:
            SettingError: when nothing is left.
        """
        sizes = check_maps(self, input_shape, self.fields * self.group.order)
        rows, columns = (size - 2 * self.margin for size in sizes)
        if min(rows, columns) < 1:
            raise SettingError(f"margin (={self.margin}) leaves nothing of maps of {input_shape[-2:]} pixels")
        return (*input_shape[:2], rows, columns)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 2, "margin": 1}, (4, 5))
        yield Sample({"fields": 1, "margin": 0}, (3, 2))


class SpatialSum(FieldLayer):
    """The sum of every map.

    Shapes: (B, fields * A, h, w) -> (B, fields * A, 1, 1).

    Raises:
        SettingError: for sizes that are not positive.
    """

    source = "Romero & Cordonnier 2021, released networks"
    saved = {}
    peak = Timeline(
        forward=(Step("sum", {"output": B * c_in * A}),),
        backward=(
            # of a single pixel the gradient is handed on as it is
            Step("spread the gradient", {"gradient of input": B * c_in * A * h * w}, when=several(h * w)),
        ),
    )

    def __init__(self, fields: int, *, group: GroupLike) -> None:
        super().__init__()
        self._set_fields(fields, group)

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A, h, w) -> (B, fields * A, 1, 1)."""
        return features.sum((2, 3), keepdim=True)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, fields * A, h, w) -> (B, fields * A, 1, 1)."""
        check_maps(self, input_shape, self.fields * self.group.order)
        return (*input_shape[:2], 1, 1)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 3}, (4, 5))
