"""One norm over all fields, the group and space. Romero & Cordonnier 2021."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.conventions import GROUP_NORM
from e4profile.errors import positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers.base import Dimensions, EquivariantLayer, Sample, Shape, check_maps
from e4profile.layers.peak import Step, Timeline
from e4profile.symbols import A, B, c_in, h, w


class FieldLayerNorm(EquivariantLayer):
    """Group norm with one group, and one affine pair per field.

    Shapes: (B, fields * A, h, w) -> the same.

    Raises:
        SettingError: for sizes that are not positive.
    """

    source = "Romero & Cordonnier 2021, released networks"
    params = {"weight": c_in, "bias": c_in}
    elements = {"norm": c_in * A * h * w}
    kinds = {"norm": GROUP_NORM}
    saved = {"input": c_in * A * h * w, "statistics": 2}
    peak = Timeline(
        forward=(Step("normalise", {"output": B * c_in * A * h * w, "means": B, "deviations": B}),),
        backward=(
            Step(
                "normalise, backward",
                {"gradient of input": B * c_in * A * h * w, "gradient of weight": c_in, "gradient of bias": c_in},
                ("means", "deviations"),
            ),
        ),
    )

    def __init__(self, fields: int, *, group: GroupLike, eps: float = 1e-12) -> None:
        super().__init__()
        positive(fields=fields)
        self.fields, self.group, self.eps = fields, as_group(group), eps
        self.weight, self.bias = nn.Parameter(torch.ones(fields)), nn.Parameter(torch.zeros(fields))

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A, h, w) -> the same."""
        shape = features.shape
        merged = features.reshape(shape[0], self.fields, self.group.order * shape[2], shape[3])
        return F.group_norm(merged, 1, self.weight, self.bias, self.eps).reshape(shape)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        rows, columns = check_maps(self, input_shape, self.fields * self.group.order)
        return {A: self.group.order, c_in: self.fields, h: rows, w: columns}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 3}, (4, 5))
