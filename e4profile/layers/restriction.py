"""Fields of a group read as those of a subgroup. Weiler & Cesa 2019, section 2.6.

Under a subgroup H a regular field of G is one regular field for each coset H t, whose element u has what the field has
for u t. So a restriction moves channels and multiplies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from e4profile.groups import Group, GroupLike
from e4profile.groups.names import square_group
from e4profile.layers.base import Dimensions, FieldLayer, Sample, Shape, check_maps
from e4profile.layers.storages import INDEX, Step, Timeline, gathered
from e4profile.symbols import A_in, B, c_in, h, w


class Restriction(FieldLayer):
    """Regular fields of ``of`` as regular fields of its subgroup ``group``, several for each.

    It commutes exactly with the elements of ``group``. The channels of one field of ``of`` stay side by side, so that a
    norm over them still is one over that field.

    Shapes: (B, fields * A_in, h, w) -> the same, where A_in is the order of ``of``.

    Raises:
        SettingError: for sizes that are not positive, or a group that is no subgroup.
    """

    group: Group
    source = "Weiler & Cesa 2019, section 2.6"
    saved_constant = {"index": A_in}
    saved_as = {"index": INDEX}
    peak = Timeline(
        forward=(Step("index", {"index": A_in}), Step("regroup", {"output": B * c_in * A_in * h * w})),
        backward=gathered("input", B * c_in * A_in * h * w, ("index",)),
        units={"index": INDEX},
    )

    def __init__(self, fields: int, *, group: GroupLike, of: GroupLike) -> None:
        super().__init__()
        self._set_fields(fields, square_group(group, "Restriction"))
        self.of = square_group(of, "Restriction")
        self.field_in = f"B (c A) h w of {self.of.name}"
        self._order = [element for coset in self.of.cosets_of(self.group) for element in coset]

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A_in, h, w) -> the same."""
        index = torch.tensor(self._order, device=features.device)
        regrouped: Tensor = features.unflatten(1, (self.fields, self.of.order)).index_select(2, index)
        return regrouped.flatten(1, 2)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        rows, columns = check_maps(self, input_shape, self.fields * self.of.order)
        return {A_in: self.of.order, c_in: self.fields, h: rows, w: columns}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 3, "of": "D4"}, (4, 5), channels=24)
        yield Sample({"fields": 1, "of": "D8"}, (3, 3), channels=16)
