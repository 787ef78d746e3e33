"""Pooling over the group: regular fields to invariant maps. Cohen & Welling 2016, section 6 and released code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from e4profile.groups import GroupLike
from e4profile.layers.base import FieldLayer, Sample, Shape, check_maps
from e4profile.layers.storages import FLAG, INDEX, Step, Timeline
from e4profile.layers.terms import Terms
from e4profile.symbols import A, B, c_in, h, w


class _GroupPool(FieldLayer):
    """One map of each field, whatever the group does to it: what the pools share."""

    field_out = "trivial"

    def __init__(self, fields: int, *, group: GroupLike) -> None:
        super().__init__()
        self._set_fields(fields, group)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, fields * A, h, w) -> (B, fields, h, w)."""
        rows, columns = check_maps(self, input_shape, self.fields * self.group.order)
        return (input_shape[0], self.fields, rows, columns)


class GroupMaxPool(_GroupPool):
    """The maximum of each field over the group.

    Shapes: (B, fields * A, h, w) -> (B, fields, h, w).

    Raises:
        SettingError: for sizes that are not positive.
    """

    source = "Cohen & Welling 2016, section 6; He et al. 2021, section 5.1"
    saved = {"input": c_in * A * h * w, "output": c_in * h * w}
    peak = Timeline(
        forward=(Step("maximum", {"output": B * c_in * h * w}),),
        backward=(
            Step("where the maximum is", {"is maximum": B * c_in * A * h * w}),
            Step("how often it is", {"maxima": B * c_in * h * w}),
            Step("share the gradient", {"shares": B * c_in * h * w}),
            Step("maximum, backward", {"gradient of input": B * c_in * A * h * w}, ("is maximum", "maxima", "shares")),
        ),
        units={"is maximum": FLAG, "maxima": INDEX},
    )

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A, h, w) -> (B, fields, h, w)."""
        pooled: Tensor = features.unflatten(1, (self.fields, self.group.order)).amax(2)
        return pooled

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 3}, (4, 5))


class GroupMeanPool(_GroupPool):
    """The mean of each field over the group.

    Shapes: (B, fields * A, h, w) -> (B, fields, h, w).

    Raises:
        SettingError: for sizes that are not positive.
    """

    source = "Cohen & Welling 2016, released code"
    saved: ClassVar[Terms] = {}
    peak = Timeline(
        forward=(Step("mean", {"output": B * c_in * h * w}),),
        backward=(Step("mean, backward", {"gradient of input": B * c_in * A * h * w}),),
    )

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A, h, w) -> (B, fields, h, w)."""
        pooled: Tensor = features.unflatten(1, (self.fields, self.group.order)).mean(2)
        return pooled

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 3}, (4, 5))
